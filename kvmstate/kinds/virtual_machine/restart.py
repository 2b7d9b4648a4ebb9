"""The start that follows a change of a machine which had to be off for it: one that fails must not leave it off."""

from __future__ import annotations

from collections.abc import Callable

from kvmstate.errors import ConnectionFailed, HostError, Reverted
from kvmstate.host import domains
from kvmstate.host.objects import Domain


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
