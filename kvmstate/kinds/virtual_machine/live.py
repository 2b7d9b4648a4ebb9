"""How each LIVE field is changed in a running domain.

HANDLERS has one entry for every field that says Effect.LIVE (a test holds the two together). A device is always taken
from the configuration that was just defined, so that what runs and what is defined are the same device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lxml import etree

from kvmstate.host import Host, domains
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.virtual_machine.devices import Disk, Interface
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import Change, FieldChange
from kvmstate.xmlbind import bindings, document, parse, to_text

Handler = Callable[[Host, Any, Change, FieldChange], None]


def step(host: Host, change: Change, field: FieldChange) -> Step:
    handler = HANDLERS[_pattern(field)]
    return simple(
        f"change the running machine: {field.where}",
        lambda: handler(host, domains.find(host.connection, change.id.name), change, field),
    )


def ordered(fields: Iterable[FieldChange]) -> list[FieldChange]:
    """What goes, goes first: its bus, name or address may be needed by what comes. One step a device."""
    seen, found = set(), []
    for field in sorted(fields, key=lambda f: f.new is not None):
        key = field.path[:2] if field.path[0] in ("disks", "interfaces") else field.path
        if key not in seen:
            seen.add(key)
            found.append(field)
    return found


def _pattern(field: FieldChange) -> str:
    return ".".join("*" if i == 1 else part for i, part in enumerate(field.path))


def _device(text: str, field: FieldChange) -> etree._Element | None:
    """The device in this XML that has the field's item's name."""
    section: type[Disk] | type[Interface] = {"disks": Disk, "interfaces": Interface}[field.path[0]]  # type: ignore[assignment]
    binding = next(b for b in bindings(VirtualMachineSpec) if b.alias == field.path[0])
    for node in binding.find_all(document(text)):
        if parse(section, node).name == field.path[1]:
            return node
    return None


def _plug(host: Host, domain: Any, change: Change, field: FieldChange) -> None:
    """Attach a device that is new, detach one that is gone."""
    running = _device(domains.xml(domain, inactive=False), field)
    if running is not None:
        domains.detach(domain, to_text(running), lambda: _device(domains.xml(domain, inactive=False), field) is None)
    if field.new is not None:
        device = _device(domains.xml(domain, secure=True), field)
        assert device is not None
        # the running machine has its own free slots
        if (address := device.find("address")) is not None and address.get("type") == "pci":
            device.remove(address)
        domains.attach(domain, to_text(device))


def _update(host: Host, domain: Any, change: Change, field: FieldChange) -> None:
    """Change a device where it is: the medium in a drive, an interface's network or link.

    libvirt wants the whole running device with the one difference, so the running XML is edited.
    """
    running = _device(domains.xml(domain, inactive=False, secure=True), field)
    wanted = _device(domains.xml(domain, secure=True), field)
    assert running is not None
    assert wanted is not None
    for tag in ("source", "link", "driver"):
        for old in running.findall(tag):
            running.remove(old)
        for new in wanted.findall(tag):
            running.append(new)
    running.set("type", wanted.get("type", ""))
    for leftover in running.findall("backingStore"):
        running.remove(leftover)
    domains.update_device(domain, to_text(running))


def _cpus(host: Host, domain: Any, change: Change, field: FieldChange) -> None:
    domains.set_cpus(domain, field.new)


def _memory(host: Host, domain: Any, change: Change, field: FieldChange) -> None:
    domains.set_memory(domain, field.new)


def _text(title: bool) -> Handler:
    return lambda host, domain, change, field: domains.set_text(domain, title, field.new)


HANDLERS: dict[str, Handler] = {
    "cpus": _cpus,
    "memory": _memory,
    "title": _text(title=True),
    "description": _text(title=False),
    "disks.*": _plug,
    "disks.*.volume": _update,
    "disks.*.file": _update,
    "interfaces.*": _plug,
    "interfaces.*.network": _update,
    "interfaces.*.bridge": _update,
    "interfaces.*.link": _update,
}
