"""Whether an object on the host is the one that the project's record means, and not another one of its name."""

from __future__ import annotations

from kvmstate.host.identity import same
from kvmstate.kind import Kind
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed


def stranger(kind: Kind, entry: Entry | None, seen: Observed) -> str:
    """Why it is not to be taken for the project's own; empty when it is.

    A volume that libvirt alone tells of (see `kvmstate.host.identity`) is taken for the one that is recorded, but it is
    never deleted then.
    """
    if entry is None:
        return "it exists on the host, and this project does not own it"
    if same(entry.uuid, seen.uuid) is not False:
        return ""
    if not kind.holds_data:
        return "" if not entry.uuid else "another object of this name has taken its place"
    if not entry.uuid and entry.incomplete and kind.ops.unwritten(seen):
        # a run was killed between making it and saying which it is
        return ""
    if not entry.uuid:
        return "the record does not say which object of this name this project owns"
    return "it is not the object that this project made: another one of this name, or a restored copy"
