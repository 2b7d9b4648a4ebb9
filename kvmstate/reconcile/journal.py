"""What happened, numbered and kept: as JSON lines in the state directory, so that a restart forgets nothing.

Two files of bounded size take turns. A disk that is full, or a line that was cut off half-way, costs single events at
most, and never the daemon.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kvmstate.reconcile.status_store import KEPT_EVENTS, Event, StatusStore

# Bytes of one file, when the next one is begun; and characters of what one event says
FILE_MAX = 1024 * 1024
TEXT_MAX = 4000
SUFFIX = ".events.jsonl"
SYSTEM = Path("/var/lib/kvmstate")

Record = dict[str, Any]


def record(number: int, event: Event) -> Record:
    """An event as it is kept and shown: `id` counts up, over restarts too."""
    return {
        "id": number,
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "resource": event.resource,
        "message": event.message[:TEXT_MAX],
        "hint": event.hint[:TEXT_MAX],
        "revision": event.revision,
    }


_FIELDS = record(0, Event(datetime.now(UTC), "", "")).keys()


def default_folder(env: Mapping[str, str] = os.environ) -> Path:
    """systemd's StateDirectory=, else the user's."""
    given = env.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given or Path(env.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "kvmstate")


class Journal:
    """Thread-safe. Subscribes to the status store; `open` says where to keep what happens, before and after."""

    def __init__(self, status: StatusStore) -> None:
        self._status = status
        self._changed = threading.Condition()
        self._records: deque[Record] = deque(maxlen=KEPT_EVENTS)
        self._last = 0
        self._file: _File | None = None
        self._failed = False
        status.subscribe(self._told)

    def open(self, folder: Path, project: str) -> None:
        """Go on after what is kept there. What happened meanwhile is added."""
        file = _File(folder / f"{project}{SUFFIX}")
        with self._changed:
            kept = list(file.read())[-KEPT_EVENTS:]
            first = max((old["id"] for old in kept), default=0)
            new = [{**event, "id": first + number} for number, event in enumerate(self._records, 1)]
            self._records = deque([*kept, *new], maxlen=KEPT_EVENTS)
            self._last = first + len(new)
            self._file = file
            lost = self._keep(*new)
            self._changed.notify_all()
        self._say(lost)

    def since(self, after: int, wait: float = 0) -> list[Record]:
        """Those with a greater `id`, oldest first; waits up to so many seconds for one."""
        end = time.monotonic() + wait
        with self._changed:
            # what has counted further than this has seen another journal: it is shown all of this one
            after = after if after <= self._last else 0
            while self._last <= after and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return [event for event in self._records if event["id"] > after]

    @property
    def last(self) -> int:
        """The number of the last event; 0 before the first one."""
        return self._last

    def _told(self, event: Event) -> None:
        with self._changed:
            self._last += 1
            self._records.append(record(self._last, event))
            lost = self._keep(self._records[-1])
            self._changed.notify_all()
        self._say(lost)

    def _keep(self, *events: Record) -> str:
        """Why they cannot be kept, the first time that they cannot."""
        try:
            if self._file:
                for event in events:
                    self._file.add(event)
                self._failed = False
        except OSError as error:
            first, self._failed = not self._failed, True
            return f"{error.filename or self._file.path}: {error.strerror}" if first and self._file else ""
        return ""

    def _say(self, lost: str) -> None:
        if lost:
            self._status.record_event("EventStoreFailed", f"events cannot be written to disk: {lost}", warning=True)


class _File:
    """Appends whole lines; a line that was cut off is ended first, and left out by whoever reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._older = path.with_suffix(".1.jsonl")
        self._whole = False

    def read(self) -> Iterator[Record]:
        for path in (self._older, self.path):
            try:
                with path.open("rb") as file:
                    # whatever it is, and however it came to be so large
                    lines = file.read(2 * FILE_MAX).splitlines()
            except OSError:
                continue
            for line in lines:
                with suppress(ValueError, TypeError, RecursionError):
                    kept = json.loads(line)
                    if isinstance(kept, dict) and kept.keys() == _FIELDS and isinstance(kept["id"], int):
                        datetime.fromisoformat(kept["time"])
                        yield kept

    def add(self, event: Record) -> None:
        """Append an event. Raises OSError."""
        line = json.dumps(event).encode() + b"\n"
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(file, line) < len(line):
                raise OSError(None, "the disk is full", str(self.path))
        finally:
            os.close(file)
        if size + len(line) > FILE_MAX:
            os.replace(self.path, self._older)


def kept(project: str, since: str = "", env: Mapping[str, str] = os.environ) -> list[Record]:
    """What a daemon that may have ended has left on disk, of its user or of the system; see `select`."""
    places = [default_folder(env), *([] if env.get("STATE_DIRECTORY") else [SYSTEM, *sorted(SYSTEM.glob("*/"))])]
    found = [list(_File(place / f"{project}{SUFFIX}").read()) for place in places]
    latest = max(found, key=lambda events: events[-1]["time"] if events else "")
    return select(latest, since)


def select(events: Iterable[Record], since: str) -> list[Record]:
    """Those after a number, or since a `moment`; all of them when it is empty. Raises ValueError."""
    if since.isdecimal():
        return [event for event in events if event["id"] > int(since)]
    if not since:
        return list(events)
    earliest = moment(since, datetime.now(UTC))
    return [event for event in events if datetime.fromisoformat(event["time"]) >= earliest]


def moment(text: str, now: datetime) -> datetime:
    """A time (ISO 8601; UTC unless it says otherwise), or how long before `now`, such as 2h. Raises ValueError."""
    from kvmstate.model.quantity import parse_duration

    with suppress(ValueError, OverflowError):
        return now - timedelta(seconds=parse_duration(text))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a time such as 2026-11-25T02:30Z nor a duration such as 2h") from None
    return at if at.tzinfo else at.replace(tzinfo=now.tzinfo)
