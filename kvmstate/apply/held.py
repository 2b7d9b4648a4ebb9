"""Work on virtual machines outside of a plan: under the lock of whoever owns them, as an apply of theirs would be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from kvmstate.apply.lock import open_lock
from kvmstate.apply.owners import owners
from kvmstate.errors import HostError
from kvmstate.host import Host, domains
from kvmstate.host.objects import Domain


@contextmanager
def held(
    host: Host, machines: Iterable[str], command: str, timeout: float, told: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Hold the locks of the projects that own these machines, waiting up to `timeout` seconds for each; one that nobody
    owns needs none. Gives what is to be called before every change. Raises Locked and HostError."""
    names = list(machines)
    with ExitStack() as stack:
        owned, locks = owners(host, names), []
        # in one order, so that two such runs never wait for each other
        for project in sorted(set(owned.values())):
            lock = open_lock(host, project)
            stack.enter_context(lock.held(command, timeout, told))
            locks.append(lock)
        if locks and owners(host, names) != owned:
            raise HostError("whose the virtual machines are has changed meanwhile", "nothing was done: run this again")

        def check() -> None:
            for lock in locks:
                lock.check()

        yield check


def restart(
    host: Host,
    domain: Domain,
    command: str,
    lock_timeout: float,
    timeout: float,
    power_off: bool,
    say: Callable[[str], None],
    told: Callable[[float], None],
) -> None:
    """Stop and start a machine under the lock of its owner, so that no daemon comes in between; see `domains.shutdown`.
    Raises Locked and HostError."""
    with held(host, [domain.name], command, lock_timeout, say) as check:
        check()
        domains.shutdown(domain, timeout, power_off, told=told)
        check()
        domains.start(domain)
