"""What of a machine's XML libvirt brings back by itself: found by trying, so that imported manifests need not say it.

A document without it is defined under another name, read, and undefined: what comes back otherwise than it was stays.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, domains
from kvmstate.host.connection import once
from kvmstate.kinds.virtual_machine.devices.base import drop
from kvmstate.kinds.virtual_machine.spec import DEVICES
from kvmstate.xmlbind import document, meaning, to_text
from kvmstate.xmlbind.path import parse_path

# https://libvirt.org/formatdomain.html: attributes and elements that have a value where nobody gave one
_COMPLETED = (
    "vcpu/@placement",
    "os/type/@arch",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "devices/emulator",
    "cpu/@check",
    "cpu/@match",
    "cpu/@migratable",
    "cpu/topology/@dies",
    "cpu/topology/@clusters",
    "clock/@adjustment",
    "clock/@basis",
    "iothreadids",
    "genid",
)
_COMPLETED_DEVICES = (
    "devices/video/model/@primary",
    "devices/video/model/@heads",
    "devices/video/model/@ram",
    "devices/video/model/@vram",
    "devices/video/model/@vgamem",
    "devices/video/model/@vram64",
    "devices/memballoon[@model='virtio']",
    "devices/watchdog[@model='itco']",
    "devices/audio[@type='none']",
    "devices/audio[@type='spice']",
    "devices/input[@bus='ps2']",
    "devices/tpm/backend/@version",
    "devices/hostdev/driver[@name='vfio']",
    "devices/filesystem/@accessmode",
    "devices/interface/target/@managed",
    "devices/console/target/@port",
    "devices/disk/target/@tray",
    "devices/serial/target/model",
    "devices/channel/source/@mode",
    "devices/controller/pcihole64/@unit",
    "devices/graphics[@type='vnc']/@socket",
)
_UNORDERED = ("controller", "input")
Change = Callable[[etree._Element], None]
# A path, a UUID, a MAC address
_OWN = re.compile(r"(?<=[\">])/[^\"<]*|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def reduced(host: Host, whole: etree._Element) -> etree._Element | None:
    """`whole`, a machine's document, without what libvirt brings back; None where it cannot be asked, or makes
    something else of its own words. Machines that differ in what is theirs alone, such as their names and MAC
    addresses, are tried once."""
    _tidy(host)
    known, trial = _known(host), _Trial(host)
    if (shape := _shape(whole)) not in known:
        known[shape] = trial.ways(whole)
    ways, repaired = known[shape]
    if ways is None:
        return None
    bare = _without(whole, ways)
    return trial.repaired(whole, bare) if repaired else bare


@once
def _known(host: Host) -> dict[str, tuple[tuple[Change, ...] | None, bool]]:
    return {}


@once
def _tidy(host: Host) -> None:
    domains.remove_trials(host.connection)


def _shape(whole: etree._Element) -> str:
    return _OWN.sub("*", to_text(whole).replace(f">{whole.findtext('name')}<", ">*<"))


def _meant(node: etree._Element) -> object:
    """What it says, whatever the order of what libvirt puts in an order of its own: each says where it is."""
    node = copy.deepcopy(node)
    if (devices := node.find("devices")) is not None:
        devices[:] = sorted(devices, key=lambda each: etree.tostring(each) if each.tag in _UNORDERED else b"")
    return meaning(node)


class _Trial:
    def __init__(self, host: Host) -> None:
        self.host = host

    def ways(self, whole: etree._Element) -> tuple[tuple[Change, ...] | None, bool]:
        """How to leave out of it what comes back, and whether devices are to be `repaired` then."""
        target = _meant(whole)

        def fits(part: etree._Element | None) -> bool:
            try:
                return part is not None and bool(_meant(self.made(part)) == target)
            except ConnectionFailed:
                raise
            except HostError:
                return False

        # libvirt adds controllers to a new machine, which it has in another order when it reads them again
        if fits(_without(whole, _ALL_LIBVIRTS)):
            return _ALL_LIBVIRTS, False
        if whole.find("devices/controller[@model='pcie-to-pci-bridge']") is not None and fits(
            _without(whole, _BRIDGED)
        ):
            return _BRIDGED, False
        if not fits(whole):
            return None, False
        bare = _without(whole, _WAYS)
        if fits(bare):
            return _WAYS, False
        if fits(self.repaired(whole, bare)):
            return _WAYS, True
        kept, part = tuple[Change, ...](), whole
        for way in _one_by_one(whole):
            less = _without(part, (way,))
            if meaning(less) != meaning(part) and fits(less):
                kept, part = (*kept, way), less
        return kept, False

    def repaired(self, whole: etree._Element, bare: etree._Element) -> etree._Element | None:
        """Put devices that come back as others in as they were; None where that is not how it is."""
        part = copy.deepcopy(bare)
        for _ in range(4):
            try:
                made = self.made(part)
            except ConnectionFailed:
                raise
            except HostError:
                return None
            changed = False
            for tag in {str(child.tag) for child in part.iterfind("devices/*")}:
                here, there, was = (root.findall(f"devices/{tag}") for root in (part, made, whole))
                if tag == "controller" or not len(here) == len(there) == len(was):
                    continue
                for mine, found, old in zip(here, there, was, strict=True):
                    if meaning(found) != meaning(old) and meaning(mine) != meaning(old):
                        mine.getparent().replace(mine, copy.deepcopy(old))  # type: ignore[union-attr]
                        changed = True
            if not changed:
                return part
        return part

    def made(self, node: etree._Element) -> etree._Element:
        """Have libvirt define it so, and give what it shows then."""
        name, own = node.findtext("name") or "", node.findtext("uuid") or ""
        other, new = domains.trial_name(), str(uuid.uuid4())
        asked = document(to_text(node).replace(own, new) if own else to_text(node))
        parse_path("name").set(asked, other)
        if not own:
            parse_path("uuid").set(asked, new)
        text = domains.tried(self.host.connection, to_text(asked)).replace(other, name)
        return document(text.replace(new, own) if own else text)


def _without(whole: etree._Element, ways: Iterable[Change]) -> etree._Element:
    part = copy.deepcopy(whole)
    for way in ways:
        way(part)
    return part


def _one_by_one(whole: etree._Element) -> Iterator[Change]:
    """All that may come back of a machine, the large before the small."""
    yield from _WAYS[: _WAYS.index(_ports)]
    for tag in dict.fromkeys(str(device.tag) for device in whole.iterfind("devices/*")):
        yield _paths(f"devices/{tag}/address")
    yield from (_no_ports, _bridge, _ports, _controllers)
    yield from map(_controllers_of, ("pci", "usb", "virtio-serial", "scsi", "sata", "ide", "fdc"))
    for controller in reversed(whole.findall("devices/controller")):
        for path in (".", "address", "target", "model"):
            yield _of_controller(_place(controller), path)
    yield _unnumbered


def _place(controller: etree._Element) -> tuple[str | None, ...]:
    """By which libvirt knows it from others."""
    master = controller.find("master")
    return controller.get("type"), controller.get("index"), None if master is None else master.get("startport")


def _of_controller(place: tuple[str | None, ...], path: str) -> Change:
    def leave_out(node: etree._Element) -> None:
        found = node.findall("devices/controller")
        ports = any(each.get("model") == "pcie-root-port" and not len(each) for each in found)
        for controller in found:
            # a new machine with ports of which only the number counts has their root
            if _place(controller) == place and not (ports and path == "." and controller.get("model") == "pcie-root"):
                drop(controller) if path == "." else _leave_out(controller, path)

    return leave_out


def _unnumbered(node: etree._Element) -> None:
    """Ports of which only the number counts, where no other PCI controller is named."""
    found = node.findall("devices/controller[@type='pci']")
    if all(_is_port(each) and not len(each) for each in found):
        for each in found:
            each.attrib.pop("index", "")


def _paths(*paths: str) -> Change:
    def leave_out(node: etree._Element) -> None:
        for path in paths:
            _leave_out(node, path)

    return leave_out


def _leave_out(node: etree._Element, text: str) -> None:
    path = parse_path(text)
    for found in path.find_all(node):
        if path.attribute:
            found.attrib.pop(path.attribute, "")
        else:
            drop(found)


def _bare(node: etree._Element) -> None:
    """Elements that say nothing any more."""
    for path in ("clock", "os/boot", "iothreadids"):
        for found in parse_path(path).find_all(node):
            if not (len(found) or found.attrib):
                drop(found)
    utc_clock(node)


def utc_clock(node: etree._Element) -> None:
    """The clock that a machine has where nobody says one."""
    clock = node.find("clock")
    if clock is not None and not len(clock) and clock.items() == [("offset", "utc")]:
        drop(clock)


def _boot(node: etree._Element) -> None:
    if [boot.get("dev") for boot in node.findall("os/boot")] == ["hd"]:
        _leave_out(node, "os/boot")


def _cpu(node: etree._Element) -> None:
    """QEMU's own, of an emulated machine."""
    found = node.find("cpu")
    if found is not None and node.get("type") == "qemu" and [each.tag for each in found] in (["model"], []):
        drop(found)


