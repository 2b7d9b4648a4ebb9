"""A thousand machines: what each command costs beside the bare libvirt calls that its work needs, after `apply` and
after `import`, as ratios with their goals.

    python tests/benchmarks/thousand.py [--runs N] [--only TEXT] [--ssh | --latency MS] [COUNT]

Starts a throw-away host. Each figure is the least of RUNS whole processes (3), that of the command and that of the bare
calls in turns, by the clock and by processor time, which a busy machine disturbs less. A last round goes through a
proxy that counts the calls. With --ssh the host is reached over ssh by all, with --latency every answer comes so many
milliseconds later; the bare calls too. The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from counting import Proxy
from ssh_server import Server
from world import Applied, Imported, Took, World

from kvmstate import sandbox


@dataclass(frozen=True)
class Row:
    """One command: at most `goal` times the bare calls of `work`, `memory` MB, and `calls` more than a plan with
    nothing to do. `before` makes something to do. The exit code is `want`. It `deletes` what the project owns."""

    name: str
    words: tuple[str, ...]
    goal: float
    work: str = "read"
    before: Callable[[World], None] = lambda world: None
    want: int = 0
    memory: float = 250
    calls: int | None = None
    deletes: bool = False


PLAN = ("plan", "--detailed-exitcode")
APPLY = ("apply", "--auto-approve")
# in this order, one after the other; how the project comes to own all is the first, and of its own for each way
COME = {
    Applied: Row("apply, creating all", (), 1.1, "create_again"),
    Imported: Row("import --all", (), 5, memory=150),
}
NOTHING = Row("plan, nothing to do", PLAN, 1.5)
ROWS = [
    NOTHING,
    Row("status", ("status",), 1.7),
    Row("plan, one machine changed", PLAN, 1.7, before=World.to_change, want=2),
    Row("apply, one machine changed", APPLY, 1.7, "change"),
    Row("apply --target of one", (*APPLY, "--target", "domain/vm-{half}"), 0.5, "change", World.to_change),
    Row(
        "one machine and its volume removed", (*APPLY, "--prune"), 1.7, "read", World.to_remove, calls=30, deletes=True
    ),
    Row("destroy, volumes too", ("destroy", "--auto-approve"), 1.5, "destroy", deletes=True),
]


@dataclass
class Figures:
    """Of one row on one way, over all runs."""

    took: list[Took] = field(default_factory=list)
    bare: list[Took] = field(default_factory=list)
    calls: int = 0


class Table(dict[tuple[str, str], Figures]):
    """By the names of the row and of the way."""


def main(count: int, runs: int, only: str, ssh: bool, latency: float) -> int:
    host = sandbox.start(f"bench-{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as name, closing(Proxy(host, latency / 1000)) as proxy:
            folder, table = Path(name), Table()
            uri = proxy.uri if latency else Server(host, folder).uri() if ssh else host.uri
            for way in COME:
                world = way(uri, folder / "project", count)
                world.bare("examine")
                for _ in range(runs):
                    measure(world, table, only)
                counted(way(proxy.uri, world.folder, count), table, only, proxy)
    finally:
        sandbox.stop(host.name)
    print(f"{count} machines, {count} volumes, 1 network, 1 pool; least of {runs}")
    return show(table, only)


def measure(world: World, table: Table, only: str) -> None:
    """One round: each row, and the bare calls of its work."""

    def figures(row: Row) -> Figures:
        return table.setdefault((row.name, world.name), Figures())

    come = COME[type(world)]
    figures(come).took.append(world.come())
    if come.work == "read":
        figures(come).bare.append(world.bare(come.work))
    for row in ROWS:
        if only in row.name:
            prepare(world, row)
            figures(row).took.append(command(world, row))
            if row.work != "destroy":
                figures(row).bare.append(world.bare(row.work))
    world.leave()
    world.bare("make")
    if come.work == "create_again":
        figures(come).bare.append(world.bare(come.work, begun=True))
    if (last := ROWS[-1]) and only in last.name:
        figures(last).bare.append(world.bare(last.work))
    world.bare("wipe")


def counted(world: World, table: Table, only: str, proxy: Proxy) -> None:
    """A round whose calls are counted, and not its time."""

    def count(row: Row, call: Callable[[], object]) -> None:
        before = proxy.calls
        call()
        table[row.name, world.name].calls = proxy.calls - before

    count(COME[type(world)], world.come)
    for row in ROWS:
        if only in row.name:
            prepare(world, row)
            count(row, partial(command, world, row))
    world.leave()


def prepare(world: World, row: Row) -> None:
    if row.deletes:
        world.allow_deletion()
    row.before(world)


def command(world: World, row: Row) -> Took:
    return world.kvmstate(*(word.format(half=f"{world.count // 2:04}") for word in row.words), want=row.want)


def show(table: Table, only: str) -> int:
    """The table; the number of goals that are missed. Raises SystemExit when a row was not measured on every way."""
    head = ("command", "way", "s", "bare", "times", "cpu", "bare", "times", "goal", "MB", "calls")
    print("{:36}{:10}{:>8}{:>8}{:>7}{:>8}{:>8}{:>7}{:>7}{:>6}{:>8}".format(*head))
    missed = 0
    for way in COME:
        for row in (COME[way], *(row for row in ROWS if only in row.name)):
            if not (found := table.get((row.name, way.name))) or not found.took or not found.bare:
                raise SystemExit(f"{row.name} was not measured after {way.name}")
            took, bare = found.took, found.bare
            clock, alone = min(t.seconds for t in took), min(t.seconds for t in bare)
            cpu, cpu_alone = min(t.cpu for t in took), min(t.cpu for t in bare)
            memory = max(t.memory for t in took)
            least = table[NOTHING.name, way.name].calls if NOTHING.name.find(only) >= 0 else 0
            more = row.calls is not None and found.calls > least + row.calls
            wrong = clock / alone > row.goal or memory > row.memory or more
            missed += wrong
            print(
                f"{row.name:36}{way.name:10}{clock:8.2f}{alone:8.2f}{clock / alone:7.2f}{cpu:8.2f}{cpu_alone:8.2f}"
                f"{cpu / cpu_alone:7.2f}{row.goal:7g}{memory:6.0f}{found.calls:8}{'  missed' if wrong else ''}"
            )
    return missed


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--runs", type=int, default=3, help="rounds (default: 3)")
    options.add_argument("--only", default="", help="the rows that have this in their names")
    options.add_argument("--ssh", action="store_true", help="reach the host over ssh")
    options.add_argument("--latency", metavar="MS", type=float, default=0, help="of every answer")
    options.add_argument("count", metavar="COUNT", type=int, nargs="?", default=1000)
    sys.exit(bool(main(**vars(options.parse_args()))))
