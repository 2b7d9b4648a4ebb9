"""Storage pools: https://libvirt.org/html/libvirt-libvirt-storage.html"""

from __future__ import annotations

import time
from contextlib import suppress
from errno import ENOENT
from typing import Any

import libvirt

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host.faults import described, faults


def all_pools(connection: Any) -> list[Any]:
    with faults():
        return list(connection.listAllStoragePools(0))


def xml(pool: Any, inactive: bool = True) -> str:
    return described(pool, libvirt.VIR_STORAGE_XML_INACTIVE if inactive else 0)


def find(connection: Any, name: str) -> Any:
    """Raises NotFound."""
    with faults():
        return connection.storagePoolLookupByName(name)


def define(connection: Any, text: str) -> Any:
    with faults():
        return connection.storagePoolDefineXML(text, 0)


def start(pool: Any, makes_folder: bool = False, permissions: bool = False) -> None:
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
    except HostError as error:
        if not makes_folder or (error.errno != ENOENT and _NO_MOUNT_POINT not in error.message):
            raise
        _build(pool)
        _create(pool)


# mount(8)'s words, which libvirt runs without a locale
_NO_MOUNT_POINT = "mount point does not exist"


def _build(pool: Any) -> None:
    with faults():
        if not pool.isActive():
            pool.build(0)


def _create(pool: Any) -> None:
    with faults():
        if not pool.isActive():
            pool.create(0)


def stop(pool: Any) -> None:
    """libvirt calls it destroy; the volumes stay as they are."""
    with faults():
        if pool.isActive():
            pool.destroy()


def set_autostart(pool: Any, value: bool) -> None:
    with faults():
        pool.setAutostart(int(value))


def undefine(pool: Any) -> None:
    """Forget the pool. Its folder and volumes stay."""
    stop(pool)
    with faults():
        pool.undefine()


def refresh(pool: Any, timeout: float = 30) -> None:
    """Have libvirt look at the folder anew; it refuses while a volume is being made or filled, so wait."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with faults():
                pool.refresh(0)
            return
        except HostError as error:
            # "pool '…' has asynchronous jobs running" has no code of its own, and is in the daemon's language
            busy = error.code == libvirt.VIR_ERR_INTERNAL_ERROR and pool.name() in error.message
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def volumes(pool: Any) -> list[Any]:
    """Those that libvirt knows of; none for a pool that is not active."""
    with faults():
        return list(pool.listAllVolumes(0)) if pool.isActive() else []


def space(pool: Any) -> tuple[int, int]:
    """Capacity and what is available of it, in bytes; the pool must be active."""
    # libvirt counts when it looks at the folder; what it counted before has to do while a volume is being filled
    with suppress(HostError):
        refresh(pool, timeout=0)
    with faults():
        _, capacity, _, available = pool.info()
    return int(capacity), int(available)
