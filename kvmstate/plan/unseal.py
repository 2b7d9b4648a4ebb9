"""Hashes of secrets, as the record has them, known again by the secrets that manifests and the host have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kvmstate.host import Host
from kvmstate.kind import Spec
from kvmstate.kinds import BY_WORD
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Observed, Resource
from kvmstate.xmlbind import (
    asks,
    by_hash,
    holds_secret,
    holds_secrets,
    is_sealed,
    is_secret,
    opened,
    sealed,
    secrets,
    secrets_in_xml,
)
from kvmstate.xmlbind.sealed import PREFIX


def seen_whole(resource: Resource, seen: Observed, last: Iterable[Spec] = ()) -> Observed:
    """What was observed; with the secrets that libvirt tells only when asked for them, where the manifest has some, or
    had some when it was applied `last`."""
    rest = resource.spec.remainder
    says = any(map(is_secret, resource.spec.xml)) or (rest and holds_secret("", rest))
    return seen.whole if says or any(map(asks, (resource.spec, *last))) else seen


def may_hold_secrets(spec: Any, text: str) -> bool:
    """Quickly; `text` is the spec's dump."""
    return "://" in text or holds_secrets(spec)


def recorded(host: Host, resource: Resource) -> dict[str, object] | None:
    """The spec as the record has it; None where its secrets cannot be there, as the host has no key yet."""
    sections = BY_WORD[resource.id.kind].sections
    if not secrets(resource.written, sections):
        return resource.written
    seal = host.sealing.known()
    return sealed(resource.written, seal, sections) if seal else None


def unsealed(
    host: Host, resource: Resource, seen: Observed | None, entry: Entry | None
) -> tuple[Resource, Entry | None]:
    """Both with the secrets in place of those hashes that are theirs, or what the host has. Those of others stay."""
    specs = entry.specs if entry else ()
    if PREFIX not in json.dumps([resource.written, specs]) or (seal := host.sealing.known()) is None:
        return resource, entry
    sections = BY_WORD[resource.id.kind].sections
    known = {}
    if seen:
        whole = seen.whole
        texts = [xml for xml in (whole.xml, whole.active_xml, whole.saved_xml) if xml]
        known = {seal(secret): secret for xml in texts for secret in secrets_in_xml(xml)}
        known |= by_hash(whole.config.model_dump(mode="json", exclude_unset=True, warnings=False), seal, sections)
    known |= by_hash(resource.written, seal, sections)
    if entry:
        entry = replace(entry, specs=tuple(opened(spec, known, sections) for spec in entry.specs))
    return with_secrets(resource, known), entry


def with_secrets(resource: Resource, known: Mapping[str, str]) -> Resource:
    """One that came from a record, or a saved plan, with the secrets back of which `known` has the hashes."""
    if not is_sealed(resource.written):
        return resource
    kind = BY_WORD[resource.id.kind]
    return replace(resource, spec=kind.read(opened(resource.written, known, kind.sections)))
