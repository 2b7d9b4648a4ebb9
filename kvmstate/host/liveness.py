"""No call waits for ever on a host that has stopped answering.

libvirt has a keepalive of its own, and it does not do: when it strikes while several threads wait, one of them fails
and the others go on waiting, or crash (libvirt 9.0); and libvirtd, which works on five requests of a client at a time,
answers none of its messages while five long ones run. So a connection of its own asks from time to time whether the
daemon is there; when it is not, the socket of the watched one is shut down, which ends all calls that wait on it.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import libvirt

from kvmstate.errors import ConnectionFailed
from kvmstate.model.uri import redacted

T = TypeVar("T")

# All in seconds. Logging in may take a person's password, and a way over slow networks.
CONNECT_TIMEOUT = {"local": 20.0, "remote": 60.0}
# Between two questions, and until an answer must have come
INTERVAL = 5.0
SILENCE = 15.0


class Watched:
    """A connection, and the watch over it, which ends with `close`."""

    def __init__(self, uri: str, local: bool) -> None:
        """Raises libvirtError, or ConnectionFailed when nobody answers in time."""
        self._uri = uri
        self._timeout = CONNECT_TIMEOUT["local" if local else "remote"]
        self._closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._second: Any = None
        try:
            self.connection = in_time(self._open, self._timeout)
        except TimeoutError:
            raise ConnectionFailed(
                f"cannot connect to {redacted(uri)}: no answer within {self._timeout:g} s",
                "the daemon there hangs or is stopped: look at `systemctl status libvirtd` (or virtqemud) and restart "
                "it; running guests survive that",
            ) from None
        if self._sockets:
            threading.Thread(target=self._watch, name="libvirt-watch", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        # a connection that is lost is closed
        with suppress(libvirt.libvirtError):
            self.connection.close()
        for each in self._sockets:
            each.close()

    def _open(self) -> Any:
        # two that open at a time could not tell whose sockets are whose: the second one goes unwatched
        alone = _opening.acquire(blocking=False)
        try:
            before = _open_sockets()
            connection = libvirt.open(self._uri)
            if alone:
                self._sockets = [socket.socket(fileno=os.dup(number)) for number in _open_sockets() - before]
            return connection
        finally:
            if alone:
                _opening.release()

    def _watch(self) -> None:
        while not self._closed.wait(INTERVAL):
            try:
                in_time(self._ask, SILENCE if self._second else self._timeout)
            except TimeoutError:
                for each in self._sockets:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
                return
            except libvirt.libvirtError:
                # it let the first one in and not this one, or has gone, which the first one notices by itself
                return
        if self._second is not None:
            with suppress(libvirt.libvirtError):
                self._second.close()

    def _ask(self) -> None:
        if self._second is None:
            # nobody is to be asked for a password once more
            quiet = ("&" if "?" in self._uri else "?") + "no_tty=1" if "+ssh" in self._uri else ""
            self._second = libvirt.open(self._uri + quiet)
        self._second.getLibVersion()


_opening = threading.Lock()


def _open_sockets() -> set[int]:
    found = set()
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                found.add(number)
    return found


def in_time(call: Callable[[], T], seconds: float) -> T:
    """What `call` gives or raises; TimeoutError when it does not end in time. It goes on then, in a thread that does
    not keep the program from ending."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def attempt() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=attempt, name="bounded", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError
    return outcome[0]
