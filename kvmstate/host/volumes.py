"""Storage volumes: https://libvirt.org/html/libvirt-libvirt-storage.html"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from errno import ENOENT
from functools import partial
from typing import Any, TypeVar

import libvirt
from lxml import etree

from kvmstate.errors import HostError, NotFound
from kvmstate.host import pools
from kvmstate.host.faults import faults
from kvmstate.host.objects import Pool, Volume
from kvmstate.host.permit import Permit
from kvmstate.xmlbind.document import document

# The most that one message of libvirt's protocol carries (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX)
CHUNK = 262_120
ZEROS = bytes(CHUNK)
# virStorageVolWipeAlgorithm, as virsh calls them
ALGORITHMS = {
    name: getattr(libvirt, f"VIR_STORAGE_VOL_WIPE_ALG_{name.upper()}")
    for name in ("zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim")
}
# How often QEMU is asked again, see `measured`
_MEASURES = 9
# A qcow2 image with any data has at least so many bytes
FRESH = 4 * 65536
# What <compat> calls the version of qcow2 that has bitmaps
QCOW2_V3 = "1.1"

T = TypeVar("T")


def find(pool: Pool, name: str) -> Volume:
    """Find a volume of a pool by its name. Raises NotFound."""
    with faults():
        return Volume(pool.raw.storageVolLookupByName(name))


def xml(volume: Volume) -> str:
    """libvirt looks at the file again. Raises NotFound when it has gone behind libvirt's back."""
    try:
        with faults():
            return str(volume.raw.XMLDesc(0))
    except HostError as error:
        if error.errno == ENOENT:
            raise NotFound(error.message, code=error.code, errno=ENOENT) from error
        raise


def never_written(node: etree._Element) -> bool:
    """Whether nothing has ever been written to a volume that is a file, by its XML: a raw one has no blocks then, and a
    qcow2 image its header and three tables of one cluster (of 64 KiB) each."""
    if node.find("target/format[@type='qcow2']") is not None:
        return int(node.findtext("physical") or FRESH) < FRESH
    return int(node.findtext("allocation") or 1) == 0


def allocated(volume: Volume) -> int:
    """Bytes of storage that it takes by now, also of one that is being made."""
    with faults():
        return int(volume.raw.info()[2])


def at(connection: Any, path: str, pool: str | None) -> str:
    """The XML of the volume at a path, also of one that its pool has not seen yet. Raises NotFound."""
    for again in (True, False):
        try:
            with faults():
                return str(connection.storageVolLookupByPath(path).XMLDesc(0))
        except NotFound:
            if pool is None or not again:
                raise
        # made by QEMU, or behind libvirt's back
        pools.refresh(pools.find(connection, pool))
    raise AssertionError


def place(connection: Any, pool: str, name: str) -> tuple[str, str] | None:
    """The disk type and the path that libvirt makes of a disk of type volume; None where it can make none."""
    with suppress(HostError), faults():
        node = document(connection.storagePoolLookupByName(pool).storageVolLookupByName(name).XMLDesc(0))
        kind = node.get("type", "file")
        return (kind, node.findtext("target/path") or "") if kind in ("file", "block") else None
    return None


def create(pool: Pool, text: str, source: Volume | None = None, preallocated: bool = False) -> Volume:
    """Create a volume, as a full copy of `source` where there is one: libvirt makes it, and keeps the source from being
    deleted meanwhile. Of a qcow2 image the tables are `preallocated`, and all of it where it is allocated as a whole.
    Raises HostError when a volume or file of this name exists, whoever made it."""
    flags = libvirt.VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA if preallocated else 0
    make = partial(_made, pool, text, source, flags)
    try:
        return measured(make)
    except HostError as error:
        if error.code != libvirt.VIR_ERR_STORAGE_VOL_EXIST:
            raise
    # libvirt remembers it, but the file may have been deleted behind its back
    pools.refresh(pool)
    return measured(make)


def _made(pool: Pool, text: str, source: Volume | None, flags: int) -> Volume:
    with faults():
        return Volume(pool.raw.createXMLFrom(text, source.raw, flags) if source else pool.raw.createXML(text, flags))


