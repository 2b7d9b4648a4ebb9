"""One resource: wanted against observed and last applied. What plans say of it all is in tests/kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scene import PROJECT, entry, host, resource, seen, uuid_of, xml

from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import Resource
from kvmstate.plan.compare import compare, last_applied, removal
from kvmstate.plan.remained import digests

NET, VOL = resource("network/lan", mtu=1400), resource("volume/images/root", capacity="2MiB")
NET_MTU, NEW = "<mtu size='{}'/>", "6f1c1b1e-0000-4000-8000-000000000001"


def compared(
    wanted: Resource, record: Entry | None, there: bool = True, recreate: bool = False, text: str = ""
) -> Change:
    name = wanted.id.name.rpartition("/")[2]
    on = host("pool/images", *([str(wanted.id)] if there else []), **{name: text})
    found = seen(on, str(wanted.id)) if there else None
    return compare(BY_WORD[wanted.id.kind], wanted, found, record, PROJECT, NEW, recreate)


def test_what_is_not_there_is_made_with_all_that_is_said() -> None:
    made = compared(NET, None, there=False)
    assert (made.action, made.uuid, made.reason, made.blocked) == (Action.CREATE, NEW, "", "")
    assert [(f.where, f.new) for f in made.fields] == [("active", True), ("mtu", 1400)]


@pytest.mark.parametrize(
    ("wanted", "more", "recreate", "reason", "blocked"),
    [
        (NET, {}, False, "it no longer exists on the host", ""),
        (NET, {"incomplete": True}, False, "", ""),
        (VOL, {}, False, "it no longer exists on the host", "it was there and is gone, with what it held"),
        (VOL, {}, True, "it no longer exists on the host", ""),
        (VOL, {"incomplete": True}, False, "", ""),
    ],
)
def test_what_has_gone_is_made_again_unless_it_held_data(
    wanted: Resource, more: dict[str, Any], recreate: bool, reason: str, blocked: str
) -> None:
    found = compared(wanted, entry(wanted, **more), there=False, recreate=recreate)
    assert (found.action, found.reason, found.blocked) == (Action.CREATE, reason, blocked)


def test_what_nobody_owns_is_left_alone() -> None:
    found = compared(NET, None)
    assert (found.action, found.blocked) == (Action.ADOPT, "it exists on the host, and this project does not own it")
    assert [f.where for f in found.fields] == ["mtu"]


@pytest.mark.parametrize(
    ("wanted", "uuid", "why"),
    [
        (NET, "another", "another object of this name has taken its place"),
        (
            VOL,
            "key:another",
            "it is not the object that this project made: another one of this name, or a restored copy",
        ),
        (VOL, "?", ""),
    ],
)
def test_another_object_of_the_name_is_not_the_projects(wanted: Resource, uuid: str, why: str) -> None:
    found = compared(wanted, entry(wanted, uuid))
    assert found.blocked == why
    assert (found.action is Action.ADOPT) == bool(why)


@pytest.mark.parametrize(
    ("wanted", "applied", "text", "expected"),
    [
        # wanted, applied last, on the host
        ({"mtu": 1400}, {"mtu": 1400}, "<mtu size='1400'/>", []),
        ({"mtu": 1400}, {"mtu": 1400}, "", [("mtu", None, 1400)]),
        ({"mtu": 1500}, {"mtu": 1400}, "<mtu size='1400'/>", [("mtu", 1400, 1500)]),
        # was removed from the manifest: gone, or changed by hand, it is cleared; what was never said stays
        ({}, {"mtu": 1400}, "<mtu size='1400'/>", [("mtu", 1400, None)]),
        ({}, {"mtu": 1400}, "<mtu size='9000'/>", [("mtu", 9000, None)]),
        ({}, {"mtu": 1400}, "", []),
        ({}, {}, "<mtu size='9000'/>", []),
        # by path
        ({"xml": {"./bridge/@zone": "a"}}, {}, "<bridge zone='b'/>", [("xml[./bridge/@zone]", "b", "a")]),
        ({}, {"xml": {"./bridge/@zone": "a"}}, "<bridge zone='a'/>", [("xml[./bridge/@zone]", "a", None)]),
        # libvirt never shows a password: as it was applied, so it is
        ({"xml": {"./x/@passwd": "p"}}, {"xml": {"./x/@passwd": "p"}}, "", []),
        ({"xml": {"./x/@passwd": "q"}}, {"xml": {"./x/@passwd": "p"}}, "", [("xml[./x/@passwd]", "p", "q")]),
        # XML that no field models
        ({"remainder": "<network><a b='1'/></network>"}, {}, "<a b='1' c='2'/>", []),
        ({"remainder": "<network><a b='1'/></network>"}, {}, "<a b='2'/>", [("remainder[a/@b]", "2", "1")]),
        ({}, {"remainder": "<network><a b='1'/></network>"}, "<a b='1'/>", [("remainder[a]", '<a b="1"/>', None)]),
        # what fields say of the same XML counts more
        ({"mtu": 1, "remainder": "<network><mtu size='2'/></network>"}, {}, "<mtu size='1'/>", []),
    ],
)
def test_the_three_states_of_a_field(
    wanted: dict[str, Any], applied: dict[str, Any], text: str, expected: list[Any]
) -> None:
    wanted = {name: 68 if (name, value) == ("mtu", 1) else value for name, value in wanted.items()}
    text = text.replace("size='1'", "size='68'")
    found = compared(resource("network/lan", **wanted), entry(resource("network/lan", **applied)), text=text)
    assert [(f.where, f.old, f.new) for f in found.fields] == expected
    assert found.action is (Action.UPDATE if expected else Action.NOOP)
    assert found.agrees is not bool(expected)


@pytest.mark.parametrize(
    ("ignored", "expected"), [([], ["mtu", "bridge.stp"]), (["mtu"], ["bridge.stp"]), (["bridge.stp", "mtu"], [])]
)
def test_what_is_ignored_is_no_difference(ignored: list[str], expected: list[str]) -> None:
    wanted = resource("network/lan", {"ignoreChanges": ignored}, mtu=1400, bridge={"stp": True})
    found = compared(wanted, entry(wanted), text="<mtu size='1'/><bridge stp='off'/>")
    assert sorted(f.where for f in found.fields) == sorted(expected)


def test_what_remained_is_left_as_it_is_by_other_changes() -> None:
    def machine(title: str, *disks: str) -> Resource:
        listed = [{"name": name, "volume": f"images/{name}"} for name in disks]
        return resource("domain/web", title=title, disks=listed, description=title)

    on = host("pool/images", "volume/images/root", "domain/web")
    before, kept = seen(on, "domain/web"), entry(machine("old"))
    kind = BY_WORD["domain"]
    applied = compare(kind, machine("old", "root"), before, kept, PROJECT, "")
    record = replace(kept, applied=digests(applied, lambda secret: ""))
    assert "disks[root] was applied, and" in compare(kind, machine("old", "root"), before, record, PROJECT, "").blocked
    found = compare(kind, machine("new", "root"), before, record, PROJECT, "")
    assert {f.where for f in found.fields} == {"title", "description"}
    # to define it with a disk of which no source is written would fail
    assert found.spec.disks == []


def test_what_remained_is_not_changed_live_again_and_again() -> None:
    wanted = resource("domain/web", memory="64MiB", state="running")
    on = host("domain/web!")
    on.add(xml("domain/web").replace(">65536<", ">32768<"), xml("domain/web"))
    there, kind = seen(on, "domain/web"), BY_WORD["domain"]
    first = compare(kind, wanted, there, entry(wanted), PROJECT, "")
    assert {f.where for f in first.fields} == {"memory", "maxMemory"}
    record = entry(wanted, applied=digests(first, lambda secret: ""))
    again = compare(kind, wanted, there, record, PROJECT, "")
    # what runs has as much as is wanted, and more than is defined
    assert "memory was applied, and the difference remained" in again.blocked


def test_a_change_that_was_cut_off_clears_what_either_said() -> None:
    before, next_ = resource("network/lan", mtu=1400), resource("network/lan", domain={"name": "lab"})
    record = replace(entry(before), specs=(before.written, next_.written))
    found = compared(resource("network/lan"), record, text="<mtu size='1400'/><domain name='lab'/>")
    assert [f.where for f in found.fields] == ["mtu", "domain"]


def test_a_record_that_cannot_be_read_counts_for_nothing() -> None:
    record = replace(entry(NET), specs=({"field": "of a newer version"},))
    assert compared(resource("network/lan"), record, text="<mtu size='1400'/>").agrees
    assert last_applied(record) is None
    applied = last_applied(entry(VOL))
    assert applied is not None
    assert (applied.id, applied.metadata.name) == (VOL.id, "root")


@pytest.mark.parametrize(
    ("lifecycle", "action", "blocked"),
    [
        ({}, Action.REPLACE, "format cannot change without deleting it and creating it again"),
        ({"replace": "allow"}, Action.REPLACE, ""),
        ({"replace": "allow", "preventDestroy": True}, Action.REPLACE, "preventDestroy forbids replacing it"),
    ],
)
def test_a_replacement_asks_the_lifecycle(lifecycle: dict[str, Any], action: Action, blocked: str) -> None:
    before = resource("volume/images/root", lifecycle)
    found = compared(resource("volume/images/root", lifecycle, format="raw"), entry(before))
    assert (found.action, found.blocked) == (action, blocked)


@pytest.mark.parametrize(
    ("lifecycle", "blocked"),
    [
        ({}, ""),
        ({"preventDestroy": True}, "its upload was interrupted, and preventDestroy forbids making it again"),
    ],
)
def test_what_was_not_filled_to_the_end_is_made_once_more(lifecycle: dict[str, Any], blocked: str) -> None:
    wanted = resource("volume/images/root", lifecycle, content={"file": "/an/image"})
    found = compared(wanted, entry(wanted, incomplete=True))
    assert (found.action, found.interrupted, found.blocked) == (Action.REPLACE, True, blocked)
    # what was filled, or has nothing to be filled with, is whole
    assert compared(wanted, entry(wanted)).agrees
    empty = resource("volume/images/root", lifecycle)
    assert not compared(empty, entry(empty, incomplete=True)).interrupted


def test_data_never_shrinks() -> None:
    found = compared(resource("volume/images/root", {"replace": "allow"}, capacity="512KiB"), entry(VOL))
    assert found.blocked == "capacity cannot shrink: data would be lost"


@pytest.mark.parametrize(
    ("address", "lifecycle", "prune", "there", "action", "blocked"),
    [
        ("network/lan", {}, True, True, Action.DELETE, False),
        ("network/lan", {}, False, True, Action.NOOP, False),
        ("network/lan", {}, True, False, Action.FORGET, False),
        ("network/lan", {"deletion": "orphan"}, True, True, Action.FORGET, False),
        ("network/lan", {"preventDestroy": True}, True, True, Action.DELETE, True),
        ("volume/images/root", {}, True, True, Action.FORGET, False),
        ("volume/images/root", {"deletion": "delete"}, True, True, Action.DELETE, False),
        ("pool/images", {}, True, True, Action.DELETE, False),
        ("domain/web", {}, True, True, Action.DELETE, False),
    ],
)
def test_what_left_the_manifests(
    address: str, lifecycle: dict[str, Any], prune: bool, there: bool, action: Action, blocked: bool
) -> None:
    owned = resource(address, lifecycle)
    on = host("pool/images", address)
    found = removal(BY_WORD[owned.id.kind], entry(owned), seen(on, address) if there else None, prune)
    assert (found.action, bool(found.blocked)) == (action, blocked)
    # what is not there does not stay
    assert there or found.will == "will be released"


@pytest.mark.parametrize(
    ("address", "deletion", "left", "destroyed"),
    [
        ("domain/web", "delete", "removed from the manifests", ""),
        ("volume/images/root", "delete", "removed from the manifests; its data is deleted", "its data is deleted"),
        (
            "volume/images/root",
            "orphan",
            "removed from the manifests; deletion: orphan keeps it on the host, with its data",
            "deletion: orphan keeps it on the host, with its data",
        ),
    ],
)
def test_what_is_destroyed_has_not_left_the_manifests(address: str, deletion: str, left: str, destroyed: str) -> None:
    owned = resource(address, {"deletion": deletion})
    there = seen(host("pool/images", address), address)
    for destroys, reason in ((False, left), (True, destroyed)):
        assert removal(BY_WORD[owned.id.kind], entry(owned), there, True, destroys).reason == reason


@pytest.mark.parametrize(
    ("address", "uuid", "action"),
    [
        ("network/lan", "another", Action.FORGET),
        ("volume/images/root", "key:another", Action.FORGET),
        # which one it is, was never said: it is not for deletion
        ("volume/images/root", "", Action.DELETE),
    ],
)
def test_another_object_of_the_name_is_not_deleted(address: str, uuid: str, action: Action) -> None:
    owned = resource(address, {"deletion": "delete"})
    record = replace(entry(owned), uuid=uuid)
    found = removal(BY_WORD[owned.id.kind], record, seen(host("pool/images", address), address), prune=True)
    assert found.action is action
    assert found.action is Action.FORGET or found.blocked
    assert uuid != uuid_of(owned.id)