def omitted(node: etree._Element) -> None:
    """What devices say of themselves that libvirt adds to them."""
    for alias, b in DEVICES.bindings.items():
        if b.path.find(node) is not None:
            # it may be the first one of its kind
            DEVICES[alias][1].omit(node)


def _listens(node: etree._Element) -> None:
    for listen in node.findall("devices/graphics/listen[@type='address']"):
        if len(listen.attrib) == 1:
            drop(listen)


def _addresses(node: etree._Element) -> None:
    for place in node.findall("devices/*/address"):
        drop(place)


def _ports(node: etree._Element) -> None:
    """PCIe ports of which only the number counts, before all but the first USB controllers, as in a new machine; beside
    PCI controllers that are named, they have numbers."""
    devices = node.find("devices")
    if devices is None:
        return
    found = devices.findall("controller")
    usb = [*takewhile(lambda each: each.get("type") == "usb", (c for c in found if c.get("type") != "pci"))]
    ports = [each for each in found if _is_port(each)]
    named = any(each.get("type") == "pci" and each not in ports for each in found)
    front = []
    for port in ports:
        said = ("type", "index", "model") if named else ("type", "model")
        front.append(etree.Element("controller", {name: port.get(name, "") for name in said}))
    for controller in (*usb, *ports):
        drop(controller)
    devices[:0] = [*usb, *sorted(front, key=lambda each: each.get("model", ""))]


