"""What goes from the host while a plan looks at it ends no plan: at whatever call of libvirt's it goes, all that is not
concerned is planned as ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import libvirt
import pytest
from flaky import Flaky, Meddled
from harness import Project, idle, pool, resource

from kvmstate.app import Session
from kvmstate.apply import open_store
from kvmstate.host import Host, open_host
from kvmstate.kinds import BY_NAME
from kvmstate.model.change import Action
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.plan import Options

pytestmark = pytest.mark.real

FOLDER = "/var/lib/libvirt/behaviours"
# Between two moments at which something goes, in calls; 1 tries every one
STEP = int(os.environ.get("KVMSTATE_GOING_STEP", "29"))
# an overlay whose machine has gone may hold data: its volume is not given to a new machine, and no plan is made of it
EVERYTHING = Options(prune=True, lenient=True)
SNAPSHOTS = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
REDEFINED = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT


def volume(name: str, within: str = "images", **more: Any) -> dict[str, Any]:
    return resource("Volume", name, {"deletion": "delete"}, pool=within, capacity="1MiB", **more)


def machine(name: str, *volumes: str, **more: Any) -> dict[str, Any]:
    disks = [{"name": each.rpartition("/")[2], "volume": each} for each in volumes]
    return idle(name, state="stopped", disks=disks, **more)


COMMON = [
    *(pool(), pool("other"), volume("a"), volume("b"), volume("layer", backing="images/b")),
    *(volume("c", "other"), resource("Network", "lan", ips=[{"address": "192.168.96.1/24"}])),
    machine("m1", "images/a", "images/layer", interfaces=[{"network": "lan"}]),
]
BEFORE = [*COMMON, machine("m2", "other/c"), volume("leaves"), machine("leaving")]
AFTER = [*COMMON, machine("m2", "other/c", "other/n"), volume("n", "other"), volume("l2", backing="images/b")]
AFTER += [machine("m3", "images/l2")]


def declared(document: dict[str, Any]) -> Resource:
    kind, name = BY_NAME[document["kind"]], document["metadata"]["name"]
    spec = kind.adapter.validate_python(document["spec"])
    lifecycle = Lifecycle.model_validate(document.get("lifecycle", {}))
    return Resource(ResourceId(kind.word, spec.id_name(name)), spec, Metadata(name=name), lifecycle)


Back = Callable[[], object]


@dataclass(frozen=True)
class Way:
    """How something goes, which gives how it comes back; and whom it concerns, by the ends of their addresses."""

    goes: Callable[[libvirt.virConnect, Project], Back]
    concerns: tuple[str, ...] = ()


def stops(name: str) -> Callable[[libvirt.virConnect, Project], Back]:
    def goes(connection: libvirt.virConnect, project: Project) -> Back:
        found = connection.storagePoolLookupByName(name)
        found.destroy()
        return found.create

    return goes


def is_undefined(kind: str, name: str) -> Callable[[libvirt.virConnect, Project], Back]:
    def goes(connection: libvirt.virConnect, project: Project) -> Back:
        found = getattr(connection, f"{kind}LookupByName")(name)
        text = found.XMLDesc(0)
        found.destroy()
        found.undefine()
        return lambda: getattr(connection, f"{kind}DefineXML")(text).create()

    return goes


def domain_goes(name: str) -> Callable[[libvirt.virConnect, Project], Back]:
    def goes(connection: libvirt.virConnect, project: Project) -> Back:
        domain = connection.lookupByName(name)
        text, kept = domain.XMLDesc(0), [each.getXMLDesc(0) for each in domain.listAllSnapshots(0)]
        domain.undefineFlags(SNAPSHOTS)
        return lambda: (
            [connection.defineXML(text).snapshotCreateXML(each, REDEFINED) for each in kept]
            or (connection.defineXML(text))
        )

    return goes


def file_goes(path: str) -> Callable[[libvirt.virConnect, Project], Back]:
    def goes(connection: libvirt.virConnect, project: Project) -> Back:
        there, away = project.path(path), project.path("away")

        def move(one: Any, other: Any) -> None:
            one.rename(other)
            connection.storagePoolLookupByName(path.partition("/")[0]).refresh()

        move(there, away)
        return lambda: move(away, there)

    return goes


def folder_goes(name: str) -> Callable[[libvirt.virConnect, Project], Back]:
    """As when it is unmounted: the pool is active until libvirt looks again."""

    def goes(connection: libvirt.virConnect, project: Project) -> Back:
        there, away, found = project.path(name), project.path("away"), connection.storagePoolLookupByName(name)
        there.rename(away)

        def back() -> None:
            away.rename(there)
            found.refresh() if found.isActive() else found.create()

        return back

    return goes


def snapshot_goes(connection: libvirt.virConnect, project: Project) -> Back:
    domain = connection.lookupByName("m2")
    snapshot = domain.snapshotLookupByName("s")
    text = snapshot.getXMLDesc(0)
    snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    return lambda: domain.snapshotCreateXML(text, REDEFINED)


IN_IMAGES = ("pool/images", "/a", "/b", "/layer", "/leaves", "/l2", "/m1", "/m3")
IN_OTHER = ("pool/other", "/c", "/n", "/m2")
WAYS = {
    "a pool stops": Way(stops("images"), IN_IMAGES),
    "a pool stops that has an overlay": Way(stops("other"), IN_OTHER),
    "somebody's pool stops": Way(stops("foreign")),
    "a pool's folder goes": Way(folder_goes("images"), IN_IMAGES),
    "somebody's pool's folder goes": Way(folder_goes("foreign")),
    "a pool is undefined": Way(is_undefined("storagePool", "images"), IN_IMAGES),
    "a pool is undefined that has an overlay": Way(is_undefined("storagePool", "other"), IN_OTHER),
    "somebody's pool is undefined": Way(is_undefined("storagePool", "foreign")),
    "a volume goes": Way(file_goes("images/a"), ("/a", "/m1")),
    "a layer goes": Way(file_goes("images/layer"), ("/layer", "/m1", "/b")),
    "somebody's volume goes": Way(file_goes("foreign/v")),
    "a network goes": Way(is_undefined("network", "lan"), ("/lan", "/m1")),
    "somebody's network goes": Way(is_undefined("network", "foreign")),
    "a machine goes": Way(domain_goes("m1"), ("/m1",)),
    "a machine goes that has a snapshot": Way(domain_goes("m2"), ("/m2",)),
    "a machine goes that leaves the manifests": Way(domain_goes("leaving"), ("/leaving",)),
    "somebody's machine goes": Way(domain_goes("foreign")),
    "a snapshot goes": Way(snapshot_goes, ("/m2",)),
}


def prepare(project: Project, connection: libvirt.virConnect) -> None:
    """Two pools, a network and machines of the project, one with a snapshot; and somebody's pool, network, machine."""
    project.converge(*BEFORE)
    foreign = connection.storagePoolDefineXML(
        f"<pool type='dir'><name>foreign</name><target><path>{FOLDER}/foreign</path></target></pool>"
    )
    foreign.build(0)
    foreign.create()
    foreign.createXML(
        "<volume><name>v</name><capacity>1048576</capacity><target><format type='qcow2'/></target></volume>"
    )
    connection.defineXML(
        "<domain type='qemu'><name>foreign</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>"
        f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{FOLDER}/foreign/v'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    connection.networkDefineXML("<network><name>foreign</name></network>").create()
    connection.lookupByName("m2").snapshotCreateXML(
        "<domainsnapshot><name>s</name></domainsnapshot>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    )


def planned(project: Project, host: Host, fuse: Meddled) -> dict[str, Any]:
    """What the plan does to each resource."""
    store = open_store(host, project.name)
    assert store.inventory.entries
    plain, host.connection = host.connection, Flaky(host.connection, fuse)
    host.forget()
    try:
        made = Session(host, store, tuple(map(declared, AFTER))).plan(EVERYTHING)
    finally:
        host.connection = plain
        host.uses.close()
        vars(host).pop("uses")
    return {str(c.id): (c.action, bool(c.blocked), c.unknown, c.reason, c.fields) for c in made.changes}


@pytest.mark.parametrize("way", WAYS)
def test_a_plan_is_made_whatever_goes(project: Project, connection: libvirt.virConnect, way: str) -> None:
    prepare(project, connection)
    with open_host(project.uri) as host:
        usual = planned(project, host, Meddled({}))
        assert usual["volume/images/leaves"][:2] == (Action.DELETE, False)
        found: dict[int, dict[str, Any]] = {}
        at, back = 1, True
        while back:
            gone: list[Back] = []
            found[at] = planned(
                project, host, Meddled({at: lambda gone=gone: gone.append(WAYS[way].goes(connection, project))})
            )
            for back in gone:
                back()
            back, at = bool(gone), at + STEP
    others = {
        (moment, address, told)
        for moment, plan in found.items()
        for address, told in plan.items()
        if told != usual[address] and not address.endswith(WAYS[way].concerns or ("-",))
    }
    assert others == set()
    # what only cannot be seen is not taken for gone
    lost = {a for plan in found.values() for a, told in plan.items() if told[0] is Action.FORGET and "stops" in way}
    assert lost == set()
