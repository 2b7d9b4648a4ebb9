"""Ports of the host that lead to machines. libvirt has none of a network's: they are kept in its metadata, so that they
are there without any manifest, and `kvmstate host forwards` carries them out; see `kvmstate.host.forwards`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from kvmstate.host import domains
from kvmstate.host.objects import Domain
from kvmstate.kind import Fault, Scene
from kvmstate.model.address import IpAddress
from kvmstate.model.change import Action, Change
from kvmstate.model.effect import Effect
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind import Section, xml

if TYPE_CHECKING:
    from kvmstate.kinds.network.spec import NetworkSpec


class Forwarded(Section):
    """A port of the host, and where it leads to."""

    host: int = xml("@host", required=True, ge=1, le=65535, doc="The port of the host.")
    machine: str = xml(
        "@machine",
        required=True,
        pattern=r"^[^/\s]+$",
        effect=Effect.NONE,
        doc="The machine that it leads to, as long as that runs.",
    )
    port: int = xml("@port", required=True, ge=1, le=65535, effect=Effect.NONE, doc="The machine's port.")
    protocol: Literal["tcp", "udp"] = xml("@protocol", default="tcp", effect=Effect.NONE)
    address: IpAddress | None = xml(
        "@address",
        effect=Effect.NONE,
        doc="The machine's address (IPv4). Default: that of its fixed lease, by its name or its MAC address.",
    )
    listen: IpAddress | None = xml(
        "@listen", effect=Effect.NONE, doc="An address of the host (IPv4). Default: all but 127.0.0.1."
    )


def faults(spec: NetworkSpec) -> Iterator[Fault]:
    if spec.port_forwards and (spec.forward is None or spec.forward.mode != "nat"):
        why = (
            "only networks of forward mode nat have portForwards: in others machines are reached by their own addresses"
        )
        yield Fault(("portForwards",), why, "say forward: {mode: nat}, or leave them out")
    fixed = [host for ip in spec.ips if ip.dhcp for host in ip.dhcp.hosts]
    for index, each in enumerate(spec.port_forwards):
        for field in ("address", "listen"):
            if ":" in (getattr(each, field) or ""):
                yield Fault(
                    ("portForwards", index, field), "ports are forwarded over IPv4 only", "give an IPv4 address"
                )
        if not each.address and not any(host.mac or host.name == each.machine for host in fixed):
            why = f"nothing says which address {each.machine} has"
            hint = f"add a fixed lease to ips[].dhcp.hosts: {{ip: …, name: {each.machine}}}; or say address here"
            yield Fault(("portForwards", index, "machine"), why, hint)


def judged(at: Scene, change: Change) -> Change:
    """The change of a network, saying which of its ports lead nowhere."""
    if change.action not in (Action.CREATE, Action.UPDATE) or change.blocked:
        return change
    return change.saying(*dict.fromkeys(_nowhere(at, change.id.name, change.spec)))


def _nowhere(at: Scene, network: str, spec: NetworkSpec) -> Iterator[str]:
    for each in spec.port_forwards:
        declared = at.desired.get(ResourceId(Domain.type, each.machine))
        if declared is None and not domains.exists(at.host.connection, each.machine):
            yield f"port {each.host} leads to {each.machine}, which is not there"
        elif declared and all(nic.network != network for nic in declared.spec.interfaces):
            yield f"port {each.host} leads to {each.machine}, which has no interface on it"
