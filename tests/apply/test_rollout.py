"""Which machine of a plan is restarted when, decided without a host."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from kvmstate.apply.rollout import Restarts
from kvmstate.kinds import BY_NAME
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.model.rollout import Rollout

WAITS = (FieldChange(("cpus",), 1, 2, Effect.RESTART),)


def machine(name: str) -> Resource:
    spec = BY_NAME["VirtualMachine"].adapter.validate_python({"memory": "32MiB"})
    return Resource(ResourceId("domain", name), spec, Metadata(name=name), Lifecycle(restart="now"))


def change(name: str, running: bool = True) -> Change:
    """A restart; the start of one that is off."""
    wanted, seen = machine(name), SimpleNamespace(running=running)
    fields: dict[str, Any] = {"active_fields": WAITS if running else ()}
    made = Change(wanted.id, Action.UPDATE, desired=wanted, lifecycle=wanted.lifecycle, spec=wanted.spec, **fields)
    return replace(made, observed=seen)  # type: ignore[arg-type]


def order(restarts: Restarts, names: list[str], failing: str = "") -> list[str]:
    """What is under way together, step by step: all that begins ends with the next step."""
    ready, steps = [ResourceId("domain", name) for name in names], []
    while ready:
        begun: list[ResourceId] = []
        while id_ := restarts.next(ready, idle=not begun):
            ready.remove(id_)
            if why := restarts.refusal(id_):
                steps.append(f"not {id_.name}: {why}")
            else:
                restarts.begin(id_)
                begun.append(id_)
        steps += [" ".join(id_.name for id_ in begun)] if begun else []
        for id_ in begun:
            restarts.end(id_, failed=id_.name == failing)
    return steps


NAMES = list("abcdefg")
RESTARTS = [change(name) for name in NAMES]
OWN = [machine(name) for name in NAMES]


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        (1, "a,b,c,d,e,f,g"),
        (2, "a,b c,d e,f g"),
        ("30%", "a,b c,d e,f g"),
        ("0%", "a,b,c,d,e,f,g"),
        (9, "a,b c d e f g"),
    ],
)
def test_the_first_goes_alone_and_then_as_many_as_may_be_down(most: int | str, steps: str) -> None:
    assert order(Restarts(RESTARTS, Rollout(max_unavailable=most), OWN), NAMES) == steps.split(",")


def test_none_follows_one_that_failed() -> None:
    why = "no other machine is restarted: domain/b failed"
    stopped = order(Restarts(RESTARTS, Rollout(max_unavailable=2), OWN), NAMES, failing="b")
    assert stopped == ["a", "b c", *(f"not {name}: {why}" for name in "defg")]


def test_what_is_off_is_started_before_and_counts_when_that_fails() -> None:
    changes = [*RESTARTS[:2], change("x", running=False)]
    assert order(Restarts(changes, Rollout(), OWN), ["a", "b", "x"]) == ["x", "a", "b"]
    why = "no other machine is restarted: domain/x failed"
    assert order(Restarts(changes, Rollout(), OWN), ["a", "b", "x"], "x") == ["x", f"not a: {why}", f"not b: {why}"]


def test_what_is_down_otherwise_counts() -> None:
    asked: list[str] = []

    def lacks(machines: Any) -> list[str]:
        asked.extend(machine.id.name for machine in machines)
        return ["domain/g does not run"]

    assert order(Restarts(RESTARTS[:3], Rollout(max_unavailable=2), OWN, lacks), ["a", "b", "c"]) == ["a", "b", "c"]
    assert asked == ["d", "e", "f", "g"]
    why = "rollout.maxUnavailable is 1, and domain/g does not run"
    assert order(Restarts(RESTARTS[:1], Rollout(), OWN, lacks), ["a"]) == [f"not a: {why}"]


def test_nobody_is_asked_where_nothing_is_restarted() -> None:
    def lacks(machines: Any) -> list[str]:
        raise AssertionError

    assert order(Restarts([change("x", running=False)], Rollout(), OWN, lacks), ["x", "y"]) == ["x y"]


def test_a_machine_is_down_from_when_its_disk_is_made_again_until_it_is_back() -> None:
    disks = [
        Change(ResourceId("volume", f"images/{name}"), Action.REPLACE, stops=ResourceId("domain", name))
        for name in "ab"
    ]
    restarts = Restarts([*disks, *RESTARTS[:2]], Rollout(), OWN)
    one, two = (disk.id for disk in disks)
    assert restarts.next([one, two], idle=True) == one
    restarts.begin(one)
    assert restarts.next([two], idle=False) is None
    restarts.end(one)
    assert restarts.next([two], idle=True) is None
    a = ResourceId("domain", "a")
    assert restarts.next([two, a], idle=True) == a
    restarts.begin(a)
    restarts.end(a)
    assert restarts.next([two], idle=True) == two
    restarts.begin(two)
    restarts.end(two, failed=True)
    assert restarts.refusal(ResourceId("domain", "c")) == ""
    # it is off: starting it takes nothing down
    assert restarts.refusal(ResourceId("domain", "b")) == ""
