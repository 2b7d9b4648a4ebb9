"""What systemd is told about `kvmstate run`: sd_notify(3)'s protocol, datagrams to $NOTIFY_SOCKET.

The packages for it either have to be compiled against libsystemd or are no longer maintained, and all that they do is
what `Notify` does: send a few words. What matters is what is said when.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kvmstate.model.printable import in_words, one_line
from kvmstate.reconcile.status_store import State, StatusStore, Sync

if TYPE_CHECKING:
    from kvmstate.reconcile.loop import Loop

# What is named in the line of status, the worst first
_NAMED = (Sync.FAILED, Sync.BLOCKED, Sync.NOT_OWNED, Sync.DRIFTED, Sync.PENDING, Sync.RESTART_PENDING)
_STATUS_LENGTH = 200
# Seconds between two signs of life where no watchdog asks for them
_INTERVAL = 30.0


class Notify:
    """Says something to the service manager that has started this process; without one, it does nothing.

    What cannot be sent is dropped: no work waits for a service manager.
    """

    def __init__(self, address: str | None = None) -> None:
        """`address` is a path, or with an @ before it an abstract name (unix(7)); by default $NOTIFY_SOCKET."""
        address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def __call__(self, **words: object) -> None:
        """Such as READY=1; all in one message."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in words.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # when systemd does not read what it gets, its socket is full
            sender.setblocking(False)
            sender.sendto(message.encode(), self._address)


class Supervised:
    """Tells systemd how the loop is.

    It is ready after its first full check, or when it stands by for another. As a pass may upload images, the time to
    start in is extended as long as the loop is alive. The watchdog is answered on the same condition, twice in its
    time, from a thread of its own: a process that hangs as a whole answers no more either.
    """

    def __init__(self, loop: Loop, status: StatusStore, notify: Notify | None = None) -> None:
        self._loop = loop
        self._status = status
        self._notify = notify or Notify()
        self._reload_asked: float | None = None
        self._ready = self._stopping = False
        self._status_line = ""
        self._watchdog = _watchdog_seconds()
        loop.turned = self._turned
        status.subscribe(lambda event: self._tell_status())

    def start(self) -> None:
        threading.Thread(target=self._run, name="systemd", daemon=True).start()

    def reloading(self) -> None:
        """SIGHUP has come; what it asks for is done with the end of the next turn of the loop."""
        if self._ready:
            self._reload_asked = time.monotonic()
            self._notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self) -> None:
        """What runs is finished, then the process ends."""
        self._stopping = True
        self._notify(STOPPING=1, STATUS="finishing what runs")

    def _turned(self, began: float) -> None:
        if self._stopping:
            return
        self._tell_status()
        state = self._status.state
        if not self._ready and (state.ready or state.standby):
            self._ready = True
            self._notify(READY=1)
        elif self._reload_asked is not None and self._reload_asked <= began:
            self._reload_asked = None
            self._notify(READY=1)

    def _tell_status(self) -> None:
        said = status(self._status.state)
        if said != self._status_line and not self._stopping:
            self._status_line = said
            self._notify(STATUS=said)

    def _run(self) -> None:
        every = self._watchdog / 2 if self._watchdog else _INTERVAL
        while True:
            if self._loop.alive:
                self._notify(WATCHDOG=1, **({} if self._ready else {"EXTEND_TIMEOUT_USEC": int(every * 3e6)}))
            time.sleep(every)


def status(state: State) -> str:
    """One line for `systemctl status`: what is wrong with all at once, else how many resources are how, and the first
    of the worst."""
    for condition, (_, error) in state.conditions.items():
        return _short(f"{condition.value[0]}: {error.message}")
    if state.standby:
        return _short(f"standing by: {state.standby} keeps this project")
    if not state.ready:
        return "the first pass is under way"
    counts = state.counts()
    said = ", ".join(f"{counts[sync]} {in_words(sync.value)}" for sync in Sync if counts[sync]) or "nothing is declared"
    for sync in _NAMED:
        for resource in state.resources.values():
            if resource.sync is sync:
                return _short(f"{said}; {resource.id}: {resource.message}")
    return said


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _STATUS_LENGTH else text[: _STATUS_LENGTH - 1] + "…"


def _watchdog_seconds() -> float:
    """How often systemd wants to hear, as it says to this process; 0 when it does not."""
    try:
        wanted, pid = int(os.environ.get("WATCHDOG_USEC", 0)), int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return 0.0
    return wanted / 1e6 if pid == os.getpid() else 0.0
