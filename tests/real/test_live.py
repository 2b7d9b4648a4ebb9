"""Every field whose change is live, changed in one booted guest on a real host; live.yaml is the table.

Each row of `kvmstate explain VirtualMachine --costs` that can be live is a test here. Its tag says how far it was
followed: `seen` by the guest, which did not boot again; `api`, libvirt took it and shows it in what runs; `lab`, seen
on the host, in test_live_in_the_lab.py, as a sandbox has not the kernel for it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import libvirt_qemu
import pytest
import yaml
from harness import PATIENCE, QUICK
from test_edits import edited, live_fields, pattern, resource

from kvmstate import sandbox
from kvmstate.app import open_session
from kvmstate.host import domains
from kvmstate.kinds import BY_NAME
from kvmstate.kinds.virtual_machine.live import HANDLERS, way
from kvmstate.manifest.cost import table as cost_table
from kvmstate.model.change import Key
from kvmstate.plan import Options

if TYPE_CHECKING:
    from tests.conftest import Guest

ROOT = Path(__file__).parents[2]
TABLE, IN_THE_LAB = (
    yaml.safe_load((Path(__file__).parent / name).read_text()) for name in ("live.yaml", "live_in_the_lab.yaml")
)
DOCS = ROOT / "docs" / "reference" / "live.md"
KIND = BY_NAME["VirtualMachine"]
ROWS = sorted(live_fields(KIND))
TREE = os.environ.get("KVMSTATE_TEST_TREE")
ALL = Options(prune=True, allow_empty=True, max_deletes=100)
SEEN, API = ({row: n for n, step in enumerate(TABLE["steps"]) for row in step.get(tag, ())} for tag in ("seen", "api"))
# what a step may need
THERE = {
    "cgroups": sandbox.has_cgroups(),
    "newer libvirt": TREE is not None,
}
LAB = {row: n for n, step in enumerate(IN_THE_LAB["steps"]) for row in step.get("lab", ())}


@dataclass
class Evidence:
    """What became of each step: why it failed, or nothing."""

    failed: dict[int, str] = field(default_factory=dict)
    took: dict[int, float] = field(default_factory=dict)


class Machine:
    """One guest, edited step by step."""

    def __init__(self, uri: str, folder: Path, table: dict[str, Any], said: Callable[[], str]) -> None:
        """`said` reads what is on the machine's console."""
        self.uri, self.said = uri, said
        text = yaml.safe_dump(table["documents"]).replace("ROOT", str(ROOT)).replace("FOLDER", str(folder))
        text = text.replace("QUICK", QUICK)
        self.documents: list[dict[str, Any]] = yaml.safe_load(text)
        self.folder = folder

    def boot(self) -> str:
        # of whole lines
        return re.findall(r"boot=(\w+)\r?\n", self.said())[-1]

    def says(self, wanted: str, since: int = 0) -> None:
        end = time.monotonic() + 30 * PATIENCE
        while not re.search(wanted, self.said()[since:]):
            assert time.monotonic() < end, f"the guest does not say {wanted}: {self.said()[-300:]}"
            time.sleep(0.05)

    def edit(self, step: dict[str, Any], rows: list[str]) -> None:
        """Apply an edit, and see that it was live, that nothing waits, and that nothing is left to do."""
        change = yaml.safe_load(yaml.safe_dump(step["edit"]).replace("FOLDER", str(self.folder)))
        wanted = edited(self.documents, change)
        since = len(self.said())
        before = self.number()
        found = self.apply(wanted, step.get("waits", ()))
        assert {*rows} <= found, f"not changed live: {sorted({*rows} - found)}"
        assert self.number() == before
        if "says" in step:
            self.says(step["says"], since)
        if "looks" in step:
            self.monitor_shows(step["looks"], step["shows"])
        self.documents = wanted

    def apply(self, documents: list[dict[str, Any]], waits: Collection[str] = ()) -> set[str]:
        """The fields that were changed live; all there is to do is done, and no more than this waits."""
        wanted = [resource(document) for document in documents]
        with open_session(self.uri, "live", wanted) as session:
            plan = session.plan(ALL)
            blocked = [c.blocked for c in plan.blocked]
            assert blocked == [], f"blocked: {blocked}"
            result = session.apply(plan, ALL, lambda event: None)
            failed = [str(error) for _, error in result.failed]
            assert failed == [], f"failed: {failed}"
            late = [place for _, error in result.waiting for place in error.places]
            assert late == [*waits], f"not live: {late}"
        with open_session(self.uri, "live", wanted) as session:
            after = session.plan(ALL)
            left = [(str(c.id), c.shown, c.blocked) for c in (*after.todo, *after.blocked)]
            assert left == [], f"left to do: {left}"
            waiting = [f.where for c in after.changes for f in c.waiting]
            assert waiting == [*waits], f"left to the next start: {waiting}"
        return {pattern(f.path) for c in plan.todo if c.id.kind == "domain" for f in c.live}

    def monitor_shows(self, command: str, wanted: str) -> None:
        connection = libvirt.open(self.uri)
        try:
            said = libvirt_qemu.qemuMonitorCommand(domains.find(connection, "live").raw, command, 0)
        finally:
            connection.close()
        assert re.search(wanted, said), said

    def number(self) -> int:
        """What libvirt gives a domain with every start."""
        connection = libvirt.open(self.uri)
        try:
            return domains.find(connection, "live").raw.ID()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def evidence(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    folder = tmp_path_factory.mktemp("live")
    for name in TABLE["files"]:
        (folder / name).write_bytes(f"marker:{name}\n".encode().ljust(1 << 20, b"\0"))
    found, name = Evidence(), f"live-{os.getpid()}"
    host = sandbox.start(name, Path(TREE) if TREE else None, cgroups=sandbox.has_cgroups())
    try:
        log = host.directory / "log" / "qemu" / "live-console.log"
        machine = Machine(host.uri, folder, TABLE, lambda: log.read_text(errors="replace") if log.exists() else "")
        machine.apply(machine.documents)
        machine.says(r"guest: up .*boot=\w+\r?\n")
        boot = machine.boot()
        for number, step in enumerate(TABLE["steps"]):
            rows, began = [*step.get("seen", ()), *step.get("api", ())], time.monotonic()
            if not THERE.get(step.get("needs"), True):
                continue
            try:
                machine.edit(step, rows)
                assert machine.boot() == boot
            except Exception as error:
                found.failed[number] = f"{type(error).__name__}: {error}"
            found.took[number] = time.monotonic() - began
            assert "Kernel panic" not in machine.said(), found.failed
        yield found
    finally:
        sandbox.stop(name)


@pytest.mark.real
@pytest.mark.timeout(240 * PATIENCE)
@pytest.mark.parametrize("row", ROWS)
def test_it_is_changed_in_a_running_guest(row: str, evidence: Evidence) -> None:
    if row in LAB or row in IN_THE_LAB["not"]:
        pytest.skip("see test_live_in_the_lab.py")
    number = {**API, **SEEN}[row]
    if number not in evidence.took:
        pytest.skip("it needs control groups, or a newer libvirt (KVMSTATE_TEST_TREE)")
    assert evidence.failed.get(number, "") == ""


def test_each_live_row_of_the_cost_table_has_one_tag() -> None:
    tagged = [*SEEN, *API, *LAB, *IN_THE_LAB["not"]]
    assert sorted({*tagged}) == ROWS
    assert [row for row in tagged if tagged.count(row) > 1] == []


def table() -> Iterator[str]:
    """As the documentation has it: fields beside each other that cost the same, and were followed as far, in a row."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for row, cost in cost_table(KIND):
        if row in ROWS:
            tag = "seen" if row in SEEN else "api" if row in API else "lab" if row in LAB else IN_THE_LAB["not"][row]
            parent, _, name = row.rpartition(".")
            rows.setdefault((parent, cost, tag), []).append(name)
    yield "| field | a change is | checked |"
    yield "|---|---|---|"
    for (parent, cost, tag), names in rows.items():
        fields = ", ".join(f"`{name}`" for name in names)
        yield f"| {f'`{parent}`: ' if parent else ''}{fields} | {cost} | {tag} |"


def test_the_documentation_has_this_table(request: pytest.FixtureRequest) -> None:
    """`pytest --regenerate` on this file writes it again."""
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split("\n|", 1)
    after = rest[rest.rindex("|\n") + 2 :]
    wanted = "\n".join([before, *table(), ""]) + after
    if request.config.getoption("--regenerate"):
        DOCS.write_text(wanted, encoding="utf-8")
    assert text == wanted


def test_what_the_guest_is_said_to_see_is_looked_for() -> None:
    assert [step["edit"] for step in TABLE["steps"] if "seen" in step and "says" not in step] == []


def test_each_live_row_has_a_way_and_no_handler_is_unused() -> None:
    ways = [way(keyed(row)) for row in ROWS]
    assert {pattern(tuple(place)) for place, handler in ways if handler in HANDLERS.values()} == {*HANDLERS}


def keyed(row: str) -> tuple[str, ...]:
    """A path that this is the pattern of."""
    words = row.replace("[]", ".[]").split(".")
    return tuple(Key("1") if word == "[]" else word for word in words)
