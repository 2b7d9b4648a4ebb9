"""Each folder KIND/CASE/ is a resource as it is wanted and as it is on a host, and what kvmstate makes of the two.

manifest.yaml is what is wanted (none: it was removed), applied.yaml what was applied last (none: the same;
one of comments alone: the project does not own it), live.xml what libvirt has defined (none: there is no such object),
active.xml what runs, saved.xml what the saved memory goes on with. plan.txt holds the plan and its steps, want.xml what
the object would be defined as. The objects of world/ are on the host besides: the project's, and as they should be.

`pytest tests/kinds --regenerate` writes plan.txt and want.xml again, to be read in the diff. A case whose right
answer is not given yet says why in bug.txt, and must fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click import unstyle
from in_memory import AnyPermit, MemoryHost, texts

from kvmstate.errors import KvmstateError
from kvmstate.kind import Context, Kind
from kvmstate.kinds import BY_WORD, ON_HOST
from kvmstate.manifest import load
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Entry, Inventory
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Resource
from kvmstate.plan import Options, make_plan
from kvmstate.plan.known import known
from kvmstate.plan.planner import observe
from kvmstate.views.plan import render

HERE = Path(__file__).parent
PROJECT = "shop"
# of what is to be made; else chosen at random
NEW_UUID = "00000000-0000-4000-8000-000000000000"
# what libvirt has calls of their own for
CALLS = ("state", "active", "autostart", "persistent", "lifecycle")


def folder_of(kind: Kind) -> Path:
    """As the kind's own: kinds/virtual_machine."""
    return HERE / kind.specs[0].__module__.split(".")[-2]


CASES = [path for kind in ON_HOST for path in sorted(folder_of(kind).iterdir())]


def params(which: Callable[[Path], bool] = lambda case: True) -> list[Any]:
    found = []
    for case in filter(which, CASES):
        bug = case / "bug.txt"
        marks = [pytest.mark.xfail(strict=True, reason=bug.read_text(encoding="utf-8"))] if bug.exists() else []
        found.append(pytest.param(case, id=f"{case.parent.name}/{case.name}", marks=marks))
    return found


def read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def declared(path: Path) -> list[Resource]:
    text = read(path)
    if text is None or all(line.startswith("#") for line in text.splitlines()):
        return []
    return list(load([path]).resources)


WORLD = declared(HERE / "world" / "manifests.yaml")


class Scene:
    """A case, with the host that it is on."""

    def __init__(self, case: Path) -> None:
        self.wanted = declared(case / "manifest.yaml")
        self.was_applied = (case / "applied.yaml").exists()
        self.applied = declared(case / "applied.yaml") if self.was_applied else self.wanted
        self.host = MemoryHost(*texts(HERE / "world"))
        if live := read(case / "live.xml"):
            thing = self.host.add(live, read(case / "active.xml"))
            thing.saved = read(case / "saved.xml")

    def plan(self) -> Plan:
        host, names = self.host, {r.id for r in (*self.wanted, *self.applied)}
        world = [r for r in WORLD if r.id not in names]
        host.forget()
        host.know(known({r.id: r for r in (*world, *self.wanted)}, Inventory(PROJECT)))
        seen = observe(host, {r.id for r in (*world, *self.applied)})
        # what was never applied, and is not there, is not owned
        owned = [*world, *(r for r in self.applied if r.id in seen or self.was_applied)]
        entries = {r.id: Entry(r.id, seen[r.id].uuid if r.id in seen else "", (r.written,), r.lifecycle) for r in owned}
        options = Options(prune=True)
        return make_plan(host, [*world, *self.wanted], Inventory(PROJECT, entries), options)

    def carried_out(self, change: Change) -> tuple[str, str]:
        """The steps, and the document that the one which defines it has defined."""
        rest = change.spec.rest if change.action is Action.CREATE else None
        if change.action is Action.CREATE and change.uuid and (rest is None or not rest.findtext("uuid")):
            change = replace(change, uuid=NEW_UUID)
        self.host.connection.defined = ""
        try:
            steps = BY_WORD[change.id.kind].ops.steps(change, Context(self.host, PROJECT, AnyPermit()))
            for step in steps:
                if step.describe.startswith(("define", "create")):
                    step.run(lambda done, total: None)
        except KvmstateError as error:
            return f"{change.id} fails: {error}", ""
        return f"{change.id}: {'; '.join(step.describe for step in steps) or 'no steps'}", self.host.connection.defined


def outcome(case: Path) -> dict[str, str]:
    """What plan.txt and want.xml are to hold; without a want.xml where nothing is defined."""
    try:
        scene = Scene(case)
        plan = scene.plan()
    except KvmstateError as error:
        return {"plan.txt": f"{error}\n".replace(f"{case}/", "")}
    lines, found = [unstyle(render(plan))], {}
    for change in plan.todo:
        if change.action is Action.FORGET:
            # in the record alone
            continue
        steps, text = scene.carried_out(change)
        lines.append(steps)
        if text:
            found["want.xml"] = f"{text}\n"
    return {"plan.txt": "\n".join([*lines, ""]), **found}


@pytest.mark.parametrize("case", params())
def test_case(case: Path, request: pytest.FixtureRequest) -> None:
    found = outcome(case)
    if request.config.getoption("--regenerate") and not (case / "bug.txt").exists():
        for name in ("plan.txt", "want.xml"):
            (case / name).unlink(missing_ok=True)
            if name in found:
                (case / name).write_text(found[name], encoding="utf-8")
    expected = {name: text for name in ("plan.txt", "want.xml") if (text := read(case / name)) is not None}
    assert found == expected


@pytest.mark.parametrize("case", params(lambda case: (case / "want.xml").exists() and not (case / "bug.txt").exists()))
def test_nothing_differs_once_it_is_defined(case: Path) -> None:
    """That libvirt makes no more of it than it was told is what tests on real hosts are for."""
    scene = Scene(case)
    for change in scene.plan().todo:
        scene.carried_out(change)
    scene.applied = scene.wanted
    again = scene.plan()
    assert [f.where for c in again.changes for f in c.fields if f.path[0] not in CALLS] == []


@pytest.mark.parametrize("kind", ON_HOST, ids=lambda kind: kind.name)
def test_every_kind_has_cases(kind: Kind) -> None:
    assert len([case for case in CASES if case.parent == folder_of(kind)]) >= 10
