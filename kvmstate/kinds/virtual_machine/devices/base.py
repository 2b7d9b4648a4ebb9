"""What every device can say of itself, and what the machine asks of all of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Unpack, cast

from lxml import etree
from pydantic import Field

from kvmstate.kind import Claim, Fault
from kvmstate.kinds.virtual_machine.devices.address import ADDRESS, PATTERN
from kvmstate.kinds.virtual_machine.devices.plug import PLUG
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Binding, Element, Later, Section, bindings, xml, xml_list
from kvmstate.xmlbind.codecs import same_case
from kvmstate.xmlbind.document import read
from kvmstate.xmlbind.fields import Place
from kvmstate.xmlbind.path import parse_path

# Devices are told apart by libvirt's user aliases, which must start with ua-
# (https://libvirt.org/formatdomain.html#devices); those made without one, by what libvirt knows them by.
DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=60, description="Unique in this machine.")]


# https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
LOADPARM = "^[a-zA-Z0-9. ]{1,8}$"


@dataclass(frozen=True)
class Owner:
    """Whose devices they are: names are derived from it."""

    project: str
    machine: str


class Device(Section):
    """An element below <devices>.

    `tag` is its name there (plug.py says what it costs to attach or detach one), and `key` the field that tells several
    apart (without one, their place does). One that changes in a running machine is exchanged in what its fields say,
    and in its `swaps`: children that go with any of that; what libvirt has `chosen` for it, elements by their paths,
    stays.
    `volatile` are XPaths, from its element, of what a running machine's XML says again with every start.
    """

    bare = True
    tag: ClassVar[str]
    key: ClassVar[str] = "name"
    swaps: ClassVar[tuple[str, ...]] = ()
    chosen: ClassVar[tuple[str, ...]] = ()
    volatile: ClassVar[tuple[str, ...]] = ()

    address: str | None = xml(
        ".",
        ADDRESS,
        same=same_case,
        lasting=True,
        pattern=PATTERN,
        doc="Where it is on its bus, such as pci:0000:00:03.0 or drive:0:0:0:1. Default: libvirt's choice.",
    )

    acpi_index: int | None = xml(
        "acpi/@index", ge=1, le=16383, doc="By which the guest's system may name it; PCI only."
    )

    @classmethod
    def completed(cls, wanted: Sequence[object], seen: Sequence[object], owner: Owner) -> Sequence[object]:
        """The devices with what is derived for them, such as names, of those that the machine has (`seen`)."""
        return wanted

    def faults(self, machine: Any, at: tuple[str | int, ...]) -> Iterable[Fault]:
        """What does not go with the rest of the machine's spec; `at` is the device's path in it."""
        return ()

    def claims(self, machine: Any, at: tuple[str | int, ...]) -> Iterable[Claim]:
        """What no device of another machine of the project may have as well."""
        return ()

    @classmethod
    def settle(cls, root: etree._Element) -> None:
        """Take out of a machine's XML what depended on devices that were changed, for libvirt to choose again."""

    @classmethod
    def left(cls, root: etree._Element) -> None:
        """Give back in a machine's XML what others have had of one that its manifest no longer names."""

    @classmethod
    def omit(cls, root: etree._Element) -> None:
        """Take out of a machine's XML what libvirt adds again of its own accord."""


def device(section: type[Device], **told: Unpack[Place]) -> Any:
    """Declare the field of a device that a machine has one of."""
    told["whole"] = True
    return xml(f"devices/{section.tag}", **_cost(section), **told)


def devices(section: type[Device], **told: Unpack[Place]) -> Any:
    """Declare the field of devices that a machine may have several of; without a key, it may be written as one."""
    path = f"devices/{section.tag}"
    told["whole"] = True
    return xml_list(path, key=section.key, one_or_more=not section.key, **_cost(section), **told)


def _cost(section: type[Device]) -> Any:
    plug = PLUG.get(section.tag)
    return {"effect": plug} if plug else {}


