"""One daemon a project and host acts, and others stand by: two whose manifests differ would undo each other's work.

The leader's claim is recorded on the host beside the project's lock, which it does not hold: an apply by hand, or by a
CI run, comes in between passes. It is renewed with each look at everything, so that a steady state costs nothing, and
taken over when its time is up, or its process on this machine is dead.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from kvmstate.apply.keep import Keep
from kvmstate.apply.lock import Holder


class Leadership:
    """Its claim is LEADER of `kvmstate.apply.lock`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.held = False
        self._clock = clock
        self._token = str(uuid.uuid4())

    def claim(self, keep: Keep, lease: float, mode: str) -> str:
        """Take the lead for so many seconds, or keep it. Returns who else has it, or "". Raises HostError."""
        mine = Holder.me("run", self._clock(), lease, mode)
        while not keep.claim(self._token, mine.note):
            found = keep.claimed()
            if found is None:
                continue
            other = Holder.parse(found[1])
            if not other.stale(self._clock()):
                self.held = False
                return str(other)
            keep.release(found[0])
        self.held = True
        return ""

    def release(self, keep: Keep) -> None:
        keep.release(self._token)
        self.held = False
