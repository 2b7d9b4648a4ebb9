"""Images of servers that libvirt has pools of: QEMU opens them by itself, and libvirt takes no disk of type volume."""

from __future__ import annotations

from dataclasses import replace

from kvmstate.kind import Scene
from kvmstate.model.change import Action
from kvmstate.model.pool_types import PoolType, Volumes
from kvmstate.model.resource import ResourceId

_WHERE = {
    "rbd": "network: {{protocol: rbd, name: CEPH-POOL/{}, hosts: [{{name: MONITOR}}]}}",
    "gluster": "network: {{protocol: gluster, name: GLUSTER-VOLUME/{}, hosts: [{{name: SERVER}}]}}",
    "iscsi-direct": 'network: {{protocol: iscsi, name: "TARGET/LUN", hosts: [{{name: SERVER}}]}}',
}


def judge(at: Scene) -> None:
    """A machine whose disk names one as a volume is blocked."""
    for id_, change in list(at.changes.items()):
        if id_.kind != "domain" or change.blocked or change.action not in (Action.CREATE, Action.UPDATE):
            continue
        for disk in change.spec.disks:
            place = _place(at, disk.volume.pool) if disk.volume else None
            if disk.volume and place and place.volumes is Volumes.NETWORK:
                why = f"disk {disk.name}: libvirt finds no volume of a pool of type {place.name} for a machine"
                where = _WHERE.get(place.name, "").format(disk.volume.name)
                at.changes[id_] = replace(change, blocked=why, hint=where and f"say where it is: `{where}`")


def _place(at: Scene, pool: str) -> PoolType | None:
    declared = at.desired.get(ResourceId("pool", pool))
    return declared.spec.keeps() if declared else at.host.lookup.files.type_of(pool)