class Devices(Mapping[str, tuple[Binding, type[Device]]]):
    """Hold, by manifest spelling, the fields of a spec for devices, and what these are. Looking at one loads it."""

    def __init__(self, spec: type[Section]) -> None:
        found = (b for b in bindings(spec) if b.holding and b.xml and b.xml.path.startswith("devices/"))
        self.bindings = {b.alias: b for b in found}

    def __getitem__(self, alias: str) -> tuple[Binding, type[Device]]:
        b = self.bindings[alias]
        return b, cast("type[Device]", b.sections[0])

    def __iter__(self) -> Iterator[str]:
        return iter(self.bindings)

    def __len__(self) -> int:
        return len(self.bindings)

    def known(self) -> Iterator[type[Device]]:
        """All of them: of those that are not loaded, what stands in for them, which knows as much as is asked here."""
        for b in self.bindings.values():
            for each in b.holding:
                yield cast("type[Device]", each)

    def loaded(self) -> Iterator[type[Device]]:
        """Those that a machine has had: the others have done nothing."""
        for b in self.bindings.values():
            for each in b.holding:
                if not issubclass(each, Later) or each.is_loaded():
                    yield self[b.alias][1]


def placed(spec: object, devices: Devices) -> Iterator[tuple[Device, tuple[str | int, ...]]]:
    """Each device of a machine, and its path in the spec."""
    for alias, b in devices.bindings.items():
        # of many kinds of devices a machine has few
        if value := getattr(spec, b.name, None):
            for index, item in enumerate(value if b.repeated else (value,)):
                yield item, (alias, index) if b.repeated else (alias,)


def spelled(at: tuple[str | int, ...]) -> str:
    """Such a path, for people: `disks[0]`, or `tpm`."""
    return f"{at[0]}[{at[1]}]" if at[1:] else str(at[0])


def in_remainder(machine: Any, at: tuple[str | int, ...]) -> bool:
    """Whether the remainder has a part of this device, of those that are told apart by a key."""
    if machine.rest is None:
        return False
    alias, index = at
    spec: type[Section] = type(machine)
    b = next(b for b in bindings(spec) if b.alias == alias)
    key = b.item_key(getattr(machine, b.name)[index])
    return any(b.item_key(read(b, node)) == key for node in b.find_all(machine.rest))


def items(spec: object, binding: Binding) -> list[Any]:
    """The devices of one field."""
    value = getattr(spec, binding.name, None)
    return list(value or ()) if binding.repeated else [] if value is None else [value]


def named(fallback: str, known: Callable[[str], str] = str) -> Element:
    """The name of a device: its user alias, or what is `known` of the text at `fallback` when it has none."""

    def read(node: etree._Element, lookup: Lookup) -> str | None:
        alias = parse_path("alias/@name").text(node) or ""
        if alias.startswith("ua-"):
            return alias.removeprefix("ua-")
        text = parse_path(fallback).text(node)
        return known(text) if text else None

    def write(node: etree._Element, value: str | None, lookup: Lookup) -> None:
        if value is None:
            parse_path("alias").remove(node)
        elif read(node, lookup) != value:
            parse_path("alias/@name").set(node, f"ua-{value}")

    return Element(read, write)


def placing(attribute: str) -> Element:
    """An attribute that decides which bus a device is on: with another one its address goes, for libvirt to choose."""

    def read(node: etree._Element, lookup: Lookup) -> str | None:
        return node.get(attribute)

    def write(node: etree._Element, value: str | None, lookup: Lookup) -> None:
        before = node.get(attribute)
        if value is None or before == value:
            return
        node.set(attribute, value)
        if before is None:
            # of a new device, which may say its address as well
            return
        parent = parent_of(node)
        for place in (node if parent.tag == "devices" else parent).findall("address"):
            drop(place)

    return Element(read, write)


def of_type(kind: str, attribute: str, convert: Callable[[str], object] = str) -> Element:
    """An attribute of a disk's <source>, which also decides the disk's type."""

    def read(node: etree._Element, lookup: Lookup) -> object:
        text = node.get(attribute) if parent_of(node).get("type") == kind else None
        return convert(text) if text else None

    def write(node: etree._Element, value: object, lookup: Lookup) -> None:
        if value is not None:
            parent_of(node).set("type", kind)
            for name in ("file", "dev", "dir", "pool", "volume", "protocol", "name"):
                node.attrib.pop(name, "")
            node.set(attribute, str(value))
        elif parent_of(node).get("type") == kind:
            node.attrib.pop(attribute, "")

    return Element(read, write)


def parent_of(node: etree._Element) -> etree._Element:
    """The device that this is a child of."""
    parent = node.getparent()
    assert parent is not None
    return parent


def drop(node: etree._Element) -> None:
    """Take an element out of its document."""
    if (parent := node.getparent()) is not None:
        parent.remove(node)


def item_named(found: Sequence[Any], name: str | None) -> Any:
    """The device of this name, or None."""
    return next((item for item in found if item.name == name), None)
