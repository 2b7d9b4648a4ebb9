"""Which machines come after which, and something done to each in that order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from kvmstate.errors import HostError, KvmstateError
from kvmstate.host import Host, domains
from kvmstate.host.overview import Seen, look
from kvmstate.kinds.virtual_machine.settings.host import HostBoot
from kvmstate.xmlbind import document, parse
from kvmstate.xmlbind.path import NAMESPACES

_BOOT, _SHUTDOWN = NAMESPACES["host-boot"], NAMESPACES["host-shutdown"]
# So many are started or stopped at a time
PARALLEL = 10
# What became of a machine: a sentence after its name, or why it failed
Told = str | KvmstateError


@dataclass(frozen=True)
class Guest:
    """A machine; `boot` where the host's boot starts it, `ways` to be tried in turn when the host shuts down."""

    seen: Seen
    boot: HostBoot | None = None
    ways: tuple[str, ...] = ()
    after: Set[str] = field(default_factory=frozenset)

    @property
    def name(self) -> str:
        return self.seen.domain.name


def guests(host: Host) -> list[Guest]:
    """Those of a host that say anything of it. Raises ConnectionFailed, HostError."""
    return [guest for guest in host.each(_guest, look(host.connection)) if guest.boot or guest.ways]


def _guest(seen: Seen) -> Guest:
    text = domains.xml(seen.domain)
    if _BOOT not in text and _SHUTDOWN not in text:
        return Guest(seen)
    root = document(text)
    node = root.find(f"metadata/{{{_BOOT}}}boot")
    boot = parse(HostBoot, node) if node is not None else None
    ways = tuple(each.get("how", "") for each in root.iterfind(f"metadata/{{{_SHUTDOWN}}}shutdown/{{{_SHUTDOWN}}}try"))
    return Guest(seen, boot, ways, frozenset(boot.after) if boot else frozenset())


def in_order(
    found: Mapping[str, Guest], before: Mapping[str, Set[str]], do: Callable[[Guest], str]
) -> Iterator[tuple[str, Told]]:
    """Do it to each machine once it has been done to those `before` it, whether or not that went well, several at a
    time. Yields the name of each and what became of it as it comes; first those that wait for each other, for which
    there is no order."""
    order = TopologicalSorter({name: before[name] & found.keys() for name in found})
    try:
        order.prepare()
    except CycleError as error:
        ring = error.args[1]
        yield (
            ring[0],
            HostError(f"it waits for itself: {' after '.join(ring)}", "correct hostBoot.after of one of them"),
        )
        # without the first of them the others have an order
        yield from in_order(found, {**before, ring[0]: frozenset()}, do)
        return
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="guests") as pool:
        at_work: dict[Future[str], str] = {}
        while order.is_active():
            at_work |= {pool.submit(do, found[name]): name for name in order.get_ready()}
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                name = at_work.pop(future)
                try:
                    yield name, future.result()
                except KvmstateError as error:
                    yield name, error
                order.done(name)
