"""How each LIVE field is changed in a running domain.

A device that comes or goes is plugged; one whose field changes is updated; all else has a row in HANDLERS (a test holds
that each live field has one way, and that each row is used). What is live is always made as what was just defined: a
run that is killed between the two leaves a difference, which the next plan shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lxml import etree

from kvmstate.errors import HostError, NotLive
from kvmstate.host import Host, domains
from kvmstate.host.objects import Domain
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.virtual_machine import tuned
from kvmstate.kinds.virtual_machine.spec import DEVICES
from kvmstate.kinds.virtual_machine.tuned import Fields
from kvmstate.model.change import Change, FieldChange, Key
from kvmstate.xmlbind import bindings, document, parse, to_text

Handler = Callable[[Domain, Fields], None]
Path = Sequence[str]
# What others need comes first, and goes last
_NEEDED = ("iothreads", "iothreadids", "controllers")


def steps(host: Host, change: Change, fields: Iterable[FieldChange]) -> list[Step]:
    """Make one step for each thing. What goes, goes first, as its bus, name or address may be needed by what comes."""
    ways: dict[tuple[Handler, Path], list[FieldChange]] = {}
    for field in sorted(fields, key=_turn):
        place, handler = way(field.path)
        ways.setdefault((handler, tuple(place)), []).append(field)
    return [_step(host, change, handler, found) for (handler, _), found in ways.items()]


def _step(host: Host, change: Change, handler: Handler, fields: Fields) -> Step:
    def run() -> None:
        domain = domains.find(host.connection, change.id.name)
        try:
            handler(domain, fields)
        except NotLive as error:
            raise NotLive(error.message, error.hint, tuple(f.where for f in fields)) from error
        except HostError as error:
            if error.code in domains.UNSUPPORTED:
                raise NotLive(error.message, "", tuple(f.where for f in fields)) from error
            raise

    return simple(f"change the running machine: {', '.join(f.where for f in fields)}", run)


def _turn(field: FieldChange) -> tuple[bool, int]:
    goes = field.new is None or (isinstance(field.old, int) and isinstance(field.new, int) and field.new < field.old)
    rank = _NEEDED.index(field.path[0]) if field.path[0] in _NEEDED else len(_NEEDED)
    return not goes, -rank if goes else rank


def way(path: Path) -> tuple[Path, Handler]:
    """Tell what of a path is changed with one call, and what does it. Raises KeyError when nothing does."""
    for end in range(len(path), 0, -1):
        if handler := HANDLERS.get(pattern(path[:end])):
            return path[:end], handler
    place = _place(path)
    if path[0] not in DEVICES:
        raise KeyError(pattern(path))
    return place, _plug if path == place else _update


def pattern(path: Path) -> str:
    """`disks[].iotune`: a path without the keys of items."""
    return "".join("[]" if isinstance(part, Key) else f".{part}" for part in path).lstrip(".")


def _place(path: Path) -> Path:
    """What of a path names a device: its field, and which of several it is."""
    return path[:2] if any(isinstance(part, Key) for part in path[1:2]) else path[:1]


def _device(text: str, path: Path) -> etree._Element | None:
    """The device in this XML that the path is of."""
    b, section = DEVICES[path[0]]
    nodes, (_, *which) = b.find_all(document(text)), _place(path)
    if not which:
        return next(iter(nodes), None)
    if not b.key:
        return next(iter(nodes[int(which[0]) :]), None)
    return next((node for node in nodes if b.item_key(parse(section, node)) == which[0]), None)


def _plug(domain: Domain, fields: Fields) -> None:
    """Attach a device that is new, detach one that is gone."""
    field = fields[0]
    running = _device(domains.xml(domain, inactive=False), field.path)
    if running is not None:
        gone = lambda: _device(domains.xml(domain, inactive=False), field.path) is None  # noqa: E731
        domains.detach(domain, to_text(running), gone)
    if field.new is not None:
        device = _device(domains.xml(domain, secure=True), field.path)
        assert device is not None
        # the running machine has its own free slots
        if (address := device.find("address")) is not None and address.get("type") == "pci":
            device.remove(address)
        domains.attach(domain, to_text(device))


def _update(domain: Domain, fields: Fields) -> None:
    """Change a device where it is: the medium in a drive, an interface's network or link.

    libvirt wants the whole running device with the one difference, so the running XML is edited.
    """
    path = fields[0].path
    running = _device(domains.xml(domain, inactive=False, secure=True), path)
    wanted = _device(domains.xml(domain, secure=True), path)
    assert running is not None
    assert wanted is not None
    section = DEVICES[path[0]][1]
    places = {b.alias: b.path for b in bindings(section)}
    changed = [places[f.path[len(_place(path))]] for f in fields]
    for tag in {*section.swaps, *(place.steps[0].tag for place in changed if place.steps)}:
        for old in running.findall(tag):
            running.remove(old)
        for new in wanted.findall(tag):
            running.append(new)
    for name in {place.attribute for place in changed if place.attribute and not place.steps}:
        running.attrib.pop(name, "")
        if (value := wanted.get(name)) is not None:
            running.set(name, value)
    if kind := wanted.get("type"):
        running.set("type", kind)
    for leftover in running.findall("backingStore"):
        running.remove(leftover)
    domains.update_device(domain, to_text(running))


def _cpus(domain: Domain, fields: Fields) -> None:
    domains.set_cpus(domain, fields[0].new)


def _memory(domain: Domain, fields: Fields) -> None:
    domains.set_memory(domain, fields[0].new)


def _text(title: bool) -> Handler:
    return lambda domain, fields: domains.set_text(domain, title, fields[0].new)


HANDLERS: dict[str, Handler] = {
    "cpus": _cpus,
    "memory": _memory,
    "title": _text(title=True),
    "description": _text(title=False),
    **tuned.HANDLERS,
}
