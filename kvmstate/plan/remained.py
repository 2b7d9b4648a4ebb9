"""Differences that were applied and remained: libvirt, QEMU or another program makes something else of what is written.

What a change was done for is recorded with the object (`Entry.applied`) until it is seen to be gone. The same
difference, from the same value to the same value, is not applied a second time: nothing is restarted, replaced or
uploaded again for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.inventory import Entry
from kvmstate.xmlbind import Hide, leaving, sealed_fields

# what changes by calls of its own, and by itself: a guest may power off again and again
_CALLS = ("state", "active", "autostart", "persistent", "lifecycle")


def digests(change: Change, hide: Hide) -> tuple[str, ...]:
    """Make digests of all differences that this change has ended, when it is done. Of what is recreated there are none.
    `hide` makes hashes of the secrets in them."""
    if change.action not in (Action.UPDATE, Action.REPLACE):
        return ()
    defined = _digests(change.fields, hide, running=False)
    return (*defined, *(_digests(change.waiting, hide, running=True) if change.restarts else ()), *change.held)


def still(entry: Entry, change: Change, hide: Hide) -> tuple[str, ...]:
    """Those of the entry's that are there yet."""
    if not entry.applied:
        return ()
    seen = {*_digests(change.fields, hide, running=False), *_digests(change.waiting, hide, running=True), *change.held}
    return tuple(digest for digest in entry.applied if digest in seen)


def judged(entry: Entry, change: Change, judge: Callable[[Change], Change], hide: Hide, seen: Any) -> Change:
    """The change as `judge` has it, without the differences that remained, where it leaves what is `seen`; blocked
    where there are no others."""
    if not entry.applied:
        return judge(change)
    defined, running = _digests(change.fields, hide, running=False), _digests(change.waiting, hide, running=True)
    held = {digest: field for digest, field in (defined | running).items() if digest in entry.applied}
    if not held:
        return judge(change)
    spec, places = change.spec, {held[digest].path for digest in held.keys() & defined.keys()}
    for place in places:
        spec = leaving(spec, seen, [str(part) for part in place])
    rest = judge(
        replace(
            change,
            spec=spec,
            fields=tuple(f for f in change.fields if f not in [held.get(d) for d in defined]),
            # what is not defined as it is wanted does not come to run so either
            active_fields=tuple(
                f for f in change.active_fields if f.path not in places and f not in [held.get(d) for d in running]
            ),
            held=tuple(held),
        )
    )
    names = ", ".join(dict.fromkeys(f.where for f in held.values()))
    if rest.action is not Action.NOOP:
        return rest if rest.blocked else replace(rest, reason=f"{names} was applied before and remained as it is")
    return replace(
        judge(change),
        blocked=f"{names} was applied, and the difference remained: it is not applied again",
        hint="write what the host makes of it into the manifest, or name it in lifecycle.ignoreChanges",
    )


def _digests(fields: Iterable[FieldChange], hide: Hide, running: bool) -> dict[str, FieldChange]:
    """By digest. That it is defined does not say that it runs."""
    counted = [f for f in fields if f.path[0] not in _CALLS and f.effect is not Effect.NONE]
    said = zip(map(json.dumps, ([running, *told[:3]] for told in sealed_fields(counted, hide))), counted, strict=True)
    return {hashlib.blake2b(text.encode(), digest_size=8).hexdigest(): f for text, f in said}
