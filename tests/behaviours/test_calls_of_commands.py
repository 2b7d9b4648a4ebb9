"""What each command asks of a host, counted on the way to libvirtd: so much a machine, however many there are."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import libvirt
import pytest
from counting import Proxy
from harness import Project, kvmstate, pool, resource, wipe

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200), pytest.mark.usefixtures("nothing_is_long_ago")]


@pytest.fixture(scope="session")
def proxy(host: Any) -> Iterator[Proxy]:
    with closing(Proxy(host)) as proxy:
        yield proxy


def documents(count: int, memory: str = "32MiB") -> list[dict[str, Any]]:
    """Machines with a volume each; the last one has this memory."""
    made = [pool()]
    for number in range(count):
        mine = memory if number == count - 1 else "32MiB"
        disks = [{"name": "root", "volume": f"images/v{number}"}]
        volume = resource("Volume", f"v{number}", {"deletion": "delete"}, pool="images", format="raw", capacity="1MiB")
        made += [volume, resource("VirtualMachine", f"m{number}", state="stopped", memory=mine, disks=disks)]
    return made


def write(project: Project, count: int, memory: str = "32MiB") -> None:
    project.write(*documents(count, memory))


def disown(project: Project, count: int) -> None:
    """Nobody owns anything."""
    connection = libvirt.open(project.uri)
    for secret in connection.listAllSecrets():
        secret.undefine()
    connection.close()


def nothing(project: Project, count: int) -> None:
    pass


MANY = (25, 100)
# What grows with the number is fourfold at the end
SLACK = 1.5
EVERY = ("--auto-approve", "--max-deletes", "9999")
# One after the other, on one host: the command, what comes before it, and the most calls for each machine with its
# volume; whether it is one machine that it is about
ROWS: list[tuple[str, tuple[str, ...], Callable[[Project, int], None], float]] = [
    ("apply: create", ("apply", *EVERY), write, 14),
    ("plan: nothing to do", ("plan",), nothing, 2.3),
    ("apply: nothing to do", ("apply", *EVERY), nothing, 2.3),
    ("status", ("status",), nothing, 2.3),
    ("drift", ("drift",), nothing, 2.3),
    ("apply: one machine", ("apply", *EVERY), lambda project, count: write(project, count, "64MiB"), 2.6),
    (
        "apply: one target",
        ("apply", *EVERY, "--target", "domain/m{last}"),
        lambda project, count: write(project, count, "32MiB"),
        0.8,
    ),
    ("suspend", ("suspend", "domain/m0"), nothing, 2.6),
    ("resume", ("resume", "domain/m0"), nothing, 2.6),
    ("snapshot list", ("snapshot", "list", "m0"), nothing, 0.5),
    ("doctor", ("doctor",), nothing, 6),
    ("adopt", ("adopt", "--auto-approve"), disown, 12),
    (
        "apply: one machine and its volume less",
        ("apply", *EVERY, "--prune"),
        lambda project, count: write(project, count - 1),
        4.6,
    ),
    ("destroy", ("destroy", "--auto-approve"), nothing, 30),
    ("apply: create again", ("apply", *EVERY), nothing, 14),
    ("import", ("import", "--all", "--output", "{taken}"), disown, 2.6),
    ("plan of what was imported", ("plan",), nothing, 2.3),
    ("transfer", ("transfer", "domain/m0", "--to", "shop", "--auto-approve"), nothing, 0.3),
]


def history(project: Project, proxy: Proxy, count: int, taken: Path) -> dict[str, float]:
    """The calls of each command for each machine. From the import on the project is that in `taken`."""
    asked, folder = {}, project.folder
    for name, words, before, _ in ROWS:
        before(project, count)
        said = [word.format(last=count - 1, taken=taken) for word in words]
        began = proxy.calls
        with contextlib.chdir(folder):
            done = kvmstate(*said, "-c", proxy.uri)
        folder = taken if name == "import" else folder
        assert done.code == 0 or name == "doctor", (name, done)
        asked[name] = (proxy.calls - began) / count
    return asked


def test_no_command_asks_more_of_a_host_for_each_machine_when_there_are_more(
    project: Project, proxy: Proxy, tmp_path: Path
) -> None:
    asked: dict[str, list[float]] = {}
    for count in MANY:
        for name, calls in history(project, proxy, count, tmp_path / f"taken-{count}").items():
            asked.setdefault(name, []).append(round(calls, 2))
        wipe(project.uri)
        shutil.rmtree(project.path("images"))
    print(asked)
    assert {name: each for name, each in asked.items() if max(each) > each[0] * SLACK} == {}
    most = {name: most for name, _, _, most in ROWS}
    assert {name: (each[-1], most[name]) for name, each in asked.items() if each[-1] > most[name] * SLACK} == {}
