"""How each LIVE field is changed in a running domain.

HANDLERS has one entry for every such field that is not a device's (a test holds the two together). A device is always
taken from the configuration that was just defined, so that what runs and what is defined are the same device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lxml import etree

from kvmstate.host import Host, domains
from kvmstate.host.objects import Domain
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.virtual_machine.spec import DEVICES
from kvmstate.model.change import Change, FieldChange, Key
from kvmstate.xmlbind import document, parse, to_text

Handler = Callable[[Host, Domain, Change, FieldChange], None]


def step(host: Host, change: Change, field: FieldChange) -> Step:
    change_it = handler(field.path)
    return simple(
        f"change the running machine: {field.where}",
        lambda: change_it(host, domains.find(host.connection, change.id.name), change, field),
    )


def handler(path: Sequence[str]) -> Handler:
    """What changes this field of a running machine. Raises KeyError when nothing does."""
    if path[0] not in DEVICES:
        return HANDLERS[".".join(path)]
    return _plug if path == _place(path) else _update


def _place(path: Sequence[str]) -> Sequence[str]:
    """What of a path names a device: its field, and which of several it is."""
    return path[:2] if any(isinstance(part, Key) for part in path[1:2]) else path[:1]


def ordered(fields: Iterable[FieldChange]) -> list[FieldChange]:
    """What goes, goes first: its bus, name or address may be needed by what comes. One step a device."""
    seen, found = set(), []
    for field in sorted(fields, key=lambda f: f.new is not None):
        key = _place(field.path) if field.path[0] in DEVICES else field.path
        if key not in seen:
            seen.add(key)
            found.append(field)
    return found


def _device(text: str, field: FieldChange) -> etree._Element | None:
    """The device in this XML that the field is of."""
    b, section = DEVICES[field.path[0]]
    nodes, (_, *which) = b.find_all(document(text)), _place(field.path)
    if not which:
        return next(iter(nodes), None)
    if not b.key:
        return next(iter(nodes[int(which[0]) :]), None)
    return next((node for node in nodes if b.item_key(parse(section, node)) == which[0]), None)


def _plug(host: Host, domain: Domain, change: Change, field: FieldChange) -> None:
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


def _update(host: Host, domain: Domain, change: Change, field: FieldChange) -> None:
    """Change a device where it is: the medium in a drive, an interface's network or link.

    libvirt wants the whole running device with the one difference, so the running XML is edited.
    """
    running = _device(domains.xml(domain, inactive=False, secure=True), field)
    wanted = _device(domains.xml(domain, secure=True), field)
    assert running is not None
    assert wanted is not None
    for tag in DEVICES[field.path[0]][1].swaps:
        for old in running.findall(tag):
            running.remove(old)
        for new in wanted.findall(tag):
            running.append(new)
    if kind := wanted.get("type"):
        running.set("type", kind)
    for leftover in running.findall("backingStore"):
        running.remove(leftover)
    domains.update_device(domain, to_text(running))


def _cpus(host: Host, domain: Domain, change: Change, field: FieldChange) -> None:
    domains.set_cpus(domain, field.new)


def _memory(host: Host, domain: Domain, change: Change, field: FieldChange) -> None:
    domains.set_memory(domain, field.new)


def _text(title: bool) -> Handler:
    return lambda host, domain, change, field: domains.set_text(domain, title, field.new)


HANDLERS: dict[str, Handler] = {
    "cpus": _cpus,
    "memory": _memory,
    "title": _text(title=True),
    "description": _text(title=False),
}