def _is_port(controller: etree._Element) -> bool:
    return controller.get("model") in ("pcie-root", "pcie-root-port") and controller.find("pcihole64") is None


def _no_ports(node: etree._Element) -> None:
    """As many PCIe ports as libvirt gives it by itself, and a bridge where it adds one."""
    for controller in node.findall("devices/controller[@type='pci']"):
        if _is_port(controller) or _is_plain_bridge(controller):
            drop(controller)


def _is_plain_bridge(controller: etree._Element) -> bool:
    """Whether it is as libvirt adds it for devices of conventional PCI."""
    return controller.get("model") == "pcie-to-pci-bridge" and [each.tag for each in controller] == ["model"]


def _bridge(node: etree._Element) -> None:
    """The bridge that libvirt adds for devices of conventional PCI, and the ports behind those that a machine was made
    with."""
    found = node.findall("devices/controller")
    models = [controller.get("model") for controller in found]
    first = next((n for n, model in enumerate(models) if model == "pcie-root"), len(found))
    made_with = takewhile(lambda n: models[n] == "pcie-root-port", range(first + 1, len(found)))
    own = {first, *made_with}
    for n, controller in enumerate(found):
        added = controller.get("model") == "pcie-root-port" and n not in own
        if added or _is_plain_bridge(controller):
            drop(controller)
    _ports(node)


def _controllers(node: etree._Element) -> None:
    companions = node.find("devices/controller/master") is not None
    for controller in node.findall("devices/controller"):
        if companions and controller.get("type") == "usb":
            continue
        said = {*controller.attrib} - {"type", "index", "model"} or len(controller)
        if not said and controller.get("model") not in ("pcie-root", "pcie-root-port"):
            drop(controller)


def _controllers_of(kind: str) -> Change:
    """Those of one type: the others stand in an order that libvirt would not have them in."""

    def leave_out(node: etree._Element) -> None:
        others = node.findall("devices/controller")
        alone = copy.deepcopy(node)
        _controllers(alone)
        kept = {(each.get("type"), each.get("index")) for each in alone.iterfind("devices/controller")}
        for each in others:
            if each.get("type") == kind and (kind, each.get("index")) not in kept:
                drop(each)

    return leave_out


_WAYS: tuple[Change, ...] = (
    omitted,
    _cpu,
    *map(_paths, _COMPLETED),
    *map(_paths, _COMPLETED_DEVICES),
    _listens,
    _boot,
    _bare,
    _addresses,
    _ports,
    _controllers,
)
_BRIDGED = tuple(_bridge if way is _ports else way for way in _WAYS)
_ALL_LIBVIRTS = tuple(_no_ports if way is _ports else way for way in _WAYS)
