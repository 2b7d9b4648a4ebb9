"""What is done to a host, one libvirt call at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvmstate.errors import HostError

# How far a step has come: done so far, and in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Step:
    """About one libvirt call. `run` may be called again: it looks at the host before it acts. One that only `looks`
    makes and deletes nothing."""

    describe: str
    run: Callable[[Progress], None]
    looks: bool = False


def simple(describe: str, run: Callable[[], object]) -> Step:
    """A step that has no progress to tell."""
    return Step(describe, lambda progress: (run(), None)[1])


# May take a change back that failed with this error, telling what it does. Returns the error to be told: Reverted when
# the object is again what it was before the change.
Undo = Callable[[HostError, Callable[[str], None]], HostError]


@dataclass(frozen=True)
class Precaution:
    """Steps before and after a change's own ones; what to do when any but those `before` fails."""

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    undo: Undo | None = None
