"""What libvirt tells of changes, as they happen: https://libvirt.org/html/libvirt-libvirt-event.html

Events do not tell everything (volumes have none, and no event comes for `virsh setmem --config` or `autostart` of an
inactive domain), so they say where to look, and when, and no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import libvirt

from kvmstate.errors import ConnectionFailed
from kvmstate.host.connection import is_local
from kvmstate.host.faults import unreachable
from kvmstate.host.liveness import CONNECT_TIMEOUT, in_time
from kvmstate.host.objects import Secret
from kvmstate.model.resource import ResourceId
from kvmstate.model.uri import redacted

# libvirt's keepalive, which does on a connection that nobody waits on: every so many seconds, and so often without an
# answer until the connection is given up
KEEPALIVE = (10, 3)
# In the order of virDomainEventType, virNetworkEventLifecycleType, virStoragePoolEventLifecycleType and
# virSecretEventLifecycleType
_WORDS = {
    "domain": (
        ["defined", "undefined", "started", "suspended", "resumed", "stopped", "shutdown", "pmsuspended", "crashed"],
        {5: ["shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from-snapshot"]},
    ),
    "network": (["defined", "undefined", "started", "stopped"], {}),
    "pool": (["defined", "undefined", "started", "stopped", "created", "deleted"], {}),
    "secret": (["defined", "undefined"], {}),
}
# Of a domain, beside its lifecycle: what changes its live configuration, or tells that it may have changed
_DOMAIN_EVENTS = {
    "DEVICE_ADDED": "device added",
    "DEVICE_REMOVED": "device removed",
    "DEVICE_REMOVAL_FAILED": "device removal failed",
    "TUNABLE": "tunable changed",
    "BALLOON_CHANGE": "balloon changed",
    "MEMORY_DEVICE_SIZE_CHANGE": "memory device changed",
    "METADATA_CHANGE": "metadata changed",
    "AGENT_LIFECYCLE": "agent",
    "DISK_CHANGE": "medium changed",
    "TRAY_CHANGE": "tray moved",
    "BLOCK_JOB_2": "block job",
}


@dataclass(frozen=True)
class Heard:
    """`what` happened to an object; a secret's name is its usage name."""

    id: ResourceId
    what: str


class Events:
    """A connection that hears events until it is closed, or lost.

    `told` and `lost` are called from libvirt's event thread, and must not take long, nor call libvirt.
    """

    def __init__(self, uri: str, told: Callable[[Heard], None], lost: Callable[[], None]) -> None:
        """Raises ConnectionFailed."""
        _run_loop()
        self._told = told
        timeout = CONNECT_TIMEOUT["local" if is_local(uri) else "remote"]
        try:
            self._connection = in_time(lambda: libvirt.open(uri), timeout)
        except libvirt.libvirtError as error:
            raise unreachable(uri, error) from error
        except TimeoutError:
            raise ConnectionFailed(f"cannot connect to {redacted(uri)}: no answer within {timeout:g} s") from None
        # drivers inside this process have neither
        with suppress(libvirt.libvirtError):
            self._connection.setKeepAlive(*KEEPALIVE)
        with suppress(libvirt.libvirtError):
            self._connection.registerCloseCallback(lambda connection, reason, opaque: lost(), None)
        try:
            self._register()
        except libvirt.libvirtError as error:
            self.close()
            raise unreachable(uri, error) from error

    def close(self) -> None:
        # one that is lost is closed
        with suppress(libvirt.libvirtError):
            self._connection.unregisterCloseCallback()
        with suppress(libvirt.libvirtError):
            self._connection.close()

    def _register(self) -> None:
        connection = self._connection
        for kind, register, number in (
            ("domain", connection.domainEventRegisterAny, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE),
            ("network", connection.networkEventRegisterAny, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE),
            ("pool", connection.storagePoolEventRegisterAny, libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE),
            ("secret", connection.secretEventRegisterAny, libvirt.VIR_SECRET_EVENT_ID_LIFECYCLE),
        ):
            _if_supported(register, None, number, self._lifecycle, kind)
        for name, what in _DOMAIN_EVENTS.items():
            event = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}")
            _if_supported(connection.domainEventRegisterAny, None, event, self._something, ("domain", what))
        for kind, what, register, number in (
            ("pool", "refreshed", connection.storagePoolEventRegisterAny, libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH),
            ("secret", "changed", connection.secretEventRegisterAny, libvirt.VIR_SECRET_EVENT_ID_VALUE_CHANGED),
        ):
            _if_supported(register, None, number, self._something, (kind, what))

    def _lifecycle(self, connection: Any, thing: Any, event: int, detail: int, kind: str) -> None:
        words, details = _WORDS[kind]
        what = _word(words, event)
        self._told(Heard(_id(kind, thing), f"{what} ({_word(details[event], detail)})" if event in details else what))

    def _something(self, connection: Any, thing: Any, *rest: Any) -> None:
        kind, what = rest[-1]
        self._told(Heard(_id(kind, thing), what))


def _id(kind: str, thing: Any) -> ResourceId:
    return ResourceId(kind, Secret(thing).name if kind == Secret.type else str(thing.name()))


def _word(words: list[str], number: int) -> str:
    return words[number] if number < len(words) else f"event {number}"


def _if_supported(register: Callable[..., Any], *args: Any) -> None:
    try:
        register(*args)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG):
            raise


_loop = threading.Lock()
_running = False


def _run_loop() -> None:
    """libvirt's own event loop, in a thread, once for the process: it must be there before a connection is opened."""
    global _running
    with _loop:
        if not _running:
            libvirt.registerErrorHandler(lambda *_: None, None)
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=_spin, name="libvirt-events", daemon=True).start()
            _running = True


def _spin() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
