"""Interfaces that go to another network: libvirt takes a port of one Linux bridge to another one while the guest runs,
and from or to nothing else, such as a bridge of Open vSwitch or a macvtap device."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from lxml import etree

from kvmstate.errors import NotFound
from kvmstate.host import networks, plugs
from kvmstate.kind import Scene
from kvmstate.kinds.virtual_machine.devices.base import item_named
from kvmstate.kinds.virtual_machine.live import device
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.reference import Unlocated
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind import document, patch


def judge(at: Scene) -> None:
    """What libvirt does not do live waits for the next start."""
    for id_, change in list(at.changes.items()):
        if id_.kind != "domain" or change.action is not Action.UPDATE:
            continue
        if late := {field.path for field in change.active_fields if _moves(field) and _waits(at, change, field)}:
            fields, running = (
                tuple(replace(f, effect=Effect.RESTART) if f.path in late else f for f in each)
                for each in (change.fields, change.active_fields)
            )
            at.changes[id_] = replace(change, fields=fields, active_fields=running).if_restarted()


def _moves(field: FieldChange) -> bool:
    place, *rest = field.path
    return place == "interfaces" and rest[1:] in (["network"], ["bridge"]) and field.effect is Effect.LIVE


def _waits(at: Scene, change: Change, field: FieldChange) -> bool:
    runs = device(change.observed.active_xml, field.path) if change.observed and change.observed.active_xml else None
    wanted = item_named(change.spec.interfaces, str(field.path[1]))
    return runs is not None and wanted is not None and not (plugs.is_port(runs) and _becomes_port(at, wanted))


def _becomes_port(at: Scene, nic: Any) -> bool:
    if nic.virtualport:
        return False
    network = _network(at, nic.network) if nic.network else None
    return network is None or plugs.has_ports(network)


def _network(at: Scene, name: str) -> etree._Element | None:
    """As it is when the machine is changed: one that runs changes with its restart only."""
    id_ = ResourceId("network", name)
    declared, change = at.desired.get(id_), at.changes.get(id_)
    found = None
    with suppress(NotFound):
        found = networks.find(at.host.connection, name)
        if found.active and not (change and change.restarts):
            return document(networks.xml(found, inactive=False))
    if declared:
        return patch(etree.Element("network"), declared.spec, Unlocated())
    return document(networks.xml(found)) if found else None
