"""The snapshots that policies took, wherever they are."""

from __future__ import annotations

from collections import defaultdict

from kvmstate.host import Host
from kvmstate.host.snapshots import with_snapshots
from kvmstate.snapshots.chain import read_snapshots
from kvmstate.snapshots.record import Record

# By the policy's name, then the machine's: the snapshots, the oldest first
Taken = dict[str, dict[str, list[str]]]


def of_policies(host: Host, project: str) -> Taken:
    """All snapshots of the host that policies of this project took."""
    found: Taken = defaultdict(dict)
    read = host.each(lambda domain: (domain.name, read_snapshots(domain)), with_snapshots(host.connection))
    for machine, snapshots in sorted(read, key=lambda each: str(each[0])):
        for snapshot in sorted(snapshots, key=lambda s: s.created):
            record = Record.read(snapshot.description)
            if record and record.project == project:
                found[record.policy].setdefault(machine, []).append(snapshot.name)
    return found
