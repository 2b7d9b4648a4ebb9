"""How each LIVE field is changed in a running domain.

A device that comes or goes is plugged; one whose field changes is updated; all else has a row in HANDLERS (a test holds
that each live field has one way, and that each row is used). What is live is always made as what was just defined: a
run that is killed between the two leaves a difference, which the next plan shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from lxml import etree

from kvmstate.errors import HostError, NotLive
from kvmstate.host import Host, domains, plugs, tuning
from kvmstate.host.objects import Domain
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.virtual_machine import tuned
from kvmstate.kinds.virtual_machine.devices.agent import agent_channel
from kvmstate.kinds.virtual_machine.spec import DEVICES
from kvmstate.kinds.virtual_machine.tuned import Fields
from kvmstate.model.change import Change, FieldChange, Key
from kvmstate.xmlbind import Section, bindings, document, parse, to_text
from kvmstate.xmlbind.path import NAMESPACES, parse_path

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
            if error.code in domains.NOT_LIVE:
                raise NotLive(error.message, "", tuple(f.where for f in fields)) from error
            raise

    return simple(f"change the running machine: {', '.join(f.where for f in fields)}", run)


def _turn(field: FieldChange) -> tuple[bool, int, int]:
    """What goes first, and of devices that are known by their place those behind others."""
    goes = field.new is None or (isinstance(field.old, int) and isinstance(field.new, int) and field.new < field.old)
    rank = _NEEDED.index(field.path[0]) if field.path[0] in _NEEDED else len(_NEEDED)
    place = int(field.path[1]) if len(field.path) == 2 and field.path[1].isdecimal() else 0
    return not goes, -rank if goes else rank, -place if goes else place


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


def device(text: str, path: Path) -> etree._Element | None:
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
    running = device(domains.xml(domain, inactive=False), field.path)
    if running is not None:
        domains.detach(domain, to_text(running), lambda: not _is_there(domain, running, field.path))
    if field.new is not None:
        if field.path[0] == "filesystems" and not tuning.has_cgroups(domain):
            raise NotLive("libvirt 9.0 ends when it plugs in virtiofs on a host without control groups")
        new = device(domains.xml(domain, secure=True), field.path)
        assert new is not None
        # the running machine has its own free slots
        if (address := new.find("address")) is not None and address.get("type") == "pci":
            new.remove(address)
        domains.attach(domain, to_text(new))


def _is_there(domain: Domain, unplugged: etree._Element, path: Path) -> bool:
    """Whether what runs has this device, by libvirt's alias: its place may be another's by now. A lease has none."""
    text = domains.xml(domain, inactive=False)
    alias = parse_path("alias/@name").text(unplugged)
    if alias is None:
        return device(text, path) is not None
    devices = document(text).find("devices")
    return any(parse_path("alias/@name").text(each) == alias for each in (devices if devices is not None else ()))


def _update(domain: Domain, fields: Fields) -> None:
    """Change a device where it is: the medium in a drive, an interface's network or link.

    libvirt wants the whole running device with the one difference, so the running XML is edited.
    """
    path = fields[0].path
    running = device(domains.xml(domain, inactive=False, secure=True), path)
    wanted = device(domains.xml(domain, secure=True), path)
    assert running is not None
    assert wanted is not None
    section, tagged = DEVICES[path[0]][1], running.find("vlan") is not None
    chosen = [(at, found) for at in map(parse_path, section.chosen) if (found := at.find(running)) is not None]
    for place in {*section.swaps, *(name for f in fields for name in _said(section, f.path[len(_place(path)) :]))}:
        if place.startswith("@"):
            running.attrib.pop(place[1:], "")
            if (value := wanted.get(place[1:])) is not None:
                running.set(place[1:], value)
            continue
        for old in running.findall(place):
            running.remove(old)
        for new in wanted.findall(place):
            running.append(new)
    for at, found in chosen:
        if at.find(running) is None:
            at.parent().ensure(running).append(found)
    if kind := wanted.get("type"):
        running.set("type", kind)
    for leftover in running.findall("backingStore"):
        running.remove(leftover)
    if tagged and running.find("vlan") is None and (vlan := plugs.vlan_given(domain, running)) is not None:
        # libvirt 9.0 would take all VLANs off the port, which is in every one then: with those that it is to have, it
        # sees no difference any more
        running.append(vlan)
        domains.update_device(domain, to_text(running))
        running.remove(vlan)
    domains.update_device(domain, to_text(running))


def _said(section: type[Section], path: Path) -> Iterator[str]:
    """What of a device's element a field of it says: children by their tags, and attributes such as `@connected`."""
    name, *rest = path
    b = next(b for b in bindings(section) if b.alias == name)
    if b.path.steps:
        yield b.path.steps[0].tag
    elif b.path.attribute:
        yield f"@{b.path.attribute}"
    elif rest:
        yield from _said(b.sections[0], rest)
    else:
        for inner in bindings(b.sections[0]):
            yield from _said(b.sections[0], [inner.alias]) if inner.path.attribute else ()


def _agent(domain: Domain, fields: Fields) -> None:
    """Plug the guest agent's channel in, or out."""

    def channel(inactive: bool) -> etree._Element | None:
        return agent_channel(document(domains.xml(domain, inactive=inactive)))

    running, wanted = channel(False), channel(True)
    if running is not None and wanted is None:
        domains.detach(domain, to_text(running), lambda: channel(False) is None)
    if running is None and wanted is not None:
        domains.attach(domain, to_text(wanted))


def _metadata(prefix: str) -> Handler:
    """Says of a running machine what its configuration says by then."""
    uri = NAMESPACES[prefix]

    def change(domain: Domain, fields: Fields) -> None:
        found = document(domains.xml(domain)).find(f"metadata/{{{uri}}}*")
        if found is not None:
            # libvirt puts the namespace in
            for node in found.iter():
                node.tag = etree.QName(node).localname
            etree.cleanup_namespaces(found)
        domains.set_metadata(domain, None if found is None else to_text(found), prefix, uri, live=True)

    return change


def _by_modules(domain: Domain, fields: Fields) -> None:
    """Do nothing: the memory devices that are plugged in, or out, are counted by libvirt."""


def _cpus(domain: Domain, fields: Fields) -> None:
    domains.set_cpus(domain, fields[0].new)


def _memory(domain: Domain, fields: Fields) -> None:
    domains.set_memory(domain, fields[0].new)


def _text(title: bool) -> Handler:
    return lambda domain, fields: domains.set_text(domain, title, fields[0].new)


HANDLERS: dict[str, Handler] = {
    "cpus": _cpus,
    "memory": _memory,
    "maxMemory": _by_modules,
    "osinfo": _metadata("libosinfo"),
    "hostBoot": _metadata("host-boot"),
    "onHostShutdown": _metadata("host-shutdown"),
    "guestAgent": _agent,
    "title": _text(title=True),
    "description": _text(title=False),
    **tuned.HANDLERS,
}
