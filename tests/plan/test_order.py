"""What is referred to comes first; of what leaves, what refers comes first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scene import change, host, id_, inventory, resource, seen

from kvmstate.errors import ManifestErrors, PlanError
from kvmstate.model.change import Action
from kvmstate.model.resource import Resource
from kvmstate.plan import Options, make_plan
from kvmstate.plan.planner import order

POOL, BASE, LAYER = (
    resource("pool/images"),
    resource("volume/images/base"),
    resource("volume/images/layer", backing="images/base"),
)
NET = resource("network/lan")
WEB = resource("domain/web", disks=[{"name": "root", "volume": "images/layer"}], interfaces=[{"network": "lan"}])
ALL = (WEB, LAYER, NET, BASE, POOL)
NAMES = [str(r.id) for r in ALL]


def ordered(actions: dict[str, Action], desired: tuple[Resource, ...], owned: tuple[Resource, ...] = ()) -> list[str]:
    changes = {id_(a): change(a, action) for a, action in actions.items()}
    return [str(c.id) for c in order(changes, {r.id: r for r in desired}, inventory(*owned))]


def test_what_is_made_is_made_from_the_ground_up() -> None:
    found = ordered(dict.fromkeys(NAMES, Action.CREATE), ALL)
    places = {address: found.index(address) for address in NAMES}
    assert places["pool/images"] < places["volume/images/base"] < places["volume/images/layer"] < places["domain/web"]
    assert places["network/lan"] < places["domain/web"]


def test_what_lies_below_what_stays_as_it_is_comes_first_too() -> None:
    on = host("pool/images", "volume/images/base", "volume/images/layer", "domain/web")
    changes = {id_(a): change(a, Action.UPDATE) for a in ("domain/web", "volume/images/base")}
    layer = seen(on, "volume/images/layer")
    changes[LAYER.id] = change("volume/images/layer", desired=LAYER, observed=layer)
    made = {c.id: c for c in order(changes, {r.id: r for r in (WEB, LAYER, BASE)}, inventory())}
    assert BASE.id in made[WEB.id].needs


def test_what_leaves_leaves_from_the_top_down() -> None:
    found = ordered(dict.fromkeys(NAMES, Action.DELETE), (), ALL)
    places = {address: found.index(address) for address in NAMES}
    assert places["domain/web"] < places["volume/images/layer"] < places["volume/images/base"] < places["pool/images"]
    assert places["domain/web"] < places["network/lan"]


def test_who_lets_go_of_something_does_so_before_it_leaves() -> None:
    without = resource("domain/web", disks=[{"name": "root", "volume": "images/layer"}])
    found = ordered({"network/lan": Action.DELETE, "domain/web": Action.UPDATE}, (without,), (WEB, NET))
    assert found == ["domain/web", "network/lan"]


def test_who_lets_go_of_something_does_so_before_it_is_replaced() -> None:
    without = resource("domain/web", disks=[{"name": "root", "volume": "images/layer"}])
    replaced = {"network/lan": Action.REPLACE}
    changes = {id_(a): change(a, action) for a, action in (replaced | {"domain/web": Action.UPDATE}).items()}
    made = order(changes, {without.id: without, NET.id: NET}, inventory(WEB, NET))
    assert [(str(c.id), {*map(str, c.needs)}) for c in made] == [
        ("domain/web", set()),
        ("network/lan", {"domain/web"}),
    ]
    # who leaves does so before, too, and who refers to it yet comes after
    deletes = order(changes | {WEB.id: change("domain/web", Action.DELETE)}, {NET.id: NET}, inventory(WEB, NET))
    assert deletes[1].needs == {WEB.id}
    assert ordered(replaced | {"domain/web": Action.UPDATE}, (WEB, NET), (WEB, NET)) == ["network/lan", "domain/web"]


def test_a_seed_is_made_again_after_the_disks_that_boot_with_it() -> None:
    said = {"pool": "images", "format": "iso", "content": {"seed": {"metaData": "{}"}}}
    made = {
        "volume/images/a-seed.iso": resource("volume/images/a-seed.iso", **said),
        "volume/images/web-root": resource("volume/images/web-root", capacity="1MiB"),
        "volume/images/zeta": resource("volume/images/zeta", capacity="1MiB"),
    }
    by = {"a-seed.iso": "domain/web", "web-root": "domain/web", "zeta": "domain/other"}
    desired = [
        replace(each, origin=replace(each.origin, by=by[each.metadata.name.rpartition("/")[2]]))
        for each in made.values()
    ]
    changes = {each.id: change(str(each.id), Action.REPLACE, desired=each) for each in desired}
    found = {str(c.id): {*map(str, c.needs)} for c in order(changes, {r.id: r for r in desired}, inventory(*desired))}
    # else the next run would not see, after a kill between them, that the disk is of another seed
    assert {address: needs for address, needs in found.items() if needs} == {
        "volume/images/a-seed.iso": {"volume/images/web-root"}
    }


def test_machines_that_exchange_what_is_replaced_are_no_circle() -> None:
    volumes = [resource("volume/images/a"), resource("volume/images/b")]

    def machine(name: str, volume: str) -> Resource:
        return resource(f"domain/{name}", disks=[{"name": "root", "volume": f"images/{volume}"}])

    before, after = (machine("one", "a"), machine("two", "b")), (machine("one", "b"), machine("two", "a"))
    actions = {str(v.id): Action.REPLACE for v in volumes} | {str(m.id): Action.UPDATE for m in after}
    assert len(ordered(actions, (*after, *volumes), (*before, *volumes))) == 4


def test_what_the_host_has_counts_as_well() -> None:
    nic = "<interface type='network'><source network='lan'/><mac address='52:54:00:00:00:01'/></interface>"
    on = host("network/lan", "domain/web", web=nic)
    changes = {
        id_("network/lan"): change("network/lan", Action.DELETE),
        id_("domain/web"): change("domain/web", Action.UPDATE, observed=seen(on, "domain/web")),
    }
    assert [str(c.id) for c in order(changes, {}, inventory())] == ["domain/web", "network/lan"]


def test_the_order_is_the_same_whatever_the_order_of_the_manifests() -> None:
    actions = dict.fromkeys(NAMES, Action.CREATE)
    assert ordered(actions, ALL) == ordered(dict(reversed(actions.items())), ALL[::-1])


def test_a_circle_is_told() -> None:
    one, other = resource("volume/images/a", backing="images/b"), resource("volume/images/b", backing="images/a")
    with pytest.raises(PlanError, match="resources refer to each other in a circle: volume/images/"):
        ordered({str(r.id): Action.CREATE for r in (one, other)}, (one, other))


def test_a_whole_plan_is_made_of_a_host_in_memory() -> None:
    on = host("pool/images", "volume/images/base", "network/lan", "network/left")
    owned = inventory(POOL, BASE, NET, resource("network/left"))
    plan = make_plan(on, ALL, owned, Options(prune=True))
    assert {str(c.id): c.action for c in plan.todo} == {
        "network/left": Action.DELETE,
        "volume/images/layer": Action.CREATE,
        "domain/web": Action.CREATE,
    }


def test_a_reference_to_nothing_is_an_error_or_blocks_what_refers() -> None:
    on = host("pool/images")
    with pytest.raises(ManifestErrors, match="there is no network/lan, neither in the manifests nor on the host"):
        make_plan(on, (POOL, BASE, LAYER, WEB), inventory(POOL))
    plan = make_plan(on, (POOL, BASE, LAYER, WEB), inventory(POOL), Options(lenient=True))
    assert [str(c.id) for c in plan.blocked] == ["domain/web"]


def test_what_is_in_a_pool_that_is_off_is_unknown() -> None:
    off = resource("pool/images", active=False)
    plan = make_plan(host("pool/images", off=("pool/images",)), (off, BASE), inventory(off, BASE))
    found = next(c for c in plan.changes if c.id.kind == "volume")
    assert found.unknown
    assert found.action is Action.NOOP


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        (Options(prune=True), "the manifests are empty, and 2 resources would be deleted"),
        (Options(prune=True, allow_empty=True), ""),
        (
            Options(prune=True, allow_empty=True, max_deletes=1),
            "2 resources would be deleted, more than --max-deletes 1",
        ),
        (Options(), ""),
    ],
)
def test_empty_manifests_and_many_deletions_are_meant_or_refused(options: Options, refused: str) -> None:
    on, owned = host("network/a", "network/b"), inventory(resource("network/a"), resource("network/b"))
    if refused:
        with pytest.raises(PlanError, match=refused):
            make_plan(on, (), owned, options)
    else:
        assert len(make_plan(on, (), owned, options).todo) == (2 if options.prune else 0)


def test_who_stays_keeps_what_it_refers_to() -> None:
    on = host("pool/images", "volume/images/base", "volume/images/layer", "network/lan", "domain/web")
    plan = make_plan(on, (POOL, BASE, LAYER, WEB), inventory(*ALL), Options(prune=True))
    assert [(str(c.id), c.blocked) for c in plan.blocked] == [
        ("network/lan", "in use by domain/web, which the manifests declare")
    ]
