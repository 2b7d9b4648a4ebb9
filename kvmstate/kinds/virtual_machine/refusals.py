"""What this host's libvirt must not be asked for."""

from __future__ import annotations

from dataclasses import replace

from kvmstate.host import Host
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import Action, Change

# Older ones give systemd a value of another type than they say it has (g_variant_new_parsed in vircgroupv2.c), and end.
# This is the first that is known to be right.
DISK_WEIGHTS = (11, 3, 0)


def refuse_disk_weights(host: Host, change: Change) -> Change:
    """Block a weight that one of the host's disks is to have, where libvirtd would end when the machine starts."""
    spec: VirtualMachineSpec = change.spec
    if change.blocked or change.action not in (Action.CREATE, Action.UPDATE, Action.REPLACE):
        return change
    if not (spec.runs or spec.autostart):
        return change
    known = _weights(change.observed.config) if change.observed else {}
    new = {path: weight for path, weight in _weights(spec).items() if weight and known.get(path) != weight}
    if not new or host.library_version >= DISK_WEIGHTS:
        return change
    version = ".".join(map(str, host.library_version))
    return replace(
        change,
        blocked=f"libvirtd {version} ends when it gives {', '.join(sorted(new))} a weight",
        hint="limit bytes or operations instead, or update libvirt to 11.3",
    )


def _weights(spec: VirtualMachineSpec) -> dict[str, int | None]:
    return {device.path: device.weight for device in spec.blkiotune.devices} if spec.blkiotune else {}
