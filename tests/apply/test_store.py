"""The inventory's store: whatever is cut off, what was recorded stays, and what was dropped does not come back."""

from __future__ import annotations

import json
import random
import string
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmstate.apply import inventory
from kvmstate.apply.inventory import Store
from kvmstate.apply.keep import Files
from kvmstate.apply.transfer import transfer
from kvmstate.errors import HostError, Locked
from kvmstate.host import Host
from kvmstate.model.identity import Identity
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId


class Crash(BaseException):
    pass


class Fragile(Files):
    """Files that end the process, as it were, before the write or deletion whose number is `last`."""

    last = -1

    def write(self, name: str, value: bytes) -> None:
        self._tick()
        super().write(name, value)

    def delete(self, name: str) -> None:
        self._tick()
        super().delete(name)

    def _tick(self) -> None:
        if self.last == 0:
            raise Crash
        self.last -= 1


def keep(kind: type[Files] = Files, project: str = "p") -> Files:
    return kind(Host(None, "test:///default"), project)


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield


def entry(name: str, size: int = 10) -> Entry:
    # not compressible: what is measured must hold in the worst case
    letters = random.Random(f"{name}/{size}").choices(string.ascii_letters, k=size)
    return Entry(ResourceId("domain", name), f"uuid-{name}", ({"description": "".join(letters)},))


@contextmanager
def small_shards() -> Iterator[None]:
    with mock.patch.object(inventory, "SHARD_BYTES", 1000):
        yield


NAMES = st.sampled_from([f"vm-{n}" for n in range(8)])
# a size of None drops; what is put or dropped together is flushed together
BATCHES = st.lists(st.lists(st.tuples(NAMES, st.sampled_from([20, 300, 700, None])), max_size=6), max_size=8)


@settings(deadline=None, max_examples=400)
@given(BATCHES, st.integers(0, 20), st.booleans())
def test_a_crash_at_any_write_leaves_each_entry_as_it_was_or_as_it_was_to_be(
    batches: list[list[tuple[str, int | None]]], last: int, reload: bool
) -> None:
    project = f"p{random.getrandbits(64)}"
    wanted: dict[ResourceId, Entry] = {}
    flushed: dict[ResourceId, Entry] = {}
    with small_shards():
        kept = keep(Fragile, project)
        kept.last = last
        store = Store(kept, project, clock=lambda: 0)
        with suppress(Crash):
            for batch in batches:
                for name, size in batch:
                    if size is None:
                        store.drop(ResourceId("domain", name))
                        wanted.pop(ResourceId("domain", name), None)
                    else:
                        store.put(new := entry(name, size))
                        wanted[new.id] = new
                store.flush()
                flushed = dict(wanted)
                if reload:
                    store = Store(kept, project, clock=lambda: 0)
        found = Store(keep(Files, project), project).inventory.entries
        for id_ in {*flushed, *wanted, *found}:
            assert found.get(id_) in (flushed.get(id_), wanted.get(id_)), id_
        after = Store(keep(Files, project), project, clock=lambda: 0)
        for id_ in found:
            after.drop(id_)
        after.flush()
        assert Store(keep(Files, project), project).inventory.entries == {}, "a dropped entry came back"


@pytest.mark.parametrize("last", [0, 1, 2])
def test_an_entry_dropped_and_put_again_at_once_is_never_lost(last: int) -> None:
    with small_shards():
        first = Store(keep(), "p", clock=lambda: 0)
        first.put(entry("vm-0", 200), entry("vm-1", 800))
        first.flush()
        kept = keep(Fragile)
        kept.last = last
        second = Store(kept, "p", clock=lambda: 0)
        second.drop(entry("vm-1").id)
        second.put(entry("vm-1", 100))
        with suppress(Crash):
            second.flush()
    found = Store(keep(), "p").inventory.entries
    assert found[entry("vm-1").id] in (entry("vm-1", 800), entry("vm-1", 100))


def test_a_failed_write_is_made_up_for_by_the_next_flush() -> None:
    class Full(Files):
        full = True

        def write(self, name: str, value: bytes) -> None:
            if self.full:
                raise HostError("no space left on device")
            super().write(name, value)

    with small_shards():
        kept = keep(Full)
        store = Store(kept, "p", clock=lambda: 0)
        entries = [entry(f"vm-{n}", 400) for n in range(10)]
        store.put(*entries)
        with pytest.raises(HostError):
            store.flush()
        Full.full = False
        store.flush()
        assert Store(keep(), "p").inventory.entries == {e.id: e for e in entries}


