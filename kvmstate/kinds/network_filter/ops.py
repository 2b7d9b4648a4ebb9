"""Network filters on a host: observe, and make changes real. What is defined holds for running machines at once."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from lxml import etree

from kvmstate.host import Host, network_filters
from kvmstate.host.kernel_links import unfiltered
from kvmstate.host.objects import NetworkFilter
from kvmstate.kind import Context, Ops, Scene
from kvmstate.kind.compose import written
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.network_filter.spec import NetworkFilterSpec
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, Resource, ResourceId
from kvmstate.xmlbind import document, parse, to_text

BASE = "<filter/>"


def names(host: Host) -> set[str]:
    return {each.name for each in network_filters.all_filters(host.connection)}


def observe(host: Host, names: Set[str]) -> dict[str, Observed]:
    def look(each: NetworkFilter) -> Observed:
        return Observed(ResourceId(each.type, each.name), each.uuid, network_filters.xml(each), None, {}, _read)

    return {seen.id.name: seen for seen in host.each(look, network_filters.named(host.connection, names))}


def _read(seen: Observed) -> tuple[NetworkFilterSpec, None]:
    return parse(NetworkFilterSpec, document(seen.xml)), None


def portable(observed: Observed, host: Host) -> tuple[NetworkFilterSpec, etree._Element]:
    return observed.config, document(observed.xml)


def complete(resource: Resource, observed: Observed | None, project: str) -> NetworkFilterSpec:
    spec: NetworkFilterSpec = resource.spec
    return spec


def checked(host: Host, change: Change, entry: Entry | None) -> Change:
    if change.action is Action.CREATE and not network_filters.supported(host.connection):
        why = "this host has no network filters"
        return replace(change, blocked=why, hint="install libvirt-daemon-driver-nwfilter there, where it has QEMU")
    return change


def judge(at: Scene) -> None:
    """Say of what comes or changes where the host's kernel lets no rule of it have an effect."""
    coming = [
        (id_, each.spec.families)
        for id_, each in at.changes.items()
        if id_.kind == NetworkFilter.type and each.action in (Action.CREATE, Action.UPDATE) and each.spec.families
    ]
    off = unfiltered(at.host) if coming else {}
    for id_, families in coming:
        if found := [family for family in off if family in families]:
            settings = " and ".join(f"{off[family]}=1" for family in found)
            told = f"its rules about {' and '.join(found)} have no effect on this host: it needs {settings}"
            at.changes[id_] = at.changes[id_].saying(told)


def steps(change: Change, at: Context) -> list[Step]:
    name, spec, host = change.id.name, change.spec, at.host
    if change.action is Action.DELETE:
        permit = at.gate.removal(change)
        return [
            simple("undefine", lambda: network_filters.undefine(network_filters.find(host.connection, name), permit))
        ]

    def define() -> None:
        if change.observed is None:
            network_filters.define(
                host.connection, to_text(written(change, document(spec.remainder or BASE), host.lookup))
            )
            return
        before = network_filters.configuration(network_filters.find(host.connection, name))
        network_filters.redefine(before, to_text(written(change, document(before.text), host.lookup)))

    differs = any(field.path[0] != "lifecycle" for field in change.fields)
    return [simple("define, also for machines that run", define)] if change.observed is None or differs else []


OPS = Ops(
    names,
    observe,
    portable,
    complete,
    steps,
    users=lambda host, change: host.uses.of_filter(change.id.name),
    checked=checked,
    judge=judge,
    begun=lambda host, spec: document(spec.remainder or BASE),
)
