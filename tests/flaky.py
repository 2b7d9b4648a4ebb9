"""A connection that dies at a chosen call: what a `kill -9` of kvmstate looks like from the host, and in any place;
or one whose calls are counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import libvirt

# Every call that changes something on the host, by the part of its name that says so
CHANGES = ("define", "create", "destroy", "delete", "set", "attach", "detach", "update", "resize", "shutdown", "build")
CHANGES += ("commit", "pull", "abort", "restore", "revert")


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


class Counting(Fuse):
    """Lets everything through, and counts what asks the host."""

    # what libvirt's objects know by themselves
    LOCAL = ("name", "UUIDString", "UUID", "ID", "key", "usageID", "usageType", "connect", "getName")

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def call(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        if name not in self.LOCAL:
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
