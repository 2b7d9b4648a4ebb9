"""A look at a host's files past libvirt, which tells no inode and no time of birth."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from itertools import islice
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from kvmstate.host import ssh

_AT_FDCWD, _BASIC_AND_BIRTH = -100, 0x7FF | 0x800
# Of struct statx: the inode's number, and the seconds and nanoseconds of its birth, its change and the last writing
_INODE = struct.Struct("=32xQ40xqI4xqI4xqI")
_ANSWER_SECONDS = 20
# An image's header ends within its first cluster, which is at most so long, and mostly at once
_HEADER = 65536
# So many bytes, up to the last of its incompatible features
_FEATURES = 80
# What is looked at of a device: labels, superblocks and their copies are at its beginning and its end
_ENDS = 1 << 20
# So many questions fit into a pipe while nobody reads the answers
_AT_ONCE = 50


@dataclass(frozen=True)
class Inode:
    """What a kernel knows of a file; times are in ns since 1970, `born` is 0 where the file system keeps none."""

    number: int
    born: int
    changed: int
    written: int

    def __str__(self) -> str:
        return f"inode:{self.number}:{self.born}"


@dataclass(frozen=True)
class Device:
    """Whether the beginning and the end of a block device are zeros, and whether the kernel uses it, such as for a file
    system that is mounted or a volume group that is active."""

    blank: bool
    busy: bool


class Sight(Protocol):
    """`near`: a look costs next to nothing."""

    near: bool

    def inode(self, path: str) -> list[Inode]:
        """The files that the path may lead to; which of them is the host's is proven by the time of its change."""

    def inodes(self, paths: Collection[str]) -> dict[str, list[Inode]]:
        """The same of many paths at once."""

    def data_file(self, path: str) -> str:
        """The path of the external data file that a qcow2 image names, which libvirt does not tell; empty where there
        is none, or it cannot be told."""

    def device(self, path: str) -> Device | None:
        """How a block device is; None where nobody can tell, or there is none."""

    def ways(self, path: str) -> list[str]:
        """The names by which this process may open a file of the host's; which of them leads to it is to be
        proven."""

    def lacking(self, programs: Collection[str]) -> list[str] | None:
        """The programs that who logs in to the host by ssh cannot run there; None where nobody answers."""

    def daemons(self) -> set[int]:
        """Processes of this machine that work for libvirt there; none where it is another machine."""

    def close(self) -> None: ...


class Blind:
    """Nothing but libvirt leads to the host."""

    near = True

    def inode(self, path: str) -> list[Inode]:
        return []

    def inodes(self, paths: Collection[str]) -> dict[str, list[Inode]]:
        return {path: self.inode(path) for path in paths}

    def data_file(self, path: str) -> str:
        return ""

    def device(self, path: str) -> Device | None:
        return None

    def ways(self, path: str) -> list[str]:
        return []

    def lacking(self, programs: Collection[str]) -> list[str] | None:
        return None

    def daemons(self) -> set[int]:
        return set()

    def close(self) -> None:
        pass


