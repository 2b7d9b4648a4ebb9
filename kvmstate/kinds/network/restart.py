"""What a restart of a network means for running machines: who is on it, and how it comes back when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from kvmstate.errors import ConnectionFailed, HostError, NotFound, Reverted
from kvmstate.host import Host, networks, plugs
from kvmstate.host.objects import Network
from kvmstate.kind import Context, Scene, references
from kvmstate.kinds.network import forwards
from kvmstate.kinds.network.rules import ROUTED
from kvmstate.kinds.network.taken import Taken
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind import document, to_text
from kvmstate.xmlbind.path import parse_path

NETWORK, MACHINE = "network", "domain"
MOST_NAMES = 20
Uses = Callable[[str], bool | None]


def judge(at: Scene) -> None:
    """Judge changes of networks by the running machines that are on them, whoever's they are."""
    running, taken = plugs.Running(at.host), Taken(at)
    for id_, change in at.changes.items():
        if change.id.kind == NETWORK:
            change = forwards.judged(at, taken.judged(change))
            entry = at.inventory.get(id_)
            begun = entry is not None and len(entry.specs) > 1
            change = judged(change, at.host, running, begun, partial(_goes_on, at, id_))
            at.changes[id_] = _still_named(at, change)


def _goes_on(at: Scene, network: ResourceId, name: str) -> bool | None:
    """Whether a machine is to go on using a network; None of one that no manifest declares."""
    machine = _now(at, name)
    if (left := at.changes.get(machine)) and left.action is Action.DELETE and not left.blocked:
        return False
    wanted = at.desired.get(machine)
    if wanted is None:
        return None
    on = any(ref.target == network for ref in references(wanted.spec))
    return bool(wanted.spec.runs and (on or any(plug.bridge for plug in wanted.spec.plugs())))


def _now(at: Scene, name: str) -> ResourceId:
    """The address of a machine that is called so on the host."""
    machine = ResourceId(MACHINE, name)
    return next((id_ for id_, change in at.changes.items() if change.moved_from == machine), machine)


def _still_named(at: Scene, change: Change) -> Change:
    """A network is renamed when all machines of the project that name it are changed with it: those that are not would
    look for it in vain at their next start."""
    if change.blocked or not change.is_renamed or change.action is Action.NOOP:
        return change
    assert change.moved_from
    for name in plugs.naming(at.host, change.moved_from.name):
        if (machine := at.changes.get(_now(at, name))) is None or machine.action is Action.DELETE:
            continue
        if machine.blocked or machine.suspended:
            why = f"{machine.id}, which names it, is {'blocked' if machine.blocked else 'suspended'}"
            return replace(change, blocked=f"{change.moved_from} cannot be renamed: {why}", hint=machine.hint)
        if machine.action is Action.NOOP:
            return change.waits(
                f"{change.moved_from} has moved to {change.id}: it is renamed together with {machine.id}"
            )
    return change


def judged(change: Change, host: Host, running: plugs.Running, begun: bool, uses: Uses) -> Change:
    """The change, with the running machines named that it plugs in again or cuts off; blocked where it may not.

    `begun`: a change of it was cut off. `uses` says of a machine, by its name, whether it is to go on using it; None of
    one that no manifest declares.
    """
    name, seen = change.id.name, change.observed
    if change.blocked or change.action not in (Action.NOOP, Action.CREATE, Action.UPDATE) or change.spec is None:
        return change
    if change.moved_from and change.is_renamed:
        old = change.moved_from.name
        if strangers := [machine for machine in plugs.naming(host, old) if uses(machine) is None]:
            return replace(
                change,
                action=Action.UPDATE,
                blocked=f"{change.moved_from} cannot be renamed: {_machines(strangers)} would look for it in vain, and "
                "is not of this project",
                hint="rename it there at the same time by hand, or keep the old name",
            )
    forward = change.spec.forward
    if not (plugs.makes_bridge(seen.active_xml or seen.xml) if seen else forward is None or forward.mode in ROUTED):
        return change
    if change.running and change.spec.active and not change.restarts:
        # where it is not known to agree, a run may have been cut off between its start and the last machine
        look = change.action is Action.UPDATE or change.agrees
        cut_off = plugs.unplugged(host, name, running, begun) if look else []
        return _plugging(replace(change, action=Action.UPDATE), cut_off) if cut_off else change
    if change.action is Action.NOOP:
        return change
    found = running.on(*known(change))
    if change.running and not change.spec.active:
        return _stopping(change, [plug for plug in found if uses(plug.machine) is not False])
    if change.restarts and (lost := [plug for plug in found if not plug.follows]):
        why = f"{_named(lost)} would lose a macvtap device on its bridge for good"
        return replace(change, blocked=f"a restart of the network is refused: {why}", hint="shut that down first")
    return _plugging(change, [plug for plug in found if plug.follows]) if change.spec.active else change