def test_a_thousand_entries_fit_and_no_value_is_larger_than_libvirt_takes() -> None:
    store = Store(keep(), "p", clock=lambda: 0)
    entries = [entry(f"vm-{n}", 2000) for n in range(1000)]
    store.put(*entries)
    store.flush()
    values = keep().read().values()
    assert max(map(len, values)) <= 65_536
    assert len(values) < 60
    assert Store(keep(), "p").inventory.entries == {e.id: e for e in entries}


def test_a_spec_that_no_secret_can_hold_is_refused_by_name() -> None:
    store = Store(keep(), "p", clock=lambda: 0)
    store.put(entry("huge", 100_000))
    with pytest.raises(HostError, match="domain/huge: its spec is too large"):
        store.flush()


def test_a_damaged_part_is_an_error_and_repair_keeps_it_aside() -> None:
    with small_shards():
        store = Store(keep(), "p", clock=lambda: 0)
        entries = [entry(f"vm-{n}", 600) for n in range(3)]
        store.put(*entries)
        store.flush()
    keep().write("1", b"rubbish")
    with pytest.raises(HostError, match="damaged") as raised:
        Store(keep(), "p")
    assert "kvmstate adopt" in raised.value.hint
    repaired = Store(keep(), "p", repair=True)
    assert {e.id: e for e in (entries[0], entries[2])} == repaired.inventory.entries
    assert keep().read()["1"] == b"rubbish", "nothing is changed before the first flush"
    repaired.flush()
    aside = {name: value for name, value in keep().read().items() if not name.isdecimal()}
    assert [*aside.values()] == [b"rubbish"]
    assert len(Store(keep(), "p").inventory.entries) == 2


@pytest.mark.parametrize(
    "written",
    [
        "[" * 100_000,
        '{"format": 1, "serial": 1, "entries": [{"id": 7}]}',
        '{"format": 1, "serial": 1, "entries": [7]}',
        "7",
    ],
    ids=["deep", "a number for an id", "a number for an entry", "a number"],
)
def test_whatever_stands_in_a_record_is_no_bug(written: str) -> None:
    keep().write("0", zlib.compress(written.encode()))
    with pytest.raises(HostError, match="damaged"):
        Store(keep(), "p")


@pytest.mark.parametrize("written", [{"format": 3}, {"format": 1, "serial": 1, "entries": [{"id": "moon/full"}]}])
def test_what_a_newer_version_wrote_is_never_repaired_away(written: dict[str, Any]) -> None:
    for shard in written.get("entries", []):
        shard |= {"uuid": "", "specs": [], "lifecycle": {}}
    keep().write("0", zlib.compress(json.dumps(written).encode()))
    for repair in (False, True):
        with pytest.raises(HostError, match="newer kvmstate"):
            Store(keep(), "p", repair=repair)


def test_nothing_is_written_once_the_guard_says_no() -> None:
    def lost() -> None:
        raise Locked("lost")

    store = Store(keep(), "p", clock=lambda: 0, guard=lost)
    store.put(entry("vm"))
    with pytest.raises(Locked):
        store.flush()
    assert keep().read() == {}


@pytest.mark.parametrize("last", range(12))
def test_what_is_owned_always_has_an_owner(last: int) -> None:
    """However far a first apply, another owner's, or a destroy gets."""
    mine, theirs = Identity("mine", "prod"), Identity("theirs")
    kept = keep(Fragile)
    kept.last = last
    entries = [entry(f"vm-{n}", 700) for n in range(4)]
    told: Identity | None = None
    with small_shards(), suppress(Crash):
        for identity in (mine, theirs):
            store = Store(kept, "p", clock=lambda: 0)
            store.identity = identity
            store.put(*entries)
            store.flush()
            told = identity
        for each in entries:
            store.drop(each.id)
        store.flush()
    left = Store(keep(), "p")
    assert left.recorded == Store(keep(), "p", repair=True).recorded
    if not left.inventory.entries:
        assert left.recorded is None
        return
    assert left.recorded in ((mine,) if told is None else (mine, theirs))


def test_a_header_without_anything_owned_counts_for_nothing() -> None:
    store = Store(keep(), "p", clock=lambda: 0)
    store.identity = Identity("mine")
    store.flush()
    assert keep().read() == {}
    keep().write("project", b'{"format": 1, "id": "gone", "environment": ""}')
    assert Store(keep(), "p").recorded is None


def test_orphans_are_nobodys_and_stay_known() -> None:
    data, machine = ResourceId("volume", "images/data"), ResourceId("domain", "web")
    store = Store(keep(), "p", clock=lambda: 0)
    store.identity = Identity("mine")
    store.put(Entry(data, "inode", ({"pool": "images"},), digest="d"), Entry(machine, "uuid", incomplete=True))
    store.orphan(data)
    store.orphan(machine)
    store.flush()
    later = Store(keep(), "p", clock=lambda: 0)
    later.identity = Identity("mine")
    left = Entry(data, "inode", ({"pool": "images"},), orphaned=True)
    assert (later.recorded, later.inventory.entries, later.inventory.orphans) == (None, {}, {data: left})
    later.take_back([data])
    later.flush()
    again = Store(keep(), "p").inventory
    assert (again.entries, again.orphans) == ({data: replace(left, orphaned=False)}, {})


