"""What is used is not taken away. The index of who uses what is asked of real hosts in tests/behaviours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from scene import change, host, id_, resource, seen

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host.named import User
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.resource import Lifecycle, Resource, ResourceId
from kvmstate.plan.uses import keep_used, with_moved_pools

NET, VOL, POOL = "network/lan", "volume/images/root", "pool/images"
ON = host(POOL, VOL, NET, "network/wan", "domain/web", "domain/db!")


@dataclass
class Index:
    """Who uses what, as it is told."""

    users: dict[str, set[User]] = field(default_factory=dict)
    error: HostError | None = None

    def _of(self, address: str) -> set[User]:
        if self.error:
            raise self.error
        return self.users.get(address, set())

    def of_network(self, name: str) -> set[User]:
        return self._of(f"network/{name}")

    def of_pool(self, name: str) -> set[User]:
        return self._of(f"pool/{name}")

    def of_volume(self, id: ResourceId, path: str) -> set[User]:
        assert path == f"/pools/{id.name}"
        return self._of(str(id))


@dataclass
class Indexed:
    uses: Index


def web(snapshot: str = "") -> User:
    return User(id_("domain/web"), snapshot)


def wanted(changes: dict[ResourceId, Change]) -> dict[ResourceId, Resource]:
    return {id_: change.desired for id_, change in changes.items() if change.desired}


def judged(changes: list[Change], error: HostError | None = None, **users: set[User]) -> dict[str, str]:
    """What is blocked, and why."""
    named = {"net": NET, "vol": VOL, "pool": POOL}
    index = Index({named[name]: found for name, found in users.items()}, error)
    by_id = {c.id: c for c in changes}
    keep_used(Indexed(index), by_id, wanted(by_id))  # type: ignore[arg-type]
    return {str(c.id): c.blocked for c in by_id.values() if c.blocked}


def delete(address: str, **more: Any) -> Change:
    return change(address, Action.DELETE, observed=seen(ON, address), **more)


def updated(machine: str, networks: tuple[str, ...] = (), volumes: tuple[str, ...] = (), **more: Any) -> Change:
    """A machine that is to have these after the plan."""
    nics = [{"network": network} for network in networks]
    disks = [{"name": f"d{n}", "volume": volume} for n, volume in enumerate(volumes)]
    wanted = resource(machine, interfaces=nics, disks=disks)
    return change(machine, Action.UPDATE, desired=wanted, spec=wanted.spec, observed=seen(ON, machine), **more)


@pytest.mark.parametrize("address", [NET, VOL, POOL])
def test_what_somebody_else_uses_stays(address: str) -> None:
    users = {{NET: "net", VOL: "vol", POOL: "pool"}[address]: {web()}}
    assert judged([delete(address)], **users) == {address: "in use by virtual machine web"}
    assert judged([delete(address)]) == {}


def test_a_replacement_takes_it_away_too_and_what_is_blocked_already_says_why() -> None:
    replaced = change(VOL, Action.REPLACE, observed=seen(ON, VOL))
    assert judged([replaced], vol={web()}) == {VOL: "in use by virtual machine web"}
    assert judged([delete(VOL, blocked="protected")], vol={web()}) == {VOL: "protected"}


def test_a_new_layer_over_what_is_replaced_comes_too_late_for_its_machine_to_let_go() -> None:
    replaced = change(VOL, Action.REPLACE, observed=seen(ON, VOL))
    layer = resource("volume/images/layer", backing="images/root")
    made = change(str(layer.id), Action.CREATE, desired=layer, spec=layer.spec)
    moved = updated("domain/web", volumes=("images/layer",))
    assert judged([replaced, moved, made], vol={web()}) == {VOL: "in use by virtual machine web"}
    assert judged([replaced, updated("domain/web", volumes=("images/other",)), made], vol={web()}) == {}


@pytest.mark.parametrize(
    ("user", "blocked"),
    [
        (delete("domain/web"), False),
        (delete("domain/web", blocked="protected"), True),
        (delete("domain/web", suspended=True), True),
        (change("domain/web", Action.FORGET), True),
        (change("domain/web", Action.NOOP, spec=resource("domain/web").spec), True),
        # it refers to it no more, or still
        (updated("domain/web", networks=("wan",)), False),
        (updated("domain/web", networks=("wan", "lan")), True),
        (updated("domain/web", networks=("wan",), blocked="never"), True),
    ],
)
def test_who_goes_with_the_same_plan_or_lets_go_is_no_reason(user: Change, blocked: bool) -> None:
    assert judged([delete(NET), user], net={web()}).keys() >= ({NET} if blocked else set())
    assert (NET in judged([delete(NET), user], net={web()})) is blocked


def test_who_is_renamed_and_lets_go_is_no_reason() -> None:
    for networks, blocked in ((("wan",), False), (("wan", "lan"), True)):
        new = updated("domain/db", networks=networks, moved_from=id_("domain/web"))
        assert (NET in judged([delete(NET), new], net={web()})) is blocked


def test_what_runs_lets_go_with_its_next_start_only() -> None:
    waits = (FieldChange(("interfaces",), 1, 2, Effect.RESTART),)
    running = updated("domain/db", networks=("wan",), active_fields=waits)
    using = {User(id_("domain/db"))}
    assert judged([delete(NET), running], net=using) == {NET: "in use by virtual machine db"}
    now = updated("domain/db", networks=("wan",), active_fields=waits, lifecycle=Lifecycle(restart="now"))
    assert judged([delete(NET), now], net=using) == {}


def test_a_snapshot_holds_what_its_machine_had() -> None:
    moved = updated("domain/web", volumes=("images/other",))
    told = {VOL: "in use by snapshot one of virtual machine web"}
    assert judged([delete(VOL), moved], vol={web("snapshot one")}) == told
    # unless the machine goes
    assert judged([delete(VOL), delete("domain/web")], vol={web("snapshot one")}) == {}


def test_a_pool_is_used_by_who_names_any_of_its_volumes() -> None:
    assert POOL in judged([delete(POOL), updated("domain/web", volumes=("images/other",))], pool={web()})
    assert judged([delete(POOL), updated("domain/web", volumes=("elsewhere/root",))], pool={web()}) == {}


def test_who_is_kept_keeps_what_it_uses() -> None:
    layer = "volume/images/layer"
    on = host(POOL, VOL, layer)
    changes = [change(a, Action.DELETE, observed=seen(on, a)) for a in (VOL, layer)]
    by_id = {c.id: c for c in changes}
    index = Index({layer: {web()}, VOL: {User(id_(layer))}})
    keep_used(Indexed(index), by_id, wanted(by_id))  # type: ignore[arg-type]
    assert by_id[id_(layer)].blocked == "in use by virtual machine web"
    assert by_id[id_(VOL)].blocked == "in use by volume images/layer"


def test_what_cannot_be_told_counts_as_used_and_a_lost_host_ends_it() -> None:
    assert judged([delete(VOL)], HostError("pool x is not active", "start it")) == {VOL: "pool x is not active"}
    with pytest.raises(ConnectionFailed):
        judged([delete(VOL)], ConnectionFailed("gone"))


@pytest.mark.parametrize(
    ("lifecycle", "blocked"),
    [({"replace": "allow"}, False), ({}, True), ({"replace": "allow", "preventDestroy": True}, True)],
)
def test_a_pool_that_is_replaced_takes_its_volumes_along_if_their_lifecycles_let_it(
    lifecycle: dict[str, Any], blocked: bool
) -> None:
    pool, wanted = change(POOL, Action.REPLACE, observed=seen(ON, POOL)), resource(VOL, lifecycle)
    other = change("volume/images2/root", desired=wanted, observed=seen(ON, VOL))
    inside = change(VOL, desired=wanted, observed=seen(ON, VOL), lifecycle=wanted.lifecycle)
    changes = {c.id: c for c in (pool, inside, other)}
    with_moved_pools(changes)
    assert bool(changes[pool.id].blocked) is blocked
    assert changes[inside.id].action is (Action.NOOP if blocked else Action.REPLACE)
    assert changes[other.id].action is Action.NOOP
