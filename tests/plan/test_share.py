"""A large share of what is owned does not leave at once."""

from __future__ import annotations

import pytest
from scene import change, entry, inventory, resource

from kvmstate.errors import PlanError
from kvmstate.model.change import Action
from kvmstate.plan.brake import check_share

NAMES = [f"network/n{number}" for number in range(10)]
OWNED = inventory(*map(resource, NAMES))


@pytest.mark.parametrize(
    ("deletes", "share", "meant", "refused"),
    [
        (0, 0.0, None, False),
        # one or two always may
        (1, 0.0, None, False),
        (2, 0.0, None, False),
        (3, 0.0, None, True),
        (3, 1 / 3, None, False),
        (4, 1 / 3, None, True),
        (3, 0.3, None, False),
        (4, 1 / 3, 4, False),
        # just so many are meant
        (5, 1 / 3, 4, True),
        (3, 0.0, 4, True),
        (10, 1.0, None, False),
    ],
)
def test_how_many_may_leave(deletes: int, share: float, meant: int | None, refused: bool) -> None:
    changes = [change(name, Action.DELETE if n < deletes else Action.NOOP) for n, name in enumerate(NAMES)]
    stays = {c.id for c in changes if c.action is Action.NOOP} or {change("domain/any").id}
    if not refused:
        check_share(changes, stays, OWNED, share, meant, partial=False)
        return
    with pytest.raises(
        PlanError, match=f"{deletes} of the 10 resources that project shop owns would be deleted"
    ) as raised:
        check_share(changes, stays, OWNED, share, meant, partial=False)
    assert f"--max-delete-share {deletes * 10}%" in raised.value.hint


def test_what_is_blocked_or_forgotten_does_not_leave() -> None:
    changes = [change(name, Action.DELETE, blocked="used") for name in NAMES[:5]]
    changes += [change(name, Action.FORGET) for name in NAMES[5:]]
    check_share(changes, {change("domain/any").id}, OWNED, 0.0, None, partial=False)


def test_all_of_it_was_asked_about_already() -> None:
    check_share([change(name, Action.DELETE) for name in NAMES], set(), OWNED, 0.0, None, partial=False)


@pytest.mark.parametrize(
    ("owned", "refused"),
    [
        ([resource(name) for name in NAMES], True),
        # what would not go does not count
        ([resource(name, {"preventDestroy": True} if n > 1 else None) for n, name in enumerate(NAMES)], False),
        ([resource(name, {"deletion": "orphan"} if n > 1 else None) for n, name in enumerate(NAMES)], False),
        ([entry(resource(name), suspended="since noon" if n > 1 else "") for n, name in enumerate(NAMES)], False),
    ],
)
def test_what_a_partial_plan_has_not_looked_at_counts_as_well(owned: list[object], refused: bool) -> None:
    record = inventory(*owned)  # type: ignore[arg-type]
    changes, stays = [change(NAMES[0], Action.DELETE)], {change("network/n9").id}
    if refused:
        with pytest.raises(PlanError, match="9 of the 10"):
            check_share(changes, stays, record, 0.1, None, partial=True)
    else:
        check_share(changes, stays, record, 0.1, None, partial=True)
    check_share(changes, stays, record, 0.1, None, partial=False)
