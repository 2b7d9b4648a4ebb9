"""Where hosts live: their folders, which of them are alive, and sweeping up after the dead."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kvmstate.errors import SandboxError
from kvmstate.pids import this_machine

SCRIPT = Path(__file__).with_name("host.sh")
# In a host's folder: where its pid means something
WHERE = "where"

# 108 bytes are the limit of a unix socket's path; the folder and the socket's own name take up to 65
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?", re.IGNORECASE)


@dataclass(frozen=True)
class Sandbox:
    """A private libvirt host; `pid` is its pid 1 as seen from outside."""

    name: str
    directory: Path
    pid: int
    started: int = 0
    """When pid was started, in clock ticks since boot: tells a later process of that number apart."""

    @property
    def socket(self) -> Path:
        return self.directory / "run" / "libvirt" / "libvirt-sock"

    @property
    def uri(self) -> str:
        """The connection URI, for kvmstate, virsh and all else that speaks libvirt."""
        return f"qemu+unix:///system?socket={quote(str(self.socket))}"

    @property
    def is_running(self) -> bool:
        return _start_time(self.pid) == self.started


def base() -> Path:
    """The folder of all hosts of this user."""
    return Path(f"/var/tmp/kvmstate-sandbox-{os.getuid()}")


def folder(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise SandboxError(
            f"a sandbox cannot be called {name!r}",
            "a name has up to 40 letters, digits, dots and dashes, neither dot nor dash at its ends",
        )
    return base() / name


def find(name: str = "default") -> Sandbox:
    """The running host of this name; SandboxError when there is none."""
    if sandbox := read(folder(name)):
        return sandbox
    others = ", ".join(other.name for other in running())
    hint = f"running: {others}" if others else f"start it: kvmstate sandbox start {name}"
    raise SandboxError(f"no sandbox {name!r} is running", hint)


def running() -> list[Sandbox]:
    """All hosts of this user that run, by name. What dead ones left behind is removed."""
    if not base().exists():
        return []
    with locked():
        return sweep()


def read(directory: Path) -> Sandbox | None:
    """The host that lives in a folder, if it is alive."""
    try:
        pid, started = map(int, (directory / "pid").read_text().split())
    except (OSError, ValueError):
        return None
    if _is_elsewhere(directory):
        return None
    sandbox = Sandbox(directory.name, directory, pid, started)
    return sandbox if sandbox.is_running else None


@contextmanager
def locked() -> Iterator[None]:
    """Hold the lock under which folders come and go, so that nobody sweeps up a host that is being born."""
    path = base()
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    # /var/tmp is everybody's: another user may have been here first, to read or to redirect
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SandboxError(f"{path} is not a private folder of this user", "remove it")
    with open(path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_elsewhere(directory: Path) -> bool:
    """Whether it may be of a host that runs, whose pid is another process' here, or none's: /var/tmp may be a
    container's as well."""
    try:
        said = (directory / WHERE).read_text()
    except OSError:
        return False
    here = this_machine()
    return said != here and said.partition("/")[0] == here.partition("/")[0]


def sweep() -> list[Sandbox]:
    """Remove the folders of dead hosts; return the living. The caller holds the lock."""
    alive = []
    for directory in sorted(path for path in base().iterdir() if path.is_dir()):
        if sandbox := read(directory):
            alive.append(sandbox)
        elif not _is_elsewhere(directory):
            remove(directory)
    return alive


def remove(directory: Path) -> None:
    """Delete a dead host's folder (an ordinary user needs the script for what subordinate users own)."""
    done = subprocess.run(["bash", SCRIPT, "remove", directory], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"cannot remove {directory}: {done.stderr.strip()}", "remove it by hand")


def _start_time(pid: int) -> int:
    """The start time of a process, in ticks; 0 when there is none or it is only a zombie."""
    try:
        # the second field, the command in brackets, may hold spaces and brackets of its own
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
