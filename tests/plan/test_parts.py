"""A part of a plan."""

from __future__ import annotations

import pytest
from scene import change, id_

from kvmstate.errors import PlanError
from kvmstate.model.change import Action
from kvmstate.plan.select import matching, select

PLAN = (
    change("pool/images"),
    change("volume/images/base", needs=("pool/images",)),
    change("volume/images/root", needs=("volume/images/base",)),
    change("network/lan", Action.CREATE),
    change("domain/web-1", Action.UPDATE, needs=("volume/images/root", "network/lan")),
    change("domain/web-2", needs=("network/lan",)),
)


@pytest.mark.parametrize(
    ("targets", "excludes", "kept"),
    [
        ((), (), "images images/base images/root lan web-1 web-2"),
        (("network/lan",), (), "lan"),
        (("domain/web-1",), (), "images images/base images/root lan web-1"),
        (("domain/*",), (), "images images/base images/root lan web-1 web-2"),
        (("volume/images/*",), (), "images images/base images/root"),
        (("VirtualMachine/web-2",), (), "lan web-2"),
        (("domain/web-2", "pool/images"), (), "images lan web-2"),
        ((), ("network/lan",), "images images/base images/root"),
        ((), ("pool/images",), "lan web-2"),
        ((), ("domain/web-1",), "images images/base images/root lan web-2"),
        (("domain/*",), ("volume/images/base",), "images lan web-2"),
    ],
)
def test_what_stays(targets: tuple[str, ...], excludes: tuple[str, ...], kept: str) -> None:
    found, left_out = select(PLAN, targets, excludes)
    assert [c.id.name for c in found] == kept.split()
    assert {c.id for c in found} | {*left_out} == {c.id for c in PLAN}
    assert all(need in {c.id for c in found} for c in found for need in c.needs)


@pytest.mark.parametrize(
    ("option", "pattern", "hint"),
    [
        ("targets", "domain/web1", "did you mean domain/web-1?"),
        ("targets", "Network/lan2", "did you mean network/lan?"),
        ("targets", "web-1", "did you mean domain/web-1?"),
        ("targets", "virtualmachine/web-1", "did you mean domain/web-1?"),
        ("excludes", "nothing", "addresses are as plans write them, such as domain/web-1 or 'volume/images/*'"),
    ],
)
def test_an_address_that_names_nothing(option: str, pattern: str, hint: str) -> None:
    given = {"targets": (), "excludes": ()} | {option: (pattern,)}
    with pytest.raises(PlanError, match="there is no such resource in this plan") as raised:
        select(PLAN, **given)
    assert raised.value.hint == hint


def test_nothing_is_deleted_or_forgotten_that_was_not_named() -> None:
    gone = (
        change("domain/web", Action.DELETE),
        change("network/lan", Action.DELETE, needs=("domain/web",)),
        change("network/old", Action.FORGET),
        change("domain/db", needs=("network/old",)),
    )
    with pytest.raises(PlanError, match="network/lan cannot go alone: domain/web, which leaves too, refers to it"):
        select(gone, ("network/lan",), ())
    assert [str(c.id) for c in select(gone, ("network/lan", "domain/web"), ())[0]] == ["domain/web", "network/lan"]
    assert [str(c.id) for c in select(gone, ("domain/db",), ())[0]] == ["domain/db"]


def test_kinds_may_be_named_as_manifests_do() -> None:
    known = [c.id for c in PLAN]
    assert matching(known, "VirtualMachine/web-?") == {id_("domain/web-1"), id_("domain/web-2")}
    assert matching(known, "StoragePool/*") == {id_("pool/images")}
    assert matching(known, "*") == {*known}
    # case counts
    assert matching(known, "domain/WEB-1") == set()
