"""All receivers of a project, as kvmstate.yaml has them by now."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial

from kvmstate.manifest.notifications import Notification
from kvmstate.reconcile.notify.credentials import Credentials
from kvmstate.reconcile.notify.notices import Notice, notice
from kvmstate.reconcile.notify.receiver import Receiver
from kvmstate.reconcile.status_store import Event, StatusStore


class Notifier:
    """Subscribes to the status store. `counts` are of notices, by receiver's type and what became of them: sent or
    held."""

    def __init__(self, status: StatusStore) -> None:
        self._status = status
        self._lock = threading.Lock()
        self._settings: tuple[Sequence[Notification], Credentials] = ((), Credentials())
        self._receivers: list[Receiver] = []
        self._failing: set[str] = set()
        self.counts: Counter[tuple[str, str]] = Counter()
        status.subscribe(self._told)

    def configure(self, to: Sequence[Notification], credentials: Credentials) -> None:
        """What has not changed goes on. A receiver that is new is told what is wrong already."""
        if (to, credentials) == self._settings:
            return
        self.close()
        before, self._settings = self._settings[0], (to, credentials)
        wrong = [news for event in self._status.state.problems() if (news := self._news(event))]
        if to:
            # a daemon that tells nobody needs no libraries for it
            from kvmstate.reconcile.notify.senders import sender
        for each in to:
            name, send = sender(each, credentials)
            receiver = Receiver(name, send, each.on, each.per_hour, self._failed, partial(self._count, each.type))
            for news in wrong if each not in before else ():
                receiver.tell(news)
            receiver.start()
            self._receivers.append(receiver)

    def close(self) -> None:
        for receiver in self._receivers:
            receiver.close()
        self._receivers = []

    def _told(self, event: Event) -> None:
        if (receivers := self._receivers) and (news := self._news(event)):
            for receiver in receivers:
                receiver.tell(news)

    def _news(self, event: Event) -> Notice | None:
        """What people are told of an event: nothing by one that stands by."""
        state = self._status.state
        return None if state.standby else notice(event, state.project, state.host)

    def _count(self, kind: str, result: str) -> None:
        with self._lock:
            self.counts[kind, result] += 1

    def _failed(self, name: str, why: str) -> None:
        with self._lock:
            known = name in self._failing
            (self._failing.add if why else self._failing.discard)(name)
        if why and not known:
            self._status.record_event("NotificationFailed", f"{name}: {why}", warning=True)
        elif known and not why:
            self._status.record_event("NotificationRecovered", name)
