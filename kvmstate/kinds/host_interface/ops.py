"""The host's own interfaces: observe, and make changes real. Each change is a transaction: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from lxml import etree

from kvmstate.host import Host, host_interfaces
from kvmstate.host.objects import HostInterface
from kvmstate.kind import Context, Ops, Scene
from kvmstate.kind.compose import written
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.host_interface.spec import HostInterfaceSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import document, parse, to_text

BASE = "<interface/>"
_TOUCHES = (Action.CREATE, Action.UPDATE, Action.REPLACE, Action.DELETE)


def names(host: Host) -> set[str]:
    return {each.name for each in host_interfaces.all_interfaces(host)}


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    def look(each: HostInterface) -> Observed:
        text, up = host_interfaces.xml(each), each.active
        # what is up was brought up so: changes are made in both
        return Observed(ResourceId(each.type, each.name), each.uuid, text, text if up else None, {"active": up}, _read)

    return {seen.id.name: seen for seen in host.each(look, host_interfaces.named(host, names))}


def _read(seen: Observed) -> tuple[HostInterfaceSpec, HostInterfaceSpec | None]:
    spec = parse(HostInterfaceSpec, document(seen.xml)).model_copy(update=seen.calls)
    return spec, spec if seen.running else None


def portable(observed: Observed, host: Host) -> tuple[HostInterfaceSpec, etree._Element]:
    return observed.config, document(observed.xml)


def complete(resource: Resource, observed: Observed | None, project: str) -> HostInterfaceSpec:
    spec: HostInterfaceSpec = resource.spec
    return spec


def checked(host: Host, change: Change, entry: Entry | None) -> Change:
    if change.blocked:
        return change
    if change.action is Action.CREATE and host_interfaces.driver(host) is None:
        why, hint = host_interfaces.lacking(host)
        return replace(change, blocked=why, hint=hint)
    if change.action is Action.UPDATE and change.waiting and not change.restarts:
        fields = ", ".join(field.where for field in change.waiting)
        why = f"{fields} would take it down for a moment"
        return replace(change, blocked=why, hint="lifecycle.restart: now allows it")
    return change


def judge(at: Scene) -> None:
    """Say of what a change touches where somebody came in by it, and what is taken from others for it."""
    todo = [
        c for id_, c in at.changes.items() if id_.kind == HostInterface.type and c.action in _TOUCHES and not c.blocked
    ]
    links, carrying = host_interfaces.carrying(at.host) if todo else ([], set())
    known = {each.name: each for each in links}
    for change in todo:
        had = {*change.observed.config.ports} if change.observed else set()
        has = {*change.spec.ports} if change.spec else set()
        told = []
        if through := sorted({change.id.name, *had, *has} & carrying):
            told.append(f"you are connected through {' and '.join(through)}")
        for name in sorted(has - had):
            link = known.get(name)
            if link and link.master not in ("", change.id.name):
                told.append(f"takes {name} from {link.master}")
            elif link and link.addresses:
                told.append(f"takes {name}, which has {' and '.join(link.addresses)}")
        if told:
            at.changes[change.id] = change.saying(*told)


def steps(change: Change, at: Context) -> list[Step]:
    name, spec, host = change.id.name, change.spec, at.host
    permit = at.gate.removal(change) if change.destroys else None

    def remove() -> None:
        assert permit
        host_interfaces.undefine(host, host_interfaces.find(host, name), permit)

    def define() -> None:
        if change.observed is not None and change.action is Action.UPDATE:
            before = host_interfaces.configuration(host_interfaces.find(host, name))
            text = to_text(written(change, document(before.text), host.lookup))
            host_interfaces.redefine(host, before, text, spec.active)
        else:
            text = to_text(written(change, document(spec.remainder or BASE), host.lookup))
            host_interfaces.define(host, text, spec.active)

    def run() -> None:
        with host_interfaces.transaction(host):
            if change.destroys:
                remove()
            if change.action is not Action.DELETE:
                define()

    if change.action is Action.UPDATE and all(field.path[0] == "lifecycle" for field in change.shown):
        return []
    return [simple(f"{_words(change)}, or leave all as it is", run)]


def _words(change: Change) -> str:
    if change.action is Action.DELETE:
        return "take it down and remove it"
    state = "bring it up" if change.spec.active else "leave it down"
    return f"{'remove it, ' if change.destroys else ''}define it and {state}"


OPS = Ops(
    names,
    observe,
    portable,
    complete,
    steps,
    users=lambda host, change: host.uses.of_interface(change.id.name),
    checked=checked,
    judge=judge,
    begun=lambda host, spec: document(BASE),
)