def measured(encrypt: Callable[[], T]) -> T:
    """QEMU measures how long this processor makes a key of a passphrase, and some versions give up by chance, before
    anything is made: tried again then. Raises HostError."""
    for _ in range(_MEASURES):
        try:
            return encrypt()
        except HostError as error:
            if "accurate CPU usage" not in error.message:
                raise
    return encrypt()


def resize(volume: Volume, capacity: int, permit: Permit, shrinks: bool = False) -> None:
    """Resize a volume that no running domain has open. libvirt refuses to make it smaller, unless it `shrinks`: never
    to less than it takes of its pool."""
    permit.check(volume)
    with faults():
        volume.raw.resize(capacity, libvirt.VIR_STORAGE_VOL_RESIZE_SHRINK if shrinks else 0)


def wipe(volume: Volume, algorithm: str, permit: Permit) -> None:
    """Overwrite all that is in a volume. Of a sparse file libvirt gives the blocks back instead, where the algorithm is
    zero; all others need the program scrub on the host."""
    permit.check(volume)
    with faults():
        volume.raw.wipePattern(ALGORITHMS[algorithm], 0)


def delete(volume: Volume, permit: Permit) -> None:
    permit.check(volume)
    with faults():
        volume.raw.delete(0)


def upload(
    connection: Any,
    volume: Volume,
    chunks: Iterable[bytes | int],
    length: int | None,
    done: Callable[[int], None],
    permit: Permit,
    over: int = 0,
) -> None:
    """Copy `chunks` (each at most CHUNK bytes, or the length of a hole) into the volume; blocks of zeros become holes.

    `length` is None where nobody knows it. What is in the volume already, up to `over`, is written over: there are no
    holes. `done` is told the bytes copied so far. The volume is as long as the content at the end. Raises HostError
    also when the storage was full before all was written, which libvirt does not always say.
    """
    permit.check(volume)
    with faults():
        stream = connection.newStream(0)
        volume.raw.upload(stream, 0, length or 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
        position = data = 0
        try:
            for chunk in _filled(chunks, over):
                size = chunk if isinstance(chunk, int) else len(chunk)
                if isinstance(chunk, int) or (chunk == ZEROS[:size] and position >= over):
                    stream.sendHole(size, 0)
                else:
                    sent = stream.send(chunk)
                    while sent < size:
                        sent += stream.send(chunk[sent:])
                    data += sent
                position += size
                done(position)
            stream.finish()
        except BaseException:
            # it says once more what went wrong
            with suppress(libvirt.libvirtError):
                stream.abort()
            raise
    _check_room(volume, data)


def download(connection: Any, volume: Volume) -> Iterator[bytes | int]:
    """What is in a volume, piece by piece, and the lengths of its holes. Raises HostError."""
    with faults():
        stream = connection.newStream(0)
        volume.raw.download(stream, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
        try:
            while data := stream.recvFlags(CHUNK, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE):
                # it stands before a hole
                yield data if isinstance(data, bytes) else stream.recvHole()
            stream.finish()
        except BaseException:
            with suppress(libvirt.libvirtError):
                stream.abort()
            raise


def _filled(chunks: Iterable[bytes | int], over: int) -> Iterator[bytes | int]:
    """With zeros in place of holes up to `over`."""
    position = 0
    for chunk in chunks:
        hole = chunk if isinstance(chunk, int) else 0
        zeros = max(0, min(hole, over - position))
        yield from (ZEROS[: zeros - at] for at in range(0, zeros, CHUNK))
        if not isinstance(chunk, int):
            yield chunk
        elif hole > zeros:
            yield hole - zeros
        position += hole or len(chunk)  # type: ignore[arg-type]


def _check_room(volume: Volume, data: int) -> None:
    """An error of the last writes is lost when libvirt's daemon is told the end of the stream before it sees the error
    (9.0): what it reports done may lack what did not fit. File systems that compress hold less than was written, but
    then they have room left.
    """
    with faults():
        missing = data - allocated(volume)
        if missing <= 0:
            return
        pool = Pool(volume.raw.storagePoolLookupByVolume())
    pools.refresh(pool)
    if pools.space(pool)[1] < missing:
        raise HostError(
            f"{volume.path}: not all of the content has been written, and the storage is full",
            "free some space, then apply again",
        )
