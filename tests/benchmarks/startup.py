"""How quickly commands that talk to no host answer: `python tests/benchmarks/startup.py [RUNS]` prints a table.

Times are the best of RUNS (default 10) whole processes, which a busy machine disturbs least; the ratios compare with
what Python, and libvirt's binding that every plan needs, cost by themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
# an installed package has its bytecode, and the first run makes it here
ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
KVMSTATE = "from kvmstate.cli import main; main()"
# milliseconds, where there is a limit
ROWS: list[tuple[str, list[str], int | None]] = [
    ("python -c pass", ["pass"], None),
    ("import libvirt", ["import libvirt"], None),
    ("kvmstate --version", [KVMSTATE, "--version"], 150),
    ("kvmstate --help", [KVMSTATE, "--help"], 400),
    ("kvmstate validate FILE", [KVMSTATE, "validate", "manifests/networks.yaml"], 400),
    ("kvmstate validate FOLDER", [KVMSTATE, "validate", "manifests"], None),
]


def milliseconds(words: list[str], runs: int) -> float:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", *words], cwd=ROOT, env=ENV, check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - start) * 1000

    return min(once() for _ in range(runs))


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    times = {name: milliseconds(words, runs) for name, words, _ in ROWS}
    python, libvirt = times["python -c pass"], times["import libvirt"]
    print(f"{'':26}{'ms':>6}{'limit':>8}{'x python':>11}{'x import libvirt':>19}")
    for name, _, limit in ROWS:
        took = times[name]
        print(f"{name:26}{took:6.0f}{limit or '':>8}{took / python:11.1f}{took / libvirt:19.1f}")
    return int(any(limit is not None and times[name] > limit for name, _, limit in ROWS))


if __name__ == "__main__":
    sys.exit(main())
