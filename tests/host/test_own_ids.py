"""What the storage's own tools tell of images and zvols: stand-ins for them answer as they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from in_memory import MemoryHost
from scene import entry, resource

from kvmstate.apply.gate import Gate
from kvmstate.errors import HostError
from kvmstate.host import on_host, pools, rbd
from kvmstate.host.identity import UNKNOWN, by_libvirt, same, told
from kvmstate.host.objects import Volume
from kvmstate.host.own_ids import ASKED, own_ids
from kvmstate.host.permit import Permit
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.pool_types import TYPES

RBD = """<pool type='rbd'><name>vms</name><source><name>rbd</name><host name='mon-1.example'/>
<host name='::1' port='6789'/>AUTH</source></pool>"""
AUTH = "<auth type='ceph' username='kvm'><secret usage='ceph'/></auth>"
SECRET = "<secret ephemeral='no' private='no'><usage type='ceph'><name>ceph</name></usage></secret>"
IMAGES = [
    {"image": "one", "id": "10ab", "size": 8388608, "format": 2},
    {"image": "one", "snapshot": "old", "id": "none", "size": 8388608, "format": 2},
    {"image": "two", "id": "10cd", "size": 8388608, "format": 2},
]
ZFS = "<pool type='zfs'><name>tank</name><source><name>tank/vms</name></source></pool>"
ZVOLS = "tank/vms/one\t1234\ntank/vms/two\t5678\ntank/vms/deep/one\t9\n"
Tool = Callable[..., Path]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Puts a program in front of the host's own; its log has its arguments, and those of CEPH_ARGS."""
    monkeypatch.setattr(on_host, "way_in", lambda host, inside: (1, []))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def put(name: str, says: str, code: int = 0) -> Path:
        log = tmp_path / "log"
        (tmp_path / "says").write_text(says)
        script = f'echo "$CEPH_ARGS|$*" >>{log}; cat {tmp_path}/says; exit {code}'
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        return log

    return put


def asked(host: MemoryHost, *names: str) -> dict[str, str]:
    [pool] = pools.all_pools(host.connection)
    return {name: own.id for name, own in own_ids(host, pool, set(names)).items()}


def test_images_of_a_pool_are_told_by_one_process(tool: Tool) -> None:
    log = tool("rbd", json.dumps(IMAGES))
    host = MemoryHost(RBD.replace("AUTH", AUTH))
    host.add(SECRET).held = b"\0secret"
    assert asked(host, "one", "two", "three") == {"one": "10ab", "two": "10cd"}
    [line] = log.read_text().splitlines()
    environment, words = line.split("|")
    # the key is on no command line
    assert environment == "--key=AHNlY3JldA=="
    assert words == (
        "--conf /dev/null --client-mount-timeout 10 --mon-host mon-1.example,[::1]:6789 --id kvm "
        "ls --long rbd --format json"
    )


def test_one_image_is_asked_for_alone(tool: Tool) -> None:
    log = tool("rbd", json.dumps({"name": "one", "id": "10ab"}))
    host = MemoryHost(RBD.replace("AUTH", AUTH))
    host.add(SECRET.replace("private='no'", "private='yes'"))
    assert asked(host, "one") == {"one": "10ab"}
    # libvirt does not tell the key: Ceph looks for one
    assert log.read_text().startswith("|--conf")
    assert log.read_text().endswith("--id kvm info --pool rbd --image one --format json\n")


def test_an_image_tells_what_it_is_a_layer_over(tool: Tool) -> None:
    over = {"pool": "rbd", "image": "one", "snapshot": "libvirt-1"}
    layer = {"image": "layer", "id": "10ef", "parent": over}
    far = {"image": "far", "id": "10fa", "parent": {**over, "pool": "other"}}
    tool("rbd", json.dumps([*IMAGES, layer, far]))
    host = MemoryHost(RBD.replace("AUTH", ""))
    told = own_ids(host, pools.find(host.connection, "vms"))
    assert {name: own.below for name, own in told.items()} == {"one": "", "two": "", "layer": "one", "far": ""}
    tool("rbd", json.dumps({"name": "layer", "id": "10ef", "parent": over}))
    assert own_ids(host, pools.find(host.connection, "vms"), {"layer"})["layer"].below == "one"


@pytest.mark.parametrize(
    ("there", "done", "why"),
    [
        ([], [], ""),
        (["libvirt-7", "libvirt--12"], ["snap unprotect", "snap rm", "snap unprotect", "snap rm"], ""),
        (["libvirt-7", "mine"], [], "volume one has snapshot mine, which is not kvmstate's"),
        (["libvirt-old"], [], "volume one has snapshot libvirt-old, which is not kvmstate's"),
    ],
)
def test_only_snapshots_of_libvirts_go_with_an_image(tool: Tool, there: list[str], done: list[str], why: str) -> None:
    log = tool("rbd", json.dumps([{"id": 4, "name": name, "protected": "true"} for name in there]))
    host, deleted, asked_for = MemoryHost(RBD.replace("AUTH", "")), [], []
    raw: Any = SimpleNamespace(name=lambda: "one", delete=deleted.append)
    permit = Permit(lambda thing: asked_for.append(thing.name))
    with pytest.raises(HostError, match=why) if why else nullcontext():
        rbd.delete(host, pools.find(host.connection, "vms"), Volume(raw), permit)
    words = [line.partition("none ")[2] for line in log.read_text().splitlines()]
    assert words[0] == "snap ls --pool rbd --image one --format json"
    assert [" ".join(line.split()[:2]) for line in words[1:]] == done
    assert [line.rpartition("@")[2] for line in words[1:]] == [name for name in there for _ in done[:2]]
    assert (deleted, bool(asked_for)) == ([] if why else [0], True)


