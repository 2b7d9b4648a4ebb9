"""Storage pools: https://libvirt.org/html/libvirt-libvirt-storage.html"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from contextlib import suppress
from errno import ENOENT
from secrets import token_hex
from typing import Any

import libvirt
from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError, NotFound, Unseen
from kvmstate.host.faults import described, faults
from kvmstate.host.objects import Pool, Volume
from kvmstate.host.permit import Configuration, Permit
from kvmstate.xmlbind.document import document, to_text

# So many are looked up one by one; for more it is quicker to list all
FEW = 5
# How pools are called that are started to look into a folder, see `look`
LOOK = "kvmstate-look-"
# A look that is older than this is that of a run that was killed
_LOOK_SECONDS = 60


def all_pools(connection: Any) -> list[Pool]:
    with faults():
        return [pool for raw in connection.listAllStoragePools(0) if not (pool := Pool(raw)).name.startswith(LOOK)]


def xml(pool: Pool, inactive: bool = True) -> str:
    return described(pool.raw, libvirt.VIR_STORAGE_XML_INACTIVE if inactive else 0)


def find(connection: Any, name: str) -> Pool:
    """Find a pool by its name. Raises NotFound."""
    with faults():
        return Pool(connection.storagePoolLookupByName(name))


def named(connection: Any, names: Collection[str]) -> list[Pool]:
    """Those of these names that exist."""
    if len(names) > FEW:
        return [pool for pool in all_pools(connection) if pool.name in names]
    found = []
    for name in names:
        with suppress(NotFound):
            found.append(find(connection, name))
    return found


def configuration(pool: Pool) -> Configuration[Pool]:
    """What is defined, to be edited for `redefine`."""
    return Configuration(pool, _lasting(pool), _lasting)


def _lasting(pool: Pool) -> str:
    """Without how full it is at the moment."""
    return re.sub(r"<(capacity|allocation|available)\b.*?</\1>", "", xml(pool))


def redefine(before: Configuration[Pool], text: str) -> Pool:
    """Define a pool otherwise. Raises Changed when it is no longer what `before` says, from which `text` was made."""
    before.check()
    return define(before.thing.connection, text)


def define(connection: Any, text: str) -> Pool:
    """Define a pool that is not there: libvirt refuses the name of one that is, with another UUID."""
    with faults():
        return Pool(connection.storagePoolDefineXML(text, 0))


def start(pool: Pool, makes_folder: bool = False, permissions: bool = False) -> None:
    """Start, and build nothing: what libvirt's build does to pools of most types is to format.

    `makes_folder`: all that it makes is a folder, where there is none. One that exists is left as it is, unless it
    shall get the pool's `permissions`.
    """
    if permissions and makes_folder:
        _build(pool)
    try:
        _create(pool)
    except ConnectionFailed:
        raise
    except HostError:
        # mount.nfs, mount.cifs and others each have words of their own for it
        if not makes_folder or not _lacks_folder(pool):
            raise
        _build(pool)
        _create(pool)


def _lacks_folder(pool: Pool) -> bool:
    """Whether it is certain that there is none."""
    try:
        stop(look(pool.raw.connect(), document(xml(pool)).findtext("target/path") or ""))
    except NotFound:
        return True
    except HostError:
        pass
    return False


def _build(pool: Pool) -> None:
    """Make its folder: asked only for types of which libvirt makes no more."""
    with faults():
        if not pool.raw.isActive():
            pool.raw.build(0)


def build(pool: Pool, permit: Permit, overwrite: bool) -> None:
    """Make what the pool is on: a file system, a label, a volume group. Without `overwrite` libvirt itself refuses a
    device on which it finds something."""
    permit.check(pool)
    flag = libvirt.VIR_STORAGE_POOL_BUILD_OVERWRITE if overwrite else libvirt.VIR_STORAGE_POOL_BUILD_NO_OVERWRITE
    with faults():
        pool.raw.build(flag)


def delete(pool: Pool, permit: Permit) -> None:
    """Delete what the pool is on, such as its folder, or its volume group. It must be stopped, and have had no
    volumes."""
    permit.check(pool)
    with faults():
        pool.raw.delete(libvirt.VIR_STORAGE_POOL_DELETE_NORMAL)


def lacks_folder(pool: Pool) -> bool:
    """Whether it is certain that there is no folder for it yet."""
    return _lacks_folder(pool)


def _create(pool: Pool) -> None:
    with faults():
        if not pool.raw.isActive():
            pool.raw.create(0)


def stop(pool: Pool) -> None:
    """libvirt calls it destroy; the volumes stay as they are."""
    with faults():
        if pool.raw.isActive():
            pool.raw.destroy()


def set_autostart(pool: Pool, value: bool) -> None:
    with faults():
        pool.raw.setAutostart(int(value))


def undefine(pool: Pool, permit: Permit) -> None:
    """Forget the pool. Its folder and volumes stay."""
    permit.check(pool)
    with faults():
        ran = pool.raw.isActive()
    stop(pool)
    try:
        # stopping takes its time
        permit.check(pool)
    except HostError:
        if ran:
            start(pool)
        raise
    with faults():
        pool.raw.undefine()


def refresh(pool: Pool, timeout: float = 30) -> None:
    """Have libvirt look at the folder again; it refuses while a volume is being made or filled, so wait."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with faults():
                pool.raw.refresh(0)
            return
        except HostError as error:
            # "pool '…' has asynchronous jobs running" has no code of its own, and is in the daemon's language
            busy = error.code == libvirt.VIR_ERR_INTERNAL_ERROR and pool.name in error.message
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def refreshed(pool: Pool) -> bool:
    """Whether libvirt has looked at the folder again: not of a pool that is not active, or being filled."""
    try:
        refresh(pool, timeout=2)
    except ConnectionFailed:
        raise
    except HostError:
        return False
    return True