class Local(Blind):
    """The files of this machine, as the daemons see them that this process is connected to: they may have mounts of
    their own. `address` is the host's: of a socket of its own no other daemon counts."""

    def __init__(self, address: str = "") -> None:
        self._socket = parse_qs(urlsplit(address).query).get("socket", [""])[0]

    def daemons(self) -> set[int]:
        return _peers(self._socket)

    @cached_property
    def _roots(self) -> list[str]:
        return ["", *(f"/proc/{pid}/root" for pid in sorted(self.daemons()))]

    def ways(self, path: str) -> list[str]:
        return [root + path for root in self._roots]

    def inode(self, path: str) -> list[Inode]:
        found = []
        for way in self.ways(path):
            with suppress(OSError):
                found.append(statx(way))
        return found

    def device(self, path: str) -> Device | None:
        seen = [found for root in self._roots if (found := _look_at_device(root + path))]
        return Device(all(each.blank for each in seen), any(each.busy for each in seen)) if seen else None

    def data_file(self, path: str) -> str:
        for root in self._roots:
            # what is not a file is not waited for
            with (
                suppress(OSError, struct.error),
                open(os.open(root + path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file,
            ):
                if found := _data_file(file.read(_HEADER)):
                    return found
        return ""


def _look_at_device(path: str) -> Device | None:
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(number, "rb") as file:
        if not stat.S_ISBLK(os.fstat(number).st_mode):
            return None
        size = file.seek(0, os.SEEK_END)
        blank = size > 0
        for start in (0, max(0, size - _ENDS)):
            file.seek(start)
            blank = blank and not file.read(_ENDS).strip(b"\0")
    try:
        # what is mounted, or claimed otherwise, cannot be claimed
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError:
        return Device(blank, True)
    return Device(blank, False)


def _data_file(header: bytes) -> str:
    """See QEMU's docs/interop/qcow2.txt: bit 2 of the incompatible features, and the header extension DATA."""
    magic, version = struct.unpack_from(">4sI", header)
    if magic != b"QFI\xfb" or version < 3 or not struct.unpack_from(">Q", header, 72)[0] & 4:
        return ""
    (at,) = struct.unpack_from(">I", header, 100)
    while True:
        kind, length = struct.unpack_from(">4sI", header, at)
        if kind == b"DATA":
            return os.fsdecode(header[at + 8 : at + 8 + length])
        if kind == bytes(4):
            return ""
        at += 8 + -(-length // 8) * 8


def _peers(path: str) -> set[int]:
    """The processes that listen on the named sockets which this one has open; on the socket of this `path`, where there
    is one."""
    found = set()
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as each:
                    if each.family == socket.AF_UNIX and (name := each.getpeername()):
                        pid = struct.unpack("3i", each.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
                        found |= {pid} if not path or _listens(pid, os.fsdecode(name), path) else set()
    return found - {0}


def _listens(pid: int, name: str, path: str) -> bool:
    """Whether what a process calls `name` is the socket at this path: it may have mounts of its own. Where that is not
    to be seen, it may be."""
    try:
        return os.path.samefile(f"/proc/{pid}/root{name}", path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        # one that has gone, or has no place in the file system
        return False


class Ssh(Blind):
    """The files of a host that libvirt reaches by ssh, through the same command, which is started with the first look
    and asks for no password."""

    near = False

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._shell: subprocess.Popen[str] | None = None
        self._tried = False

    def inode(self, path: str) -> list[Inode]:
        return self.inodes([path])[path]

    def inodes(self, paths: Collection[str]) -> dict[str, list[Inode]]:
        found: dict[str, list[Inode]] = {path: [] for path in paths}
        with self._lock, suppress(OSError, ValueError):
            shell = self._opened() if paths else None
            asked = iter(found)
            while some := [*islice(asked, _AT_ONCE)]:
                look = [f"stat -L -c '%i|%w|%z|%y' -- {shlex.quote(path)} 2>/dev/null || echo -" for path in some]
                for path, said in zip(some, self._say(shell, look) if shell else (), strict=False):
                    if said not in ("", "-"):
                        number, *times = said.split("|")
                        found[path] = [Inode(int(number), *map(_ns, times))]
        return found

    def data_file(self, path: str) -> str:
        """What is not a file, and no block device with an image, is not waited for."""
        with self._lock, suppress(OSError, ValueError, struct.error):
            if shell := self._opened():
                name = shlex.quote(path)
                shown = f"od -An -v -tx1 -N {{}} -- {name} 2>/dev/null | tr -d ' \\n'"
                # few images have any: most are told by the beginning of their header
                many = f"case $({shown.format(_FEATURES)}) in 514649fb*[4567cdef]) {shown.format(_HEADER)};; esac"
                [said] = self._say(shell, [f"{{ test -f {name} || test -b {name}; }} && {many}; echo"])
                return _data_file(bytes.fromhex(said))
        return ""

    def device(self, path: str) -> Device | None:
        with self._lock, suppress(OSError, ValueError):
            if shell := self._opened():
                name = shlex.quote(path)
                ends = f"{{ head -c {_ENDS} -- {name} && tail -c {_ENDS} -- {name} || echo unread; }} 2>/dev/null"
                first = f"{ends} | tr -d '\\000' | head -c 1 | wc -c"
                # a partition counts when it is mounted, or has something on it
                uses = f"lsblk -nro TYPE,MOUNTPOINT -- {name} || echo unknown"
                used = f"{{ {uses}; }} 2>/dev/null | grep -cvE '^(disk|part|loop|rom) *$'"
                [said] = self._say(shell, [f"test -b {name} && echo $({first}) $({used}) || echo"])
                if said:
                    unequal, busy = map(int, said.split())
                    return Device(not unequal, bool(busy))
        return None

    def lacking(self, programs: Collection[str]) -> list[str] | None:
        with self._lock, suppress(OSError, ValueError):
            if shell := self._opened():
                said = self._say(shell, [f"command -v {shlex.quote(each)} || echo -" for each in programs])
                if all(said):
                    return [each for each, path in zip(programs, said, strict=True) if path == "-"]
        return None

    def close(self) -> None:
        if self._shell:
            self._shell.kill()
            self._shell.communicate()
            self._shell = None

    def _start(self) -> subprocess.Popen[str]:
        words = ssh.unattended(self._address)
        return subprocess.Popen(
            [*words, "LC_ALL=C TZ=UTC exec sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def _opened(self) -> subprocess.Popen[str] | None:
        if not self._tried:
            self._tried = True
            self._shell = self._start()
        return self._shell

    def _say(self, shell: subprocess.Popen[str], commands: Collection[str]) -> list[str]:
        """The line that each command answers with."""
        assert shell.stdin
        assert shell.stdout
        # one that does not answer is ended, which ends the wait
        timer = threading.Timer(_ANSWER_SECONDS, shell.kill)
        timer.start()
        try:
            for command in commands:
                shell.stdin.write(f"{command}\n")
            shell.stdin.flush()
            return [shell.stdout.readline().strip() for _ in commands]
        finally:
            timer.cancel()


def _ns(text: str) -> int:
    """Of `2026-11-28 13:28:51.834088135 +0000`, as GNU's stat says a time; `-` is none."""
    if text == "-":
        return 0
    seconds, _, rest = text.partition(".")
    at = datetime.fromisoformat(f"{seconds}+00:00")
    return int(at.timestamp()) * 10**9 + int(rest.partition(" ")[0].ljust(9, "0"))


@cache
def _ctypes() -> tuple[Any, Any]:
    """It takes time to load, and so does the C library that it gives."""
    import ctypes

    return ctypes, ctypes.CDLL(None, use_errno=True)


def statx(path: str) -> Inode:
    """Read an inode by statx(2), which Python has no call for. Raises OSError."""
    ctypes, libc = _ctypes()
    buffer = ctypes.create_string_buffer(256)
    if libc.statx(_AT_FDCWD, os.fsencode(path), 0, _BASIC_AND_BIRTH, buffer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    inode, *times = _INODE.unpack_from(buffer)
    return Inode(inode, *(seconds * 10**9 + ns for seconds, ns in zip(times[::2], times[1::2], strict=True)))
