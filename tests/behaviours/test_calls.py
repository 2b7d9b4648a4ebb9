"""How often a host is asked, counted: what is asked for each object does not grow with how many there are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt
import pytest
from flaky import Counting, Flaky
from harness import Project, wipe

from kvmstate.app import Session
from kvmstate.apply import open_store
from kvmstate.apply.adoption import existing, own
from kvmstate.host import open_host
from kvmstate.kinds import BY_NAME
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.plan import Options

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("nothing_is_long_ago")]

MANY = (25, 100)
LENIENT = Options(prune=True, lenient=True)
EVERYTHING = Options(prune=True, allow_empty=True, max_deletes=10**6)
SLACK = 1.2


def declared(kind_name: str, name: str, **spec: object) -> Resource:
    kind = BY_NAME[kind_name]
    validated = kind.adapter.validate_python(spec)
    lifecycle = Lifecycle.model_validate({"deletion": "delete"})
    return Resource(ResourceId(kind.word, validated.id_name(name)), validated, Metadata(name=name), lifecycle)


POOL = declared("StoragePool", "images", type="dir", target={"path": "/var/lib/libvirt/behaviours/images"})


def machine(number: int, memory: str = "32MiB", mib: int = 1) -> list[Resource]:
    """With a volume of its own."""
    return [
        declared("Volume", f"v{number}", pool="images", format="raw", capacity=mib << 20),
        declared(
            "VirtualMachine",
            f"m{number}",
            state="stopped",
            memory=memory,
            disks=[{"name": "root", "volume": f"images/v{number}"}],
        ),
    ]


def machines(count: int) -> list[Resource]:
    return [POOL, *(each for number in range(count) for each in machine(number))]


@contextmanager
def session(project: Project, resources: list[Resource]) -> Iterator[tuple[Session, Counting]]:
    with open_host(project.uri) as host:
        counting = Counting()
        host.connection = Flaky(host.connection, counting)
        yield Session(host, open_store(host, "counted"), tuple(resources)), counting


def apply(project: Project, resources: list[Resource], changes: int) -> int:
    """The calls of a plan with so many changes, and its apply."""
    with session(project, resources) as (opened, counting):
        plan = opened.plan(EVERYTHING)
        assert len(plan.todo) == changes, [str(change.id) for change in plan.todo]
        result = opened.apply(plan, EVERYTHING, lambda event: None)
        assert (result.failed, result.skipped, result.left) == ([], [], ())
        return counting.calls.total()


def plan(project: Project, resources: list[Resource]) -> int:
    with session(project, resources) as (opened, counting):
        assert not opened.plan(EVERYTHING).todo
        return counting.calls.total()


def imported(project: Project, count: int) -> int:
    """The calls of taking everything over, and of the plan that follows."""
    with session(project, []) as (opened, counting):
        found = existing(opened.host, opened.store)
        assert not found.refused
        assert own(opened.host, opened.store, found.changes).ok
        taken = [change.desired for change in found.changes if change.desired]
        assert len(taken) == 2 * count + 1
        asked = counting.calls.total()
    return asked + plan(project, taken)


def history(project: Project, count: int) -> dict[str, int]:
    """The calls of each thing that is done to so many machines with a volume each, one after the other."""
    last = count - 1
    return {
        "creation": apply(project, machines(count), 2 * count + 1),
        "nothing to do": plan(project, machines(count)),
        "one change": apply(project, [*machines(last), *machine(last, memory="64MiB")], 1),
        "one growth": apply(project, [*machines(last), *machine(last, memory="64MiB", mib=2)], 1),
        "one machine and its volume deleted": apply(project, machines(last), 2),
        "every volume grown": apply(project, [POOL, *(r for n in range(last) for r in machine(n, mib=3))], last),
        "import": imported(project, last),
        "all deleted": apply(project, [], 2 * last + 1),
    }


def test_calls_for_each_object_do_not_grow_with_their_number(project: Project) -> None:
    asked: dict[str, list[float]] = {}
    for count in MANY:
        for what, calls in history(project, count).items():
            asked.setdefault(what, []).append(calls / count)
    print(asked)
    assert {what: each for what, each in asked.items() if max(each) > each[0] * SLACK} == {}


OFF = {
    "stopped": lambda pool: pool.destroy(),
    "not there": lambda pool: (pool.destroy(), pool.undefine()),
}


@pytest.mark.parametrize("declares", [True, False], ids=["declared", "somebody's"])
@pytest.mark.parametrize("off", OFF)
def test_a_pool_that_is_off_is_asked_about_once_and_not_for_each_volume(
    project: Project, connection: libvirt.virConnect, off: str, declares: bool
) -> None:
    asked = {}
    for count in (10, 30):
        wanted = machines(count)
        apply(project, wanted, 2 * count + 1)
        OFF[off](connection.storagePoolLookupByName("images"))
        with session(project, wanted if declares else [r for r in wanted if r.id.kind == "domain"]) as (opened, calls):
            opened.plan(LENIENT)
            asked[count] = {name: n for name, n in calls.calls.items() if "storage" in name}
        wipe(project.uri)
        shutil.rmtree(project.path("images"))
    assert {what: n for what, n in asked[30].items() if n > asked[10].get(what, 0) + 1} == {}
