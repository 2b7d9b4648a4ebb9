"""Start the machines of a host that boots, and stop those of one that shuts down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from kvmstate.apply.standing import Standing, Standings
from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.guests.order import Guest, Told, guests, in_order
from kvmstate.host import Host, domains, power
from kvmstate.kind.health import HealthCheck
from kvmstate.kind.probe import Probe, Unhealthy

# Of hostBoot.waitFor
TIMEOUT = 60


def boot(host: Host) -> Iterator[tuple[str, Told]]:
    """Start all that have `hostBoot`, each after those that it names. Yields what became of each; raises
    ConnectionFailed and HostError for the host as a whole."""
    found = {guest.name: guest for guest in guests(host) if guest.boot}
    standings = Standings(host)
    # read while nothing is at work yet
    known = {name: standings.of(guest.seen.domain) for name, guest in found.items()}
    after = {name: guest.after for name, guest in found.items()}
    return in_order(found, after, lambda guest: _start(guest, known[guest.name]))


def shutdown(host: Host, timeout: int | None = None) -> Iterator[tuple[str, Told]]:
    """Stop all that have `onHostShutdown` and run, each once those that come after it have stopped. A guest may take
    its lifecycle's `stop.timeout` to shut down, or these seconds. Yields and raises as `boot` does."""
    every = {guest.name: guest for guest in guests(host)}
    found = {name: guest for name, guest in every.items() if guest.ways and guest.seen.active}
    later = {name: frozenset(other.name for other in every.values() if name in other.after) for name in found}
    standings = Standings(host)
    # read while nothing is at work yet
    times = {name: timeout or standings.of(guest.seen.domain).lifecycle.stop.timeout for name, guest in found.items()}
    return in_order(found, later, lambda guest: _stop(guest, times[guest.name]))


def _start(guest: Guest, standing: Standing) -> str:
    if guest.seen.active:
        return f"is {guest.seen.state} already"
    standing.check_start()
    assert guest.boot
    if guest.boot.delay:
        time.sleep(guest.boot.delay)
    domains.start(guest.seen.domain)
    said = "goes on from its saved memory" if guest.seen.state == "saved" else "started"
    check = guest.boot.wait_for
    if not check or not (check.address or check.guest_agent):
        return said
    wanted = HealthCheck.model_construct(
        address=bool(check.address),
        guest_agent=bool(check.guest_agent),
        cloud_init=False,
        tcp_socket=None,
        timeout=check.timeout or TIMEOUT,
    )
    try:
        Probe(wanted, guest.seen.domain, "hostBoot.waitFor in its manifest").started().wait()
    except Unhealthy as error:
        raise HostError(f"{said}, and {error.message}; what comes after it is started", error.hint) from None
    return said


def _stop(guest: Guest, timeout: int) -> str:
    """In the first of its ways that works."""
    domain = guest.seen.domain
    ways: dict[str, tuple[str, Callable[[], None]]] = {
        "save": ("saved; its next start goes on from there", lambda: power.save(domain)),
        "shutdown": ("shut down", partial(domains.shutdown, domain, timeout, False, hint="")),
        "poweroff": ("powered off", lambda: domains.destroy(domain)),
    }
    failed = []
    for way in guest.ways:
        if way not in ways:
            failed.append(f"{way}: this version knows no such way")
            continue
        said, do = ways[way]
        try:
            do()
        except ConnectionFailed:
            raise
        except HostError as error:
            failed.append(f"{way}: {error.message}")
        else:
            return "; ".join([said, *failed])
    raise HostError(f"it goes on running; {'; '.join(failed)}", "let onHostShutdown end with poweroff")
