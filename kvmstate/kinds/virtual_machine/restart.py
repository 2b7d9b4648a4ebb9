"""The start that follows a change of a machine which had to be off for it: one that fails must not leave it off."""

from __future__ import annotations

from collections.abc import Callable

from kvmstate.errors import ConnectionFailed, HostError, Reverted
from kvmstate.host import domains
from kvmstate.host.objects import Domain
from kvmstate.model.change import Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.resource import Observed
from kvmstate.xmlbind import diff

# Not of the XML: they have calls of their own
CALLS = ("state", "autostart")


def live_fields(change: Change) -> list[FieldChange]:
    """Those of the XML that are changed in the running machine."""
    return [f for f in change.live if f.path[0] not in CALLS and f.effect is not Effect.NONE]


def is_needed(change: Change, seen: Observed) -> bool:
    """Whether something waits still, once the machine is defined: what was taken out of its manifest may be by then as
    it runs. `seen` is the machine as it is now."""
    other = change.moved_from or change.remade or live_fields(change) or change.spec.state != seen.config.state
    places = [field.path for field in change.waiting]
    if other or seen.active is None or any(place[0] in ("xml", "remainder") for place in places):
        return True
    differing = [f.path for f in (*diff(seen.config, seen.active), *diff(seen.active, seen.config))]
    return any(place[: len(path)] == path[: len(place)] for place in places for path in differing)


def start(find: Callable[[], Domain], paused: bool, former: list[str]) -> None:
    """Start a machine that was shut down to be changed. Where that fails, it is defined and started as it was: `former`
    has that XML, and none where this change has defined nothing. Raises HostError; Reverted when it runs as before."""
    try:
        domains.start(find(), paused)
    except ConnectionFailed:
        raise
    except HostError as error:
        raise _after(error, find, former) if former else error from error


def _after(error: HostError, find: Callable[[], Domain], former: list[str]) -> HostError:
    try:
        before = domains.configuration(find())
        domains.start(domains.redefine(before, former[-1]))
    except ConnectionFailed:
        raise
    except HostError as failure:
        told = f"{error.message}; it is off: starting it as it was before failed, too: {failure.message}"
        return HostError(told, failure.hint or error.hint, error.code)
    return Reverted(f"{error.message}; it runs again as it was before", error.hint, error.code)