def volumes(pool: Pool) -> list[Volume]:
    """Those that libvirt knows of; none for a pool that is not active, or has gone."""
    with suppress(NotFound, Unseen):
        return listed(pool)
    return []


def sources(connection: Any, type_: str, server: str = "") -> list[etree._Element]:
    """The <source> elements of what the host, or a server, has for pools of a type. Raises HostError where libvirt
    cannot look for these."""
    told = None
    if server:
        told = etree.Element("source")
        etree.SubElement(told, "host", name=server)
    with faults():
        found = connection.findStoragePoolSources(type_, to_text(told) if told is not None else None, 0)
    return [*document(found).iterfind("source")] if found else []


def listed(pool: Pool, names: Collection[str] | None = None) -> list[Volume]:
    """The volumes that libvirt knows of, all or of these names. Raises Unseen for a pool that is not active, NotFound
    for one that has gone."""
    with faults():
        if not pool.raw.isActive():
            raise Unseen(f"storage pool {pool.name} is not active", f"start it: `virsh pool-start {pool.name}`")
        if names is None or len(names) > FEW:
            found = [Volume(raw) for raw in pool.raw.listAllVolumes(0)]
            return found if names is None else [volume for volume in found if volume.name in names]
    found = []
    for name in names:
        with suppress(NotFound), faults():
            found.append(Volume(pool.raw.storageVolLookupByName(name)))
    return found


def space(pool: Pool) -> tuple[int, int]:
    """Capacity and what is available of it, in bytes; the pool must be active."""
    # libvirt counts when it looks at the folder; what it counted before has to do while a volume is being filled
    with suppress(HostError):
        refresh(pool, timeout=0)
    with faults():
        _, capacity, _, available = pool.raw.info()
    return int(capacity), int(available)


def look(connection: Any, folder: str) -> Pool:
    """Start a pool over a folder, to list what is in it. It is not defined, builds nothing, and is gone when it is
    stopped. Raises NotFound when there is no such folder, HostError when libvirt may not look there."""
    _end_old_looks(connection)
    root = etree.Element("pool", type="dir")
    etree.SubElement(root, "name").text = f"{LOOK}{int(time.time())}-{token_hex(4)}"
    # libvirt takes one pool for each spelling of a folder: this one is nobody else's
    dots = "/." * (1 + int(token_hex(1), 16))
    etree.SubElement(etree.SubElement(root, "target"), "path").text = folder.rstrip("/") + dots
    with faults():
        try:
            return Pool(connection.storagePoolCreateXML(to_text(root), 0))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == ENOENT:
                raise NotFound(error.get_error_message()) from error
            raise


def _end_old_looks(connection: Any) -> None:
    with faults():
        for pool in map(Pool, connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT)):
            began = pool.name.removeprefix(LOOK).partition("-")[0] if pool.name.startswith(LOOK) else ""
            if began.isdecimal() and time.time() - int(began) > _LOOK_SECONDS:
                with suppress(libvirt.libvirtError):
                    pool.raw.destroy()
