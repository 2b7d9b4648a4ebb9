"""The interfaces that a host has a configuration of: bridges, VLANs, bonds and cards.

libvirt has a driver for them, which can define any where it was built with netcf. Most distributions build it without,
and it only tells then what there is. Whoever else configures the host has a driver of its own here, which speaks
libvirt's XML as well: https://libvirt.org/formatinterface.html
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import libvirt

from kvmstate.errors import HostError, NotFound, Reverted
from kvmstate.host import way_back
from kvmstate.host.connection import Host, once
from kvmstate.host.faults import described, faults
from kvmstate.host.kernel_links import Link
from kvmstate.host.network_manager import NetworkManager
from kvmstate.host.objects import HostInterface
from kvmstate.host.on_host import runner
from kvmstate.host.permit import Configuration, Permit

# a host has one transaction at a time
_ONE = threading.Lock()


class Driver(Protocol):
    """Who configures a host's interfaces. What is done between `begin` and `commit` is taken back by `roll_back`."""

    title: str

    def all(self) -> list[HostInterface]: ...

    def find(self, name: str) -> HostInterface:
        """Find one by its name. Raises NotFound."""

    def apply(self, text: str, over: HostInterface | None, up: bool) -> None:
        """Define an interface, and bring it up so, or down. `over`: there is one of its name."""

    def remove(self, each: HostInterface, permit: Permit) -> None:
        """Take it down, and its configuration away."""

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def roll_back(self) -> str:
        """Bring back all that was there at `begin`. The answer tells people so."""


class Libvirt:
    """libvirt's own driver."""

    title = "libvirt's interface driver"

    def __init__(self, connection: Any) -> None:
        self._raw = connection
        self._up: list[str] = []

    def all(self) -> list[HostInterface]:
        with faults():
            return [HostInterface(raw) for raw in self._raw.listAllInterfaces(0)]

    def find(self, name: str) -> HostInterface:
        with faults():
            return HostInterface(self._raw.interfaceLookupByName(name))

    def apply(self, text: str, over: HostInterface | None, up: bool) -> None:
        if over and over.active:
            # as it is configured yet: it may be of other ports
            with faults():
                over.raw.destroy(0)
        with faults():
            defined = self._raw.interfaceDefineXML(text, 0)
            if up:
                defined.create(0)

    def remove(self, each: HostInterface, permit: Permit) -> None:
        permit.check(each)
        if each.active:
            with faults():
                each.raw.destroy(0)
        with faults():
            each.raw.undefine()

    def begin(self) -> None:
        self._up = [each.name for each in self.all() if each.active]
        with faults():
            self._raw.changeBegin(0)

    def commit(self) -> None:
        with faults():
            self._raw.changeCommit(0)

    def roll_back(self) -> str:
        with faults():
            self._raw.changeRollback(0)
        # configurations are what a transaction is of
        for each in self.all():
            if each.name in self._up and not each.active:
                with faults():
                    each.raw.create(0)
        return "libvirt has brought the host's interfaces back as they were"


@once
def driver(host: Host) -> Driver | None:
    """Who configures this host's interfaces; None where nobody does that kvmstate knows and reaches."""
    if _can_define(host.raw):
        return Libvirt(host.raw)
    if run := runner(host):
        from kvmstate.host.netplan import Netplan  # it loads YAML, which few hosts need here

        # the first: NetworkManager may run beside it, for other devices
        for known in (Netplan, NetworkManager):
            if known.runs(run):
                return known(run)
    return None


def _can_define(connection: Any) -> bool:
    """Whether libvirt's driver takes definitions: one that does refuses this one for what it says."""
    try:
        connection.interfaceDefineXML("<interface/>", 0)
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() == libvirt.VIR_ERR_XML_ERROR)
    return False


def lacking(host: Host) -> tuple[str, str]:
    """Why there is no driver, and what to do."""
    why = "libvirt on this host defines no interfaces"
    if (run := runner(host)) is None:
        return f"{why}, and nothing else there is reached", "run kvmstate on that host, or connect by ssh (qemu+ssh://)"
    if run("id", "-u").strip() != "0":
        return f"{why}, and all else there is for root", "run kvmstate there as root, or connect by ssh as root"
    hint = "install and start NetworkManager there (package network-manager), or netplan with systemd-networkd"
    return f"{why}, and neither NetworkManager nor netplan configures them", hint


def carrying(host: Host) -> tuple[list[Link], set[str]]:
    """The links of the host's kernel, and those of them that whoever is logged in came in by; none where nobody can
    look."""
    with suppress(HostError):
        if run := runner(host):
            found = way_back.links(run)
            return found, way_back.carrying(found, way_back.session(run))
    return [], set()


def all_interfaces(host: Host) -> list[HostInterface]:
    found = driver(host)
    return found.all() if found else []


def named(host: Host, names: Collection[str]) -> list[HostInterface]:
    """Those of these names that exist."""
    return [each for each in all_interfaces(host) if each.name in names] if names else []


def find(host: Host, name: str) -> HostInterface:
    """Find an interface by its name. Raises NotFound."""
    if (found := driver(host)) is None:
        raise NotFound(f"this host has no configuration of {name} that could be seen")
    return found.find(name)


def xml(each: HostInterface) -> str:
    """What is configured. Where the driver tells only what is up, that."""
    return described(each.raw, libvirt.VIR_INTERFACE_XML_INACTIVE)


def configuration(each: HostInterface) -> Configuration[HostInterface]:
    """What is configured, to be edited for `redefine`."""
    return Configuration(each, xml(each), xml)


def redefine(host: Host, before: Configuration[HostInterface], text: str, up: bool) -> None:
    """Configure an interface otherwise, and bring it up so, or down. Raises Changed when it is no longer what `before`
    says, of which `text` was made."""
    before.check()
    _driver(host).apply(text, before.thing, up)


def define(host: Host, text: str, up: bool) -> None:
    """Configure one that is not there, and bring it up."""
    _driver(host).apply(text, None, up)


def undefine(host: Host, each: HostInterface, permit: Permit) -> None:
    """Take an interface down, and its configuration away."""
    _driver(host).remove(each, permit)


def _driver(host: Host) -> Driver:
    found = driver(host)
    assert found is not None
    return found


@contextmanager
def transaction(host: Host) -> Iterator[None]:
    """What is done inside is kept when all of it was done and the host is reached again after it, by a connection of
    its own; else all is brought back as it was. Raises Reverted then."""
    found, run = _driver(host), runner(host)
    came = way_back.Session()
    with suppress(HostError):
        # who cannot log in beside libvirt, as ssh asks for a password, is not looked for
        came = way_back.session(run) if run else came
    with _ONE:
        found.begin()
        try:
            yield
            host.reach_again()
            if run:
                way_back.check(run, came)
            found.commit()
        except HostError as error:
            raise _reverted(found, error) from error
        except BaseException:
            found.roll_back()
            raise


def _reverted(found: Driver, error: HostError) -> HostError:
    try:
        told = found.roll_back()
    except HostError as failure:
        said = f"{error.message}; bringing back the host's interfaces failed, too: {failure.message}"
        return type(error)(said, failure.hint or error.hint, error.code)
    return Reverted(f"{error.message}; {told}", error.hint, error.code)
