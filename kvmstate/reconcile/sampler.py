"""What machines use, looked at now and then for the metrics, where `reconcile.metrics: machines` asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

from kvmstate.errors import HostError
from kvmstate.host import Host, open_host
from kvmstate.host.objects import Domain
from kvmstate.host.stats import samples
from kvmstate.reconcile.status_store import StatusStore

# Seconds between two looks, as often as Prometheus asks by default at most
PERIOD = 15.0
# Seconds until it is seen that it is asked for
IDLE = 5.0


class Sampler(threading.Thread):
    """Keeps the status store's `machines`, of the project's own, by a connection of its own: a machine that takes long
    holds up nobody. Ends soon after `stop`."""

    def __init__(self, status: StatusStore, asked: Callable[[], str | None], stop: threading.Event) -> None:
        """`asked` gives the host's URI as long as it is to be looked at."""
        super().__init__(name="sampler", daemon=True)
        self._status, self._asked, self._stop_ = status, asked, stop

    def run(self) -> None:
        opened, host = ExitStack(), None
        while not self._stop_.wait(PERIOD if host else IDLE):
            uri = self._asked()
            if uri is None:
                opened.close()
                host = None
                self._status.update(machines=())
                continue
            try:
                host = host or opened.enter_context(open_host(uri))
                self._look(host)
            except HostError:
                # the loop tells of it
                opened.close()
                host = None
                self._status.update(machines=())
                if self._stop_.wait(PERIOD):
                    break
        opened.close()

    def _look(self, host: Host) -> None:
        own = {id_.name for id_ in self._status.state.resources if id_.kind == Domain.type}
        found = samples(host.connection)
        self._status.update(machines=tuple(each for each in found if each.name in own))
