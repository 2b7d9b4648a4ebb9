"""Volumes shrink where that was said, and nobody runs on them: what lies beyond the new end is lost."""

from __future__ import annotations

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, volumes
from kvmstate.host.objects import Volume
from kvmstate.host.permit import Permit
from kvmstate.host.resting import busy
from kvmstate.kind import Fault
from kvmstate.model.change import Change
from kvmstate.xmlbind import document


def refused(host: Host, change: Change) -> Fault | None:
    """Why a volume does not shrink now."""
    assert change.observed
    wanted, root = change.spec.capacity, document(change.observed.xml)
    at = ("capacity",)
    if change.lifecycle.prevent_destroy:
        return Fault(at, "preventDestroy keeps what lies beyond its new end", "take preventDestroy out first")
    if (held := int(root.findtext("allocation") or 0)) > wanted:
        why = f"libvirt shrinks no volume below what it takes of its pool, {held} bytes"
        return Fault(at, why, "let the guest trim its disk (fstrim), or choose a larger capacity")
    try:
        found = busy(host, host.uses.of_volume(change.id, root.findtext("target/path") or ""))
    except ConnectionFailed:
        raise
    except HostError as error:
        return Fault(at, error.message, error.hint)
    if not found:
        return None
    hint = "shut the machine down, delete its snapshots and layers; then apply again"
    return Fault(at, f"it cannot shrink: in use by {found[0]}", hint)


def shrink(volume: Volume, capacity: int, permit: Permit) -> None:
    """Never to more than it is."""
    if int(document(volumes.xml(volume)).findtext("capacity") or 0) > capacity:
        volumes.resize(volume, capacity, permit, shrinks=True)