def test_orphans_of_another_project_of_the_name_count_for_nothing() -> None:
    data, other = ResourceId("volume", "images/data"), ResourceId("network", "lan")
    store = Store(keep(), "p", clock=lambda: 0)
    store.identity = Identity("mine", "prod")
    store.put(Entry(data, "inode"))
    store.flush()
    store.orphan(data)
    store.flush()
    for identity in (Identity("theirs", "prod"), Identity("mine", "test")):
        stranger = Store(keep(), "p", clock=lambda: 0)
        stranger.identity = identity
        assert stranger.inventory.orphans == {}
    stranger.put(Entry(other, "uuid"))
    stranger.flush()
    assert Store(keep(), "p").inventory.orphans == {}


@pytest.mark.parametrize("last", range(6))
def test_what_is_orphaned_is_never_both(last: int) -> None:
    entries = [Entry(ResourceId("volume", f"images/{n}"), "inode", ({"n": "x" * 300},)) for n in range(6)]
    with small_shards():
        store = Store(keep(), "p", clock=lambda: 0)
        store.put(*entries)
        store.flush()
        kept = keep(Fragile)
        kept.last = last
        with suppress(Crash):
            store = Store(kept, "p", clock=lambda: 0)
            for each in entries:
                store.orphan(each.id)
            store.flush()
        after = Store(keep(), "p").inventory
        assert not after.entries.keys() & after.orphans.keys()
        assert after.entries.keys() | after.orphans.keys() == {each.id for each in entries}


def owned(project: str) -> set[ResourceId]:
    return set(Store(keep(project=project), project).inventory.entries)


@pytest.mark.parametrize("heal", ["giver", "taker", "both", "again"])
@pytest.mark.parametrize("last", range(16))
def test_what_is_handed_over_has_one_owner_at_every_moment(last: int, heal: str) -> None:
    """However far it gets, and whoever writes next."""
    with small_shards():
        entries = [entry(f"vm-{n}", 400) for n in range(5)]
        for project in ("giver", "taker"):
            store = Store(keep(project=project), project, clock=lambda: 0)
            store.put(*(entries if project == "giver" else [entry("other")]))
            store.flush()
        fragile = {project: keep(Fragile, project) for project in ("giver", "taker")}

        class Counted:
            left = last

        def tick(self: Fragile) -> None:
            if Counted.left == 0:
                raise Crash
            Counted.left -= 1

        moving = entries[:4]
        with mock.patch.object(Fragile, "_tick", tick), suppress(Crash):
            transfer(
                Store(fragile["giver"], "giver", clock=lambda: 0),
                Store(fragile["taker"], "taker", clock=lambda: 0),
                moving,
            )

        def check() -> None:
            giver, taker = owned("giver"), owned("taker")
            assert giver & taker == set()
            assert giver | taker == {e.id for e in [*entries, entry("other")]}
            assert entries[4].id in giver

        check()
        # a writer of either project comes along, and leaves nothing undone
        for project in {"both": ("taker", "giver"), "again": ()}.get(heal, (heal,)):
            store = Store(keep(project=project), project, clock=lambda: 0)
            store.put(entry(f"new-{project}"))
            store.drop(entry(f"new-{project}").id)
            store.flush()
            check()
        if heal == "again":
            taker = Store(keep(project="taker"), "taker", clock=lambda: 0)
            taker.flush()
            giver = Store(keep(project="giver"), "giver", clock=lambda: 0)
            transfer(giver, taker, [e for e in moving if e.id in giver.inventory.entries])
            assert owned("taker") == {e.id for e in [*moving, entry("other")]}
            assert owned("giver") == {entries[4].id}
            for project in ("giver", "taker"):
                for value in keep(project=project).read().values():
                    assert b"handed" not in zlib.decompress(value)


def test_what_its_owner_lets_go_while_a_transfer_was_cut_off_is_nobodys() -> None:
    giver, taker = (Store(keep(project=p), p, clock=lambda: 0) for p in ("giver", "taker"))
    giver.put(entry("vm"))
    giver.flush()
    taker.put(replace(entry("vm"), handed_from="giver"))
    taker.flush()
    again = Store(keep(project="giver"), "giver", clock=lambda: 0)
    again.drop(entry("vm").id)
    again.flush()
    assert owned("giver") == owned("taker") == set()
    # and another object of that name is not what was to be handed over
    again.put(replace(entry("vm"), uuid="another"))
    again.flush()
    assert owned("taker") == set()
