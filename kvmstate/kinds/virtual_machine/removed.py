"""What goes with a machine that is deleted, and what of it stays on the host: said before it is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from kvmstate.errors import NotFound
from kvmstate.host import Host, domains
from kvmstate.kinds.virtual_machine.portable import secrets
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import Change
from kvmstate.model.resource import ResourceId
from kvmstate.snapshots.chain import LET_GO, held_by
from kvmstate.xmlbind import document

_CHECKPOINT = "checkpoint "


def removed(
    changes: Sequence[Change], host: Host, said: Mapping[ResourceId, Sequence[VirtualMachineSpec]]
) -> Iterator[Change]:
    """Each deletion with what it takes along; blocked where saved memory would be lost unasked. `said` is what was
    applied last."""
    kept = domains.kept_states(host.connection, {change.id.name for change in changes})
    for change in changes:
        states = sorted(what for what, _ in kept.get(change.uuid, []))
        drop = change.lifecycle.deletion == "delete"
        if domains.MEMORY in states and not drop:
            yield replace(
                change,
                blocked="it has saved memory, which would be lost",
                hint=f"start it, or give that up: `virsh managedsave-remove {change.id.name}`, or write "
                "lifecycle.deletion: delete",
            )
            continue
        if why := _unmerged(kept.get(change.uuid, [])):
            yield replace(change, blocked=f"it has {held_by(why)}", hint=LET_GO.format(change.id.name, why[0]))
            continue
        state = _state(change)
        gone = [*states, *_secrets(change, host, said.get(change.id, ())), *(state if drop else ())]
        goes = f"; lost with it: {', '.join(gone)}" if gone else ""
        kept_back = bool(state) and not drop
        stays = f"; kept for it to be made again: {', '.join(state)}" if kept_back else ""
        yield replace(change, reason=f"{change.reason}{goes}{stays}", orphans=kept_back or change.orphans)


def _unmerged(kept: Sequence[tuple[str, str]]) -> list[str]:
    """The checkpoints that keep libvirt from merging external snapshots, where there are any."""
    external = any(document(text).find("disks/disk[@snapshot='external']") is not None for _, text in kept)
    return [what.removeprefix(_CHECKPOINT) for what, _ in kept if external and what.startswith(_CHECKPOINT)]


def _state(change: Change) -> list[str]:
    assert change.observed
    root = document(change.observed.xml)
    efi = root.find("os/nvram") is not None or root.find("os[@firmware='efi']") is not None
    tpm = root.find("devices/tpm/backend[@type='emulator']") is not None
    return [*(["firmware variables"] if efi else []), *(["TPM state"] if tpm else [])]


def _secrets(change: Change, host: Host, said: Sequence[VirtualMachineSpec]) -> list[str]:
    """Those of an imported machine that no manifest has: a new one gets others."""
    assert change.observed
    if not any(spec.remainder for spec in said):
        return []
    known = {path.removeprefix("./") for spec in said for path in spec.xml}
    with suppress(NotFound):
        return [f"the secret {place}" for place in secrets(change.observed, host) if place not in known]
    return []
