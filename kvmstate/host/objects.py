"""libvirt's objects as the rest of kvmstate knows them: what they are called, and how they are.

All else is done by the functions of `host`, which alone use what libvirt-python has made (`raw`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, NewType

from kvmstate.host.faults import faults

# libvirt-python's virConnect, which only `host` calls
Connection = NewType("Connection", object)


def secret_name(usage: str) -> str:
    """The name of a secret for this usage: what no name has, such as the slashes of a path, as %2F."""
    return "".join(f"%{ord(each):02X}" if each in "/%" or each < " " or each == "\x7f" else each for each in usage)


class Handle:
    """An object of a host, as of when it was looked up. What is asked of it is asked of libvirt, but for what never
    changes. Raises HostError, and NotFound when it has gone."""

    type: ClassVar[str]
    # what people call one, if not so
    word: ClassVar[str] = ""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @cached_property
    def name(self) -> str:
        """libvirt-python keeps it: no call."""
        return str(self.raw.name())

    @cached_property
    def uuid(self) -> str:
        return str(self.raw.UUIDString())

    @property
    def active(self) -> bool:
        with faults():
            return bool(self.raw.isActive())

    @property
    def persistent(self) -> bool:
        """Whether it has a configuration that stays when it stops."""
        with faults():
            return bool(self.raw.isPersistent())

    @property
    def autostart(self) -> bool:
        with faults():
            return bool(self.raw.autostart())

    @property
    def connection(self) -> Connection:
        return Connection(self.raw.connect())


class Domain(Handle):
    """https://libvirt.org/html/libvirt-libvirt-domain.html"""

    type = "domain"
    word = "virtual machine"


class Network(Handle):
    """https://libvirt.org/html/libvirt-libvirt-network.html"""

    type = "network"


class NetworkFilter(Handle):
    """https://libvirt.org/html/libvirt-libvirt-nwfilter.html"""

    type = "nwfilter"
    word = "network filter"


class HostInterface(Handle):
    """https://libvirt.org/html/libvirt-libvirt-interface.html

    It has no UUID: a host has one of a name. `raw` is libvirt's, or what another driver has of that kind, see
    `kvmstate.host.host_interfaces`.
    """

    type = "interface"
    word = "host interface"
    uuid = ""


class Pool(Handle):
    """https://libvirt.org/html/libvirt-libvirt-storage.html"""

    type = "pool"
    word = "storage pool"


class Volume(Handle):
    """It has no UUID, and is there as long as its pool is active."""

    type = "volume"

    @cached_property
    def key(self) -> str:
        return str(self.raw.key())

    @property
    def path(self) -> str:
        with faults():
            return str(self.raw.path())


class Secret(Handle):
    """https://libvirt.org/html/libvirt-libvirt-secret.html

    libvirt gives it no name: it is called by what it is for (its usage's ID), and by its UUID without that.
    """

    type = "secret"

    @cached_property
    def name(self) -> str:
        usage = self.raw.usageID() if self.raw.usageType() else ""
        return secret_name(str(usage)) if usage else self.uuid


class Snapshot(Handle):
    """https://libvirt.org/html/libvirt-libvirt-domain-snapshot.html"""

    type = "snapshot"

    @cached_property
    def name(self) -> str:
        return str(self.raw.getName())


WORDS = {each.type: each.word or each.type for each in Handle.__subclasses__()}
