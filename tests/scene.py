"""Resources, records and what is observed, from a few words and XML texts."""

from __future__ import annotations

from typing import Any

from in_memory import MemoryHost

from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.resource import Lifecycle, Metadata, Observed, Resource, ResourceId
from kvmstate.plan.planner import observe

PROJECT = "shop"


def id_(address: str) -> ResourceId:
    return ResourceId.parse(address)


def resource(address: str, lifecycle: dict[str, Any] | None = None, **spec: Any) -> Resource:
    """What a manifest declares; a volume's pool is in its address."""
    kind, name = id_(address)
    if kind == "volume":
        spec = {"pool": name.partition("/")[0], "capacity": "1MiB", **spec}
    if kind == "pool":
        spec = {"type": "dir", "target": {"path": f"/pools/{name}"}, **spec}
    if kind == "interface":
        spec = {"type": "ethernet", **spec}
    if kind == "secret":
        spec = {"usage": "ceph", "value": {"from": "key", "data": "c2VjcmV0"}, **spec}
    if kind == "domain":
        spec = {"memory": "64MiB", "state": "stopped", **spec}
    return Resource(
        ResourceId(kind, name),
        BY_WORD[kind].adapter.validate_python(spec),
        Metadata(name=name.rpartition("/")[2]),
        Lifecycle.model_validate(lifecycle or {}),
    )


def entry(resource: Resource, uuid: str = "", **more: Any) -> Entry:
    """What the record has of it, as it was applied."""
    return Entry(resource.id, uuid or uuid_of(resource.id), (resource.written,), resource.lifecycle, **more)


def uuid_of(id: ResourceId) -> str:
    if id.kind == "interface":
        return ""
    if id.kind == "volume":
        return f"key:/pools/{id.name}"
    return f"00000000-0000-4000-8000-{sum(map(ord, str(id))):012d}"


def inventory(*owned: Resource | Entry) -> Inventory:
    entries = [each if isinstance(each, Entry) else entry(each) for each in owned]
    return Inventory(PROJECT, {each.id: each for each in entries})


def xml(address: str, inner: str = "") -> str:
    """What libvirt says of it, at its least."""
    kind, name = id_(address)
    head = f"<name>{name.rpartition('/')[2]}</name>"
    if kind == "volume":
        inner = inner or "<target><path>PATH</path><format type='qcow2'/></target>"
        sized = f"<capacity unit='bytes'>{1 << 20}</capacity>"
        return f"<volume>{head}{sized}{inner}</volume>".replace("PATH", f"/pools/{name}")
    if kind == "interface":
        return f"<interface type='ethernet' name='{name}'>{inner}</interface>"
    uuid = f"<uuid>{uuid_of(id_(address))}</uuid>"
    if kind == "nwfilter":
        return f"<filter name='{name}' chain='root'>{uuid}{inner}</filter>"
    if kind == "secret":
        return (
            f"<secret ephemeral='no' private='no'>{uuid}{inner}<usage type='ceph'><name>{name}</name></usage></secret>"
        )
    head += uuid
    if kind == "pool":
        return f"<pool type='dir'>{head}<target><path>/pools/{name}</path></target></pool>"
    if kind == "domain":
        memory = "<memory unit='KiB'>65536</memory><currentMemory unit='KiB'>65536</currentMemory><vcpu>1</vcpu>"
        return f"<domain type='qemu'>{head}{memory}<os><type>hvm</type></os><devices>{inner}</devices></domain>"
    return f"<network>{head}{inner}</network>"


def host(*addresses: str, off: tuple[str, ...] = (), **texts: str) -> MemoryHost:
    """A host that has these; interfaces, networks and pools are active, but those that are `off`; machines are off, but
    those that end in `!`, which run. `texts` is what is in the XML of some, by their names."""
    made = MemoryHost()
    for address in addresses:
        text = xml(address.rstrip("!"), texts.get(id_(address.rstrip("!")).name.rpartition("/")[2], ""))
        runs = address.endswith("!") or (address.startswith(("interface/", "network/", "pool/")) and address not in off)
        made.add(text, text if runs else None)
    return made


def seen(host: MemoryHost, address: str) -> Observed:
    return observe(host, [id_(address)])[id_(address)]


def change(address: str, action: Action = Action.NOOP, needs: tuple[str, ...] = (), **more: Any) -> Change:
    return Change(id_(address), action, needs=frozenset(map(id_, needs)), **more)