def test_zvols_of_a_pool_are_told_by_one_process(tool: Tool) -> None:
    log = tool("zfs", ZVOLS)
    assert asked(MemoryHost(ZFS), "one", "two", "three") == {"one": "1234", "two": "5678"}
    assert asked(MemoryHost(ZFS), "one") == {"one": "1234"}
    words = "|get -H -p -o name,value -tvolume guid"
    assert log.read_text().splitlines() == [f"{words} -r tank/vms", f"{words} tank/vms/one"]


@pytest.mark.parametrize("pool", [RBD.replace("AUTH", ""), ZFS])
@pytest.mark.parametrize(("says", "code"), [("", 2), ("no JSON", 0), ('[{"image": "one"}]', 0), ("{}", 0), ("[1]", 0)])
def test_what_does_not_answer_tells_nothing(tool: Tool, pool: str, says: str, code: int) -> None:
    for name in ("rbd", "zfs"):
        tool(name, says, code)
    assert asked(MemoryHost(pool), "one", "two") == {}
    assert asked(MemoryHost(pool), "one") == {}


def test_without_the_tool_nothing_is_told(tool: Tool) -> None:
    assert asked(MemoryHost(ZFS), "one") == {}


def test_where_nobody_but_libvirt_leads_to_the_host_nothing_is_told() -> None:
    assert asked(MemoryHost(ZFS), "one") == {}


NAMED, OWN, OTHER, ELSEWHERE = "key:rbd/one", "id:1 key:rbd/one", "id:2 key:rbd/one", "id:1 key:rbd/two"


@pytest.mark.parametrize(
    ("recorded", "seen", "is_same", "kept"),
    [
        (NAMED, NAMED, True, NAMED),
        (OWN, OWN, True, OWN),
        (OWN, OTHER, False, OTHER),
        (OWN, ELSEWHERE, False, ELSEWHERE),
        # a record of the name alone
        (NAMED, OWN, True, OWN),
        (NAMED, ELSEWHERE, False, ELSEWHERE),
        # the tool does not answer any more
        (OWN, NAMED, None, OWN),
        (UNKNOWN, OWN, None, OWN),
        (OWN, UNKNOWN, None, OWN),
        (UNKNOWN, UNKNOWN, None, UNKNOWN),
        ("", OWN, False, OWN),
        (OWN, "", False, OWN),
        ("inode:1:2", "inode:1:2", True, "inode:1:2"),
        ("inode:1:2", "inode:1:3", False, "inode:1:3"),
    ],
)
def test_two_are_one_as_far_as_both_tell(recorded: str, seen: str, is_same: bool | None, kept: str) -> None:
    assert same(recorded, seen) is is_same
    assert told(recorded, seen) == kept


def test_what_libvirt_tells_of_it_is_a_part() -> None:
    assert {by_libvirt(each) for each in (NAMED, OWN, OTHER)} == {NAMED}
    assert by_libvirt("inode:1:2") == "inode:1:2"


UNTOLD, CHANGED = "cannot be told\n", "is not the object it was when the plan was made"


@pytest.mark.parametrize(
    ("recorded", "planned", "now", "why"),
    [
        ("10ab", "10ab", "10ab", ""),
        ("", "10ab", "10ab", ""),
        ("", "", "", ""),
        ("10ab", "10ab", "10cd", CHANGED),
        ("10cd", "10ab", "10ab", CHANGED),
        # somebody else's since the plan
        ("", "10ab", "10cd", CHANGED),
        ("10ab", "", "", UNTOLD),
        ("10ab", "10ab", "", UNTOLD),
        ("", "10ab", "", UNTOLD),
    ],
)
def test_what_is_on_record_and_is_not_told_any_more_is_not_deleted(
    tool: Tool, recorded: str, planned: str, now: str, why: str
) -> None:
    def called(id_: str) -> str:
        return f"id:{id_} {NAMED}" if id_ else NAMED

    tool("rbd", json.dumps({"name": "one", "id": now}) if now else "")
    host = MemoryHost(RBD.replace("AUTH", ""))
    thing = host.add("<volume type='network'><name>one</name><target><path>rbd/one</path></target></volume>")
    owned = resource("volume/vms/one", format="raw")
    observed: Any = SimpleNamespace(uuid=called(planned))
    change = Change(owned.id, Action.DELETE, observed=observed, lifecycle=owned.lifecycle)
    store: Any = SimpleNamespace(get=lambda id_: entry(owned, called(recorded)))
    permit = Gate(Plan("shop", host.uri, ()), host, store).renaming(change)
    if not why:
        permit.check(Volume(thing))
        return
    with pytest.raises(HostError, match=why) as refused:
        permit.check(Volume(thing))
    assert why != UNTOLD or "rbd (ceph-common)" in refused.value.hint


def test_every_type_that_has_one_is_asked() -> None:
    assert {*ASKED} == {name for name, row in TYPES.items() if row.identity == "own"}
