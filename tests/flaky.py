"""A connection that dies at a chosen call: what a `kill -9` of kvmstate looks like from the host, and in any place.
Or one at whose calls others act, or whose calls are counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import libvirt

from kvmstate.host.permit import Configuration, Permit

# Every call that changes something on the host, by the part of its name that says so
CHANGES = ("define", "create", "destroy", "delete", "set", "attach", "detach", "update", "resize", "shutdown", "build")
CHANGES += ("commit", "pull", "abort", "restore", "revert")
# What libvirt's objects know by themselves
LOCAL = ("name", "UUIDString", "UUID", "ID", "key", "usageID", "usageType", "connect", "getName")


class Killed(BaseException):
    """Nothing may handle it: a process that is gone handles nothing."""


class Fuse:
    """Blows at the change number `at` (before it is made, or after), and nothing goes through it from then on."""

    def __init__(self, at: int | None = None, before: bool = True) -> None:
        self.left, self.before = at, before
        self._lock = threading.Lock()
        self._blown = False

    def call(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        with self._lock:
            if self._blown:
                raise Killed
            last = False
            if self.left is not None and any(part in name.lower() for part in CHANGES):
                self.left -= 1
                last = self._blown = self.left <= 0
        if last and self.before:
            raise Killed
        answer = call(*args)
        if last:
            raise Killed
        return answer


class Meddled(Fuse):
    """Before its call number N somebody else does something: whatever `acts` says, at the first such moment from there
    on. No moment is that between the last look before a deed and the deed itself (see `kvmstate.host.permit`): libvirt
    has no call that does both at once."""

    def __init__(self, acts: Mapping[int, Callable[[], object]], at: int | None = None, before: bool = True) -> None:
        super().__init__(at, before)
        self._todo = sorted(acts.items(), reverse=True)
        self._calls = 0
        self._looked = self._busy = False
        # every change of something other than the record
        self.changes: list[str] = []

    def call(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        self._meddle(name)
        deed = any(part in name.lower() for part in CHANGES) and name not in ("setValue", "secretDefineXML")
        try:
            return super().call(name, call, *args)
        finally:
            if deed:
                self._looked = False
                self.changes.append(name)

    def _meddle(self, name: str) -> None:
        with self._lock:
            if name in LOCAL or self._busy:
                return
            self._calls += 1
            if self._blown or self._looked or not self._todo or self._todo[-1][0] > self._calls:
                return
            _, act = self._todo.pop()
            self._busy = True
        try:
            act()
        finally:
            self._busy = False

    @contextmanager
    def between_looks_and_deeds(self) -> Iterator[None]:
        """Know of the checks that stand right before deeds, of this process."""

        def looking(check: Callable[..., None]) -> Callable[..., None]:
            def looked(*args: Any) -> None:
                self._looked = True
                try:
                    check(*args)
                except BaseException:
                    self._looked = False
                    raise

            return looked

        with (
            patch.object(Permit, "check", looking(Permit.check)),
            patch.object(Configuration, "check", looking(Configuration.check)),
        ):
            yield


class Counting(Fuse):
    """Lets everything through, and counts what asks the host."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def call(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        if name not in LOCAL:
            with self._lock:
                self.calls[name] += 1
        return super().call(name, call, *args)


class Flaky:
    """A libvirt object whose calls go through a fuse, and so do those of every object that it gives."""

    def __init__(self, real: Any, fuse: Fuse) -> None:
        self._real, self._fuse = real, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found

        def call(*args: Any) -> Any:
            plain = [arg._real if isinstance(arg, Flaky) else arg for arg in args]
            return self._wrapped(self._fuse.call(name, found, *plain))

        return call

    def _wrapped(self, answer: Any) -> Any:
        if isinstance(answer, list):
            return [self._wrapped(item) for item in answer]
        return Flaky(answer, self._fuse) if type(answer).__module__ == libvirt.__name__ else answer
