"""One writer per project and host.

The lock is a libvirt secret of usage `kvmstate:PROJECT:lock`, which only one UUID can have at a time; its description
says who holds it, since when and until when. That makes it a mutex over any transport, without a server of our own.
The holder renews its lease; a lock whose time is up, or whose process on this machine is dead, is taken over, that of
another machine after it was watched for a while, as clocks differ.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from kvmstate import __version__
from kvmstate.apply.keep import Keep, open_keep
from kvmstate.errors import HostError, Locked
from kvmstate.host import Host
from kvmstate.model.untrusted import DAMAGE, expect, from_json
from kvmstate.pids import this_machine

# The claim of the daemon that acts for a project, see `kvmstate.reconcile.leader`
LEADER = "leader"
# Seconds: how long a lock holds after its holder was last heard of, how often that is, how long another's is watched
# before it is taken over, how often a waiter asks
LEASE = 60.0
RENEW = 15.0
WATCH = RENEW + 5
POLL = 0.5


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. Times are seconds since the epoch; `machine` and `born` tell processes apart for good. `mode`
    is a daemon's `reconcile.mode`."""

    user: str
    machine: str
    pid: int
    born: int
    command: str
    version: str
    since: float
    until: float
    mode: str = ""

    @classmethod
    def parse(cls, note: str) -> Holder:
        try:
            said = from_json(note)
            words = [expect(said[name], str) for name in ("user", "machine", "command", "version")]
            pid, born, since, until = [expect(said[name], (int, float)) for name in ("pid", "born", "since", "until")]
            # those that are not times of this world
            list(map(_when, (since, until)))
            user, machine, command, version = words
            mode = expect(said.get("mode", ""), str)
            return cls(user, machine, int(pid), int(born), command, version, since, until, mode)
        except (*DAMAGE, OSError):
            return cls("somebody", "", 0, 0, "", "of an unknown version", 0, 0)

    @classmethod
    def me(cls, command: str, now: float, lease: float, mode: str = "") -> Holder:
        """This process, for `lease` seconds."""
        pid = os.getpid()
        return cls(myself(), this_machine(), pid, _born(pid), command, __version__, now, now + lease, mode)

    @property
    def note(self) -> str:
        """What `parse` reads."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return f"{self.user} (pid {self.pid}, kvmstate {self.version} {self.command})"

    @property
    def is_me(self) -> bool:
        """Whether it is this process."""
        return bool(self.machine) and (self.machine, self.pid, self.born) == (
            this_machine(),
            os.getpid(),
            _born(os.getpid()),
        )

    @property
    def times(self) -> str:
        return f"since {_when(self.since)}, until {_when(self.until)} unless renewed"

    def stale(self, now: float) -> str:
        """Why it holds no longer, or an empty string."""
        if now >= self.until:
            return "its time is up"
        if self.machine and self.machine == this_machine() and _has_ended(self.pid, self.born):
            return "its process is dead"
        return ""


# The tokens that this process holds, or asks for: any other of its own was left on a host that had gone by then
_in_use: set[str] = set()


class Lock:
    """The lock of one project on one host, as one process sees it. Used as `with lock.held(...)`."""

    def __init__(
        self,
        keep: Keep,
        project: str,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], object] = time.sleep,
        what: str = "",
    ) -> None:
        """`what` it is the lock of, if not of the project."""
        self.project = project
        self.what = what or f"project {project}"
        self._keep = keep
        self._clock = clock
        self._pause = pause
        self._token = str(uuid.uuid4())
        self._mine: Holder | None = None
        self._lost: Locked | None = None
        self._renewing = threading.Lock()

    def holder(self) -> tuple[str, Holder] | None:
        """Token and holder; a note that cannot be read counts as one whose time is up."""
        found = self._keep.claimed()
        return (found[0], Holder.parse(found[1])) if found else None

    @contextmanager
    def held(self, command: str, timeout: float = 0, told: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Hold it, waiting up to `timeout` seconds for another holder to end. Raises Locked and HostError."""
        _in_use.add(self._token)
        try:
            self._acquire(command, timeout, told)
            done = threading.Event()
            keeper = threading.Thread(target=self._stay, args=(done,), name="lease", daemon=True)
            keeper.start()
            try:
                yield
            finally:
                done.set()
                keeper.join()
                # one that cannot be removed runs out
                with suppress(HostError):
                    self._keep.release(self._token)
                self._mine = None
        finally:
            _in_use.discard(self._token)

    def check(self) -> None:
        """Before every write. Asks the host only when the lease was not renewed in time: this process slept.

        Raises Locked when somebody else has taken the lock over, or may have.
        """
        assert self._mine is not None
        if self._clock() >= self._mine.until - LEASE + 2 * RENEW:
            self._renew()
        if self._lost:
            raise self._lost

    def remove(self, token: str) -> None:
        """Take the lock away from its holder, who notices before its next write."""
        self._keep.release(token)

    def _acquire(self, command: str, timeout: float, told: Callable[[str], None]) -> None:
        deadline = self._clock() + timeout
        waiting = False
        while not self._take(command):
            found = self.holder()
            if found is None:
                continue
            token, other = found
            given_up = "this process gave it up" if other.is_me and token not in _in_use else ""
            if (reason := given_up or other.stale(self._clock())) and self._stays(found, told):
                told(f"taking over the lock of {other}: {reason}")
                self._keep.release(token)
                continue
            if self._clock() >= deadline:
                raise Locked(
                    f"{self.what} is locked on this host by {other}, {other.times}",
                    "--lock-timeout 5m waits for it; if nobody is at work there, `kvmstate unlock --force` removes it",
                )
            if not waiting:
                told(f"waiting for {other}, which holds the lock of {self.what} {other.times}")
                waiting = True
            self._pause(POLL)

    def _stays(self, found: tuple[str, Holder], told: Callable[[str], None]) -> bool:
        """Whether a lock that seems to be over is left as it is for longer than a living holder leaves it: on another
        machine, which may have another time, this is how to tell."""
        if found[1].machine == this_machine():
            return True
        told(f"the lock of {found[1]} seems to be left behind: watching it for {WATCH:g} s")
        self._pause(WATCH)
        return self.holder() == found

    def _take(self, command: str) -> bool:
        mine = Holder.me(command, self._clock(), LEASE)
        if not self._keep.claim(self._token, mine.note):
            return False
        self._mine = mine
        return True

    def _stay(self, done: threading.Event) -> None:
        while not done.wait(RENEW):
            # a host that does not answer now may do so in time
            with suppress(HostError):
                self._renew()

    def _renew(self) -> None:
        with self._renewing:
            assert self._mine is not None
            now = self._clock()
            renewed = replace(self._mine, until=now + LEASE)
            found = self._keep.claimed()
            # removed and free again is lost too: somebody may have worked here meanwhile
            if found and found[0] == self._token and self._keep.claim(self._token, renewed.note):
                self._mine = renewed
                return
            how = f"was taken over by {Holder.parse(found[1])}" if found else "was removed"
            self._lost = Locked(
                f"the lock of {self.what} {how} while this run held it",
                "nothing was changed since; what was begun is on record: plan and apply again",
            )


def open_lock(host: Host, project: str) -> Lock:
    """Open a project's lock; nothing is taken yet. Raises HostError."""
    return Lock(open_keep(host, project), project)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def myself() -> str:
    """Who runs this process, and where: user@host."""
    return f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a container's user may have no name
        return str(os.getuid())


def _born(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 when there is none, or only a zombie."""
    try:
        # after the command in brackets, which may hold anything: state is the 3rd field, the start time the 22nd
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if stat[0] in "ZX" else int(stat[19])


def _has_ended(pid: int, born: int) -> bool:
    if found := _born(pid):
        return found != born
    try:
        os.kill(pid, 0)
    except PermissionError:
        # there is one, and hidepid= (proc(5)) or ProtectProc= (systemd.exec(5)) hides other users' processes
        return False
    except OSError:
        pass
    return True
