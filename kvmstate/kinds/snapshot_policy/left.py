"""Snapshots whose policy was removed, or no longer selects their machine: nobody deletes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmstate.model.resource import Resource
from kvmstate.snapshots.of_policies import Taken


def notes(found: Taken, resources: Iterable[Resource]) -> Iterator[str]:
    """A sentence for each policy of which snapshots are left."""
    listed = list(resources)
    policies = {resource.metadata.name: resource for resource in listed if resource.id.kind == "snapshotpolicy"}
    for name, machines in sorted(found.items()):
        policy = policies.get(name)
        selected = {each.id.name for each in listed if policy and policy.spec.selects(each)}
        left = {machine: len(snapshots) for machine, snapshots in sorted(machines.items()) if machine not in selected}
        if not left:
            continue
        count = sum(left.values())
        whose = ", ".join(f"{machine} ({number})" for machine, number in left.items())
        why = "does not select them any more" if policy else "is not in the manifests any more"
        words = ["kvmstate snapshot delete --policy", name, *(left if policy else ())]
        yield (
            f"{count} snapshot{'' if count == 1 else 's'} of snapshotpolicy/{name}, which {why}, "
            f"stay{'s' if count == 1 else ''}: {whose}; `{' '.join(words)}` deletes {'it' if count == 1 else 'them'}"
        )
