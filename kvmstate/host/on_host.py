"""Commands on a host: by the login that libvirt goes by, or in the place of a daemon that runs on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import ssh
from kvmstate.host.kernel_links import entering, way_in

if TYPE_CHECKING:
    from kvmstate.host.connection import Host

# What a command says on its standard output, and is `given` on its standard input. Raises HostError for one that fails,
# ConnectionFailed where the host is not reached
Run = Callable[..., str]
_SECONDS = 20
# ssh's own failures; https://man.openbsd.org/ssh#EXIT_STATUS
_UNREACHED = 255


def runner(host: Host) -> Run | None:
    """None where nobody but libvirt leads to the host."""
    if ssh.is_ssh(host.address):
        login = ssh.unattended(host.address, "-o", f"ConnectTimeout={_SECONDS // 2}")
        return lambda *words, given="": _run([*login, f"LC_ALL=C {shlex.join(words)}"], given, remote=True)
    if (found := way_in(host, _inside)) is None:
        return None
    _, inside = found
    return lambda *words, given="": _run([*inside, *words], given)


def _inside(pid: int) -> list[str]:
    """The beginning of a command that sees the files and the network of this process. Raises OSError."""
    kinds = {"net": "--net", "mnt": "--mount"}
    try:
        others = [
            option
            for kind, option in kinds.items()
            if not os.path.samefile(f"/proc/{pid}/ns/{kind}", f"/proc/self/ns/{kind}")
        ]
    except PermissionError:
        # who is not root enters nothing, and may be in the same ones
        if not entering(pid) and _mounts(pid) == _mounts("self"):
            return []
        raise
    return ["nsenter", f"--target={pid}", *others] if others else []


def _mounts(pid: int | str) -> str:
    return Path(f"/proc/{pid}/mountinfo").read_text()


def _run(words: list[str], given: str, remote: bool = False) -> str:
    try:
        done = subprocess.run(
            words,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise ConnectionFailed(
            f"no answer within {_SECONDS} s to {words[-1] if remote else shlex.join(words)}"
        ) from None
    except OSError as error:
        raise HostError(f"{words[0]}: {error.strerror}") from error
    if remote and done.returncode == _UNREACHED:
        raise ConnectionFailed(f"the host is not reached by ssh: {done.stderr.strip()}")
    if done.returncode:
        raise HostError((done.stderr or done.stdout).strip() or f"{words[0]} failed with exit code {done.returncode}")
    return done.stdout
