"""The command line on hostile input: in a process of its own, which may take so much time and memory and no more."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness import ROOT, Run
from prepared import execute

SECONDS = 20.0
# Of address space, which is more than what is used: Python and its libraries alone map some 300 MiB
MEMORY = 1 << 30


def bounded(*args: str, cwd: Path, seconds: float = SECONDS, stdin: bytes = b"", **env: str) -> Run:
    """Run it. Fails when it takes too long, ends by a signal, or says that it met a bug."""

    started = time.monotonic()
    given = {**os.environ, "PYTHONPATH": str(ROOT), "KVMSTATE_ALLOW_PATH": "", **env}
    done = execute(*args, cwd=cwd, env=given, stdin=stdin, timeout=seconds * 2, memory=MEMORY)
    took = time.monotonic() - started
    run = Run(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    assert took < seconds, f"{took:.1f} s\n{run}"
    assert run.code in (0, 1, 2), run
    assert "bug in kvmstate" not in run.err + run.out, run
    assert "Traceback" not in run.err, run
    return run
