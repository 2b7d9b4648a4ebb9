"""What has not changed since manifest and host were last seen to agree needs no comparison, nor even to be parsed."""

from __future__ import annotations

import hashlib
import json

from kvmstate import __version__
from kvmstate.host import Host
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, Resource
from kvmstate.plan.unseal import may_hold_secrets, recorded, seen_whole


def digest(host: Host, resource: Resource, seen: Observed) -> str:
    """Make a digest of everything that decides whether they agree: what the manifest says, what libvirt says, what
    paths mean on this host, and the version that compares. Empty for secrets that were never applied here."""
    text, whole = resource.spec.model_dump_json(exclude_unset=True), seen
    if may_hold_secrets(resource.spec, text):
        if (spec := recorded(host, resource)) is None:
            return ""
        text, whole = json.dumps(spec), seen_whole(resource, seen)
    said = [
        __version__,
        host.lookup.meaning,
        text,
        resource.lifecycle.model_dump_json(exclude_unset=True),
        seen.uuid,
        *whole.steady,
    ]
    told = "".join(f"{len(part)}:{part}" for part in said)
    if whole is not seen and (seal := host.sealing.known()):
        told = seal(told)
    return hashlib.blake2b(told.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def holds(entry: Entry | None, now: str) -> bool:
    """Whether this is what they agreed on. Never of what is not there, while a change is under way, or was cut off."""
    return bool(now) and entry is not None and entry.digest == now and not entry.incomplete and len(entry.specs) == 1
