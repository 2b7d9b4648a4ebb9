"""Renames: what counts as one, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest
from scene import change, entry, host, id_, inventory, resource, seen, xml

from kvmstate.model.change import Action
from kvmstate.model.resource import Lifecycle, Move
from kvmstate.plan import moves
from kvmstate.plan.planner import observe

OLD, NEW = "network/old", "network/new"


@pytest.mark.parametrize(
    ("said", "desired", "there", "owned", "moved"),
    [
        ([(OLD, NEW)], [NEW], [OLD], [OLD], {NEW: OLD}),
        # by hand, or by a run that was cut off
        ([(OLD, NEW)], [NEW], [NEW], [OLD], {}),
        # history, and no error: nothing of the old name, still declared, not declared, both there, nobody's
        ([(OLD, NEW)], [NEW], [], [OLD], {}),
        ([(OLD, NEW)], [OLD, NEW], [OLD], [OLD], {}),
        ([(OLD, NEW)], [], [OLD], [OLD], {}),
        ([(OLD, NEW)], [NEW], [OLD, NEW], [OLD], {}),
        ([(OLD, NEW)], [NEW], [OLD], [], {}),
        ([(OLD, NEW)], [NEW], [NEW], [NEW], {}),
        # by way of another name
        ([(OLD, "network/mid"), ("network/mid", NEW)], [NEW], [OLD], [OLD], {NEW: OLD}),
        ([(OLD, "network/mid"), ("network/mid", OLD)], [NEW], [OLD], [OLD], {}),
    ],
)
def test_what_has_moved(
    said: list[tuple[str, str]], desired: list[str], there: list[str], owned: list[str], moved: dict[str, str]
) -> None:
    wanted = {id_(a): resource(a) for a in desired}
    record, on = inventory(*map(resource, owned)), host(*there)
    listed = [Move(id_(old), id_(new)) for old, new in said]
    found = moves.follow(listed, wanted, record, observe(on, map(id_, there)))
    assert {str(new): str(old) for new, old in found.origins.items()} == moved
    for new, old in found.origins.items():
        assert old not in found.inventory.entries
        assert old not in found.observed
        # without its digest: it is compared whatever was agreed on
        assert (found.inventory.entries[new].id, found.inventory.entries[new].digest) == (new, "")
        assert found.observed[new].id == old


def test_a_move_that_the_host_knows_already_is_adopted() -> None:
    on = host()
    on.add(xml(OLD).replace("<name>old", "<name>new"))
    wanted = {id_(NEW): resource(NEW)}
    found = moves.follow([Move(id_(OLD), id_(NEW))], wanted, inventory(resource(OLD)), {id_(NEW): seen(on, NEW)})
    assert found.origins == {id_(NEW): id_(OLD)}
    judged = moves.judge(change(NEW, Action.UPDATE, observed=found.observed[id_(NEW)]), id_(OLD))
    assert (judged.action, judged.reason) == (Action.ADOPT, "network/old has moved to network/new")


@pytest.mark.parametrize(
    ("old", "running", "action", "restart", "expected", "blocked"),
    [
        ("network/old", False, Action.NOOP, "whenOff", Action.UPDATE, ""),
        ("network/old", True, Action.NOOP, "whenOff", Action.NOOP, ""),
        ("network/old", True, Action.NOOP, "now", Action.UPDATE, ""),
        ("network/old", True, Action.NOOP, "never", Action.UPDATE, "it cannot be renamed while it runs"),
        ("network/old", False, Action.REPLACE, "whenOff", Action.REPLACE, "and would be replaced"),
        ("pool/old", False, Action.NOOP, "whenOff", Action.UPDATE, "libvirt cannot rename a storage pool"),
        ("volume/images/old", False, Action.NOOP, "whenOff", Action.UPDATE, "a volume's name is its file's name"),
    ],
)
def test_when_it_is_renamed(
    old: str, running: bool, action: Action, restart: Any, expected: Action, blocked: str
) -> None:
    on = host("pool/images", old, off=() if running else (old,))
    new = change(old.replace("old", "new"), action, observed=seen(on, old), lifecycle=Lifecycle(restart=restart))
    judged = moves.judge(new, id_(old))
    assert (judged.action, judged.moved_from) == (expected, id_(old))
    assert (blocked in judged.blocked) if blocked else not judged.blocked


@pytest.mark.parametrize(
    ("gone", "come", "told"),
    [
        (["network/old"], ["network/new"], {"network/new"}),
        # of several only what is the same to the letter
        (["network/old", "network/older"], ["network/new"], set()),
        (["network/old"], ["network/new", "network/newer"], set()),
        (["domain/old"], ["network/new"], set()),
        # of what cannot be renamed, nothing is said
        (["pool/old"], ["pool/new"], set()),
    ],
)
def test_where_something_goes_and_its_like_comes_a_rename_is_hinted_at(
    gone: list[str], come: list[str], told: set[str]
) -> None:
    on, record = host(*gone), inventory(*(entry(resource(a, mtu=1400) if "net" in a else resource(a)) for a in gone))
    changes = {id_(a): change(a, Action.DELETE, observed=seen(on, a)) for a in gone}
    changes |= {id_(a): change(a, Action.CREATE, desired=resource(a)) for a in come}
    moves.hints(changes, record)
    assert {str(c.id) for c in changes.values() if c.hint} == told


def test_the_one_that_is_the_same_to_the_letter_is_hinted_at() -> None:
    on = host("network/a", "network/b")
    record = inventory(resource("network/a", mtu=1400), resource("network/b", mtu=9000))
    changes = {id_(a): change(a, Action.DELETE, observed=seen(on, a)) for a in ("network/a", "network/b")}
    changes[id_(NEW)] = change(NEW, Action.CREATE, desired=resource(NEW, mtu=9000))
    moves.hints(changes, record)
    assert changes[id_(NEW)].hint == (
        "if this is network/b renamed, write `moved: [{from: network/b, to: network/new}]` into kvmstate.yaml"
    )
