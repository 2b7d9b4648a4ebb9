"""What has not changed since manifest and host were last seen to agree needs no comparison, nor even to be parsed."""

from __future__ import annotations

import hashlib
import json

from kvmstate import __version__
from kvmstate.host import Host
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, Resource


def digest(host: Host, resource: Resource, seen: Observed) -> str:
    """Of everything that decides whether they agree: what the manifest says, what libvirt says, what paths mean on this
    host, and the version that compares."""
    said = [
        __version__,
        host.lookup.meaning,
        resource.spec.model_dump_json(exclude_unset=True),
        resource.lifecycle.model_dump_json(exclude_unset=True),
        seen.uuid,
        *seen.steady,
    ]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()


def holds(entry: Entry | None, now: str) -> bool:
    """Whether this is what they agreed on. Never of what is not there, while a change is under way, or was cut off."""
    return bool(now) and entry is not None and entry.digest == now and not entry.incomplete and len(entry.specs) == 1
