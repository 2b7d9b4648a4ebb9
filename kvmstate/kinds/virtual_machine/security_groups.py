"""`securityGroups` of an interface: a network filter of its own, which lets in what the groups accept, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvmstate.kind import Inner
from kvmstate.kind.filterref import FilterRef
from kvmstate.kinds.virtual_machine.devices.interface import Interface, named_interfaces
from kvmstate.model.resource import Lifecycle, Metadata, Origin, Resource, ResourceId
from kvmstate.xmlbind import later, owning

# kinds do not import each other
_SPEC: Any = later("kvmstate.kinds.network_filter.spec", "NetworkFilterSpec")
# Also without a group that says so. Connections of the guest's own, with their answers; its addresses by DHCP; that
# something does not get through, which paths with a smaller MTU need; and IPv6 neighbours and routers.
_ALWAYS: list[dict[str, Any]] = [
    {"action": "accept", "direction": "in", "priority": 900, "udp": {"srcPortStart": 67, "dstPortStart": 68}},
    {"action": "accept", "direction": "in", "priority": 900, "udpIpv6": {"srcPortStart": 547, "dstPortStart": 546}},
    {"action": "accept", "direction": "in", "priority": 900, "icmp": {"type": 3}},
    {"action": "accept", "direction": "in", "priority": 900, "icmp": {"type": 11}},
    *(
        {"action": "accept", "direction": "in", "priority": 900, "icmpv6": {"type": kind}}
        for kind in (1, 2, 3, 4, 133, 134, 135, 136, 137)
    ),
    {"action": "accept", "direction": "out", "priority": 900, "all": {}},
    {"action": "accept", "direction": "out", "priority": 900, "allIpv6": {}},
    {"action": "drop", "direction": "in", "priority": 1000, "all": {}},
    {"action": "drop", "direction": "in", "priority": 1000, "allIpv6": {}},
]


def told(interfaces: Sequence[Interface], by: Resource) -> tuple[list[Interface], list[Inner]]:
    """The interfaces as libvirt has them, and the filters of those with groups."""
    nics, found = [], []
    for number, (nic, named) in enumerate(zip(interfaces, named_interfaces(interfaces, ()), strict=True)):
        if nic.security_groups is None:
            nics.append(nic)
            continue
        name = f"{by.metadata.name}-{named.name}-groups"
        rules = [*({"filter": group} for group in nic.security_groups), *_ALWAYS]
        said = {part: value for part in ("suspend", "mode") if (value := getattr(by.lifecycle, part))}
        resource = Resource(
            ResourceId("nwfilter", name),
            _SPEC.section().model_validate({"rules": rules}),
            Metadata(name=name),
            Lifecycle().model_copy(update=said),
            Origin(by.origin.file, by.origin.line, str(by.id)),
            None if by.own is None else {},
        )
        found.append(Inner(("interfaces", number, "securityGroups"), resource))
        changed = nic.model_copy(update={"filterref": FilterRef.model_construct(filter=name), "security_groups": None})
        nics.append(owning(changed, *((nic.model_fields_set - {"security_groups"}) | {"filterref"})))
    return nics, found
