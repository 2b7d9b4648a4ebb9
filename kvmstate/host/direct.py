"""Writing to a volume's file past libvirt, where this process sees the very file that libvirt does.

A socket's path proves nothing, as a daemon may have mounts of its own, or be on another machine that the socket is
forwarded to. So a file counts as the volume's when a time that is set on it here is what libvirt tells of the volume.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from kvmstate.errors import HostError
from kvmstate.host import pools, volumes
from kvmstate.host.identity import nanoseconds
from kvmstate.host.objects import Pool, Volume
from kvmstate.host.permit import Permit
from kvmstate.host.sight import Sight
from kvmstate.host.volumes import ZEROS
from kvmstate.xmlbind.document import document

# ioctl_ficlone(2)
_FICLONE = 0x40049409


class Direct:
    """The file of a volume, open to be written."""

    def __init__(self, volume: Volume, number: int, permit: Permit, image: bool) -> None:
        self._volume, self.number = volume, number
        self._least = 0 if image else os.fstat(number).st_size
        permit.check(volume)

    def clone(self, source: int) -> bool:
        """Have the file share the blocks of another one, whole. Returns whether its file system can do that."""
        try:
            self._empty()
            fcntl.ioctl(self.number, _FICLONE, source)
        except OSError:
            return False
        return True

    def write(self, chunks: Iterable[bytes | int], done: Callable[[], object], reserved: bool = False) -> None:
        """Write `chunks`, the bytes or the lengths of holes, in place of all that it holds; zeros become holes.
        One that is `reserved` holds zeros, in blocks that it keeps. Raises HostError when there is no room."""
        position = 0
        with self._told():
            if not reserved:
                self._empty()
        for chunk in chunks:
            size = chunk if isinstance(chunk, int) else len(chunk)
            if not isinstance(chunk, int) and chunk != ZEROS[:size]:
                written = 0
                with self._told():
                    while written < size:
                        written += os.pwrite(self.number, chunk[written:] if written else chunk, position + written)
            position += size
            done()
        with self._told():
            os.ftruncate(self.number, max(position, os.fstat(self.number).st_size))

    def _empty(self) -> None:
        """Not where it has nothing: ext4 would write all that comes at once to the disk, when it is closed."""
        if os.fstat(self.number).st_blocks:
            os.ftruncate(self.number, 0)

    def finish(self) -> None:
        """Make it as long as it was, where it is shorter: whole sectors. Have it on the disk before the record says
        that it is whole. Raises HostError: some file systems find only now that they are full."""
        with self._told():
            os.ftruncate(self.number, max(self._least, os.fstat(self.number).st_size))
            os.fdatasync(self.number)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong here is the volume's, and not its source's."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise HostError(
                f"{self._volume.path}: {error.strerror}{': the storage is full' if full else ''}",
                "free some space, then apply again" if full else "apply again",
            ) from error


@contextmanager
def opened(sight: Sight, pool: Pool, volume: Volume, permit: Permit, image: bool) -> Iterator[Direct | None]:
    """The volume's file, to be written in place of all that it holds; None where this process does not see it. One for
    an `image` holds tables that libvirt has written."""
    number = next(_seen(sight, volume), None)
    if number is None:
        yield None
        return
    try:
        file = Direct(volume, number, permit, image)
        yield file
        file.finish()
    finally:
        os.close(number)
        # libvirt looks at once, as it does after what it has written itself
        pools.refreshed(pool)


def _seen(sight: Sight, volume: Volume) -> Iterator[int]:
    node = document(volumes.xml(volume))
    if node.get("type", "file") != "file":
        return
    changed = nanoseconds(node.findtext("target/timestamps/ctime") or "0")
    for way in sight.ways(node.findtext("target/path") or "/") if changed else ():
        with suppress(OSError):
            number = os.open(way, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            if _is_it(number, volume, changed):
                yield number
                return
            os.close(number)


def _is_it(number: int, volume: Volume, changed: int) -> bool:
    """Whether a file of this machine, which looks like the volume's, is it."""
    known = os.fstat(number)
    if not stat.S_ISREG(known.st_mode) or known.st_nlink != 1 or known.st_ctime_ns != changed:
        return False
    # of no meaning to anybody, and never the time of another file
    mark = known.st_mtime_ns - secrets.randbelow(10**9)
    with suppress(OSError):
        os.utime(number, ns=(known.st_atime_ns, mark))
        told = document(volumes.xml(volume)).findtext("target/timestamps/mtime") or "0"
        if nanoseconds(told) == mark:
            return True
        os.utime(number, ns=(known.st_atime_ns, known.st_mtime_ns))
    return False