def known(change: Change) -> tuple[set[str], set[str]]:
    """The names that the network and its bridge have, are to have, or had before."""
    names, seen = {change.id.name}, change.observed
    if change.moved_from:
        names.add(change.moved_from.name)
    bridges = {change.spec.bridge.name if change.spec.bridge else None}
    bridges |= {plugs.bridge(xml) for xml in (seen.xml, seen.active_xml) if xml} if seen else set()
    return names, {bridge for bridge in bridges if bridge}


def _plugging(change: Change, found: list[plugs.Plug]) -> Change:
    if not found:
        return change
    many = len({plug.machine for plug in found}) > 1
    return replace(change, plugs_in=True).saying(f"{_named(found)} {'are' if many else 'is'} plugged in again")


def _stopping(change: Change, found: list[plugs.Plug]) -> Change:
    if not found:
        return change
    if change.lifecycle.restart == "now":
        return change.saying(f"cuts off {_named(found)}")
    return replace(
        change,
        blocked=f"stopping it would cut off {_named(found)}",
        hint="shut that down or move it to another network first; lifecycle.restart: now stops it all the same",
    )


def _named(found: Iterable[plugs.Plug]) -> str:
    return _machines(sorted({plug.machine for plug in found}), "running ")


def _machines(names: Sequence[str], which: str = "") -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"the {which}machine{'s' if len(names) > 1 else ''} {', '.join(names[:MOST_NAMES])}{more}"


def plug_in(change: Change, host: Host) -> None:
    """Every interface of running machines that ends on the network, which was just started."""
    names, bridges = known(change)
    found = networks.by_uuid(host.connection, change.uuid)
    bridges.add(plugs.bridge(networks.xml(found, inactive=False)))
    there = plugs.Running(host).on(names, bridges)
    plugs.plug_in(host, found.name, [plug for plug in there if plug.follows])


class Comeback:
    """The network as it runs before a restart. `guarded` steps bring it back when they fail and it does not run."""

    def __init__(self, change: Change, at: Context) -> None:
        self._change, self._host, self._permit = change, at.host, at.gate.renaming(change)
        self._before: tuple[str, str, bool] | None = None

    def guarded(self, run: Callable[[], object]) -> Callable[[], None]:
        def guarded() -> None:
            if self._before is None:
                found = self._find()
                self._before = networks.xml(found), networks.xml(found, inactive=False), found.autostart
            try:
                run()
            except ConnectionFailed:
                raise
            except HostError as error:
                raise self._after(error) from error

        return guarded

    def _find(self) -> Network:
        return networks.by_uuid(self._host.connection, self._change.uuid)

    def _after(self, error: HostError) -> HostError:
        try:
            if self._runs():
                return error
            self._go_back()
        except ConnectionFailed:
            raise
        except HostError as failure:
            told = f"{error.message}; bringing back the network as it was failed, too: {failure.message}"
            return HostError(told, failure.hint or error.hint, error.code)
        return Reverted(f"{error.message}; the network runs again as it did before", error.hint, error.code)

    def _runs(self) -> bool:
        try:
            return networks.is_active(self._find())
        except NotFound:
            return False

    def _go_back(self) -> None:
        assert self._before is not None
        config, active, autostart = self._before
        connection = self._host.connection
        there: Network | None = None
        with suppress(NotFound):
            there = self._find()
            if there.name != parse_path("name").text(document(config)):
                networks.undefine(there, self._permit)
                there = None
        # what ran is what starts for sure; what was written and waited for a restart, waits for it again
        if there is None:
            again = networks.define(connection, _definition(active))
        else:
            again = networks.redefine(networks.configuration(there), _definition(active))
        networks.start(again)
        networks.set_autostart(networks.redefine(networks.configuration(again), config), autostart)
        plug_in(self._change, self._host)


def _definition(active: str) -> str:
    node = document(active)
    node.attrib.pop("connections", "")
    return to_text(node)
