"""Killed at any moment of a move, kvmstate or a libvirtd of either host: one owner and one running machine, no disk is
lost, and the same command finishes the move or begins it again.

The full count: script/trials migrations
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest
from conftest import ROOT, Pair
from harness import MAIN, Guest, Project, await_answer, await_old, clear, forget_starts, until

from kvmstate.apply import open_store
from kvmstate.host import open_host
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId
from kvmstate.sandbox import Sandbox

# Of every seven, five are of kvmstate, one of the libvirtd that the machine leaves, one of the other
KILLS = int(os.environ.get("KVMSTATE_MIGRATIONS", "0"))
SEED = int(os.environ.get("KVMSTATE_SEED", "5"))
# Seconds in which libvirt settles what it has begun
SETTLES = 30

pytestmark = pytest.mark.real


@dataclass
class World:
    """A machine that goes to and fro between two hosts, counting on its disk; `at` is where it is."""

    hosts: tuple[Sandbox, Sandbox]
    folder: Path
    guest: Guest
    at: int = 0
    durations: dict[tuple[str, ...], float] = field(default_factory=dict)
    random: random.Random = field(default_factory=lambda: random.Random(SEED))

    def command(self, options: tuple[str, ...]) -> list[str]:
        here, there = self.hosts[self.at], self.hosts[1 - self.at]
        sockets = [f"--migrate-uri=unix://{self.folder}/m", f"--disks-uri=unix://{self.folder}/d"]
        words = ["vm", "migrate", "web", there.uri, "-c", here.uri, "-C", str(self.folder / "shop")]
        return [*words, "--lock-timeout=60s", *sockets, *options]

    def start(self, options: tuple[str, ...]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", MAIN, *self.command(options)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def entry(self, host: Sandbox) -> Entry | None:
        with open_host(host.uri) as opened:
            return open_store(opened, "shop").inventory.get(ResourceId("domain", "web"))

    def owner(self) -> int:
        """By both records: the host that it is on record of, and has not left."""
        entries = [self.entry(host) for host in self.hosts]
        counting = [
            number
            for number, entry in enumerate(entries)
            if entry and not entry.left and (entry.migration is None or entry.migration.role == "leaves")
        ]
        if not counting:
            # it has left the one, and the other one's record has it
            counting = [n for n, e in enumerate(entries) if e and e.migration and e.migration.role == "arrives"]
        assert len(counting) == 1, entries
        return counting[0]

    def states(self) -> list[int]:
        """Of the machine on both hosts; 0 where there is none."""
        found = []
        for host in self.hosts:
            connection = libvirt.open(host.uri)
            try:
                found.append(connection.lookupByName("web").state()[0])
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
                found.append(0)
            finally:
                connection.close()
        return found

    def run(self, options: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        process = self.start(options)
        try:
            out, _ = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            # says where it hangs
            process.send_signal(signal.SIGABRT)
            raise AssertionError((process.communicate()[0], self.states())) from None
        return subprocess.CompletedProcess((), process.returncode, out, "")

    def finish(self, options: tuple[str, ...], why: str, forced: bool) -> None:
        """See that the invariants hold, run the same command, and that it has moved then."""
        assert self.owner() in (0, 1), why
        running = until(lambda: self.states().count(1) if forced else 1, f"one runs: {why}", SETTLES)
        assert running == 1, (why, self.states())
        done = self.run(options)
        if left := re.search(r"virsh qemu-monitor-command MACHINE '(.*?)'`", done.stdout):
            # libvirt's own, see kvmstate.host.hints
            connection = libvirt.open(self.hosts[self.at].uri)
            libvirt_qemu.qemuMonitorCommand(connection.lookupByName("web"), left[1], 0)
            connection.close()
            done = self.run(options)
        if "delete /run/libvirt/qemu/MACHINE.xml there" in done.stdout:
            # libvirt's own as well: it starts nothing, and ends nothing
            forget_starts(self.hosts[1 - self.at])
            done = self.run(options)
        assert done.returncode == 0, (why, done.stdout)
        self.at = 1 - self.at
        assert self.owner() == self.at, why
        wanted = [0, 0]
        wanted[self.at] = libvirt.VIR_DOMAIN_RUNNING
        assert self.states() == wanted, why
        entry = self.entry(self.hosts[self.at])
        assert entry
        assert (entry.suspended, entry.migration) == ("", None), why
        self.goes_on(why)
        self.clear()

    def goes_on(self, why: str) -> None:
        before = len(self.counts())
        until(lambda: len(self.counts()) > before, f"it counts: {why}", 20)

    def counts(self) -> list[int]:
        said = [line for line in self.guest.said().split("\n")[:-1] if line.startswith("guest: wrote ")]
        return [int(line.split()[2]) for line in said]

    def clear(self) -> None:
        """What was left behind is deleted by hand, after a look."""
        connection = libvirt.open(self.hosts[1 - self.at].uri)
        try:
            pool = connection.storagePoolLookupByName("images")
            pool.refresh()
            for name in pool.listVolumes():
                pool.storageVolLookupByName(name).delete()
        finally:
            connection.close()

    def disk(self) -> bytes:
        """All that is on it, when nothing runs any more."""
        connection = libvirt.open(self.hosts[self.at].uri)
        try:
            connection.lookupByName("web").destroy()
        finally:
            connection.close()
        found = [
            self.folder / "shared" / "web-root.qcow2",
            self.hosts[self.at].directory / "lib/behaviours/images/web-root.qcow2",
        ]
        image = next(path for path in found if path.exists())
        raw = self.folder / "raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
        return raw.read_bytes()


@pytest.fixture(params=["shared", "images"] if KILLS else ["images"])
def world(request: Any, host: Sandbox, other: Sandbox, guest: Any, tmp_path: Path) -> Iterator[World]:
    (tmp_path / "shared").mkdir()
    tiny = Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, tmp_path / "console.log")
    project = Project(host, tmp_path / "shop")
    pair = Pair(project, other, tmp_path / "shared", tiny)
    pools = [pair.pool("shared"), pair.pool("images")]
    try:
        pair.stage(*pools)
        project.converge(*pools, *pair.machine(request.param, capacity="64MiB"))
        world = World((host, other), tmp_path, tiny)
        until(world.counts, "it counts")
        yield world
    finally:
        clear(host)
        clear(other)


def ways(world: World) -> tuple[str, ...]:
    copies = not (world.folder / "shared" / "web-root.qcow2").exists()
    return (*(["--copy-storage"] if copies else []), *(["--direct"] if world.random.random() < 0.25 else []))


@pytest.mark.timeout(1800 if KILLS else 300)
def test_a_move_that_is_killed_anywhere(world: World) -> None:
    usual: dict[tuple[str, ...], float] = {}
    killed = 0
    while killed < (-(-KILLS // 2) or 1):
        options = ways(world)
        if options not in usual:
            began = time.monotonic()
            done = world.run(options)
            assert done.returncode == 0, done.stdout
            usual[options] = time.monotonic() - began
            world.at = 1 - world.at
            world.clear()
            continue
        moment = world.random.uniform(0.3 * usual[options], usual[options])
        whose = {1: world.at, 4: 1 - world.at}.get(killed % 7)
        pid = await_old(world.hosts[whose]) if whose is not None else 0
        process = world.start(options)
        why = f"kill {killed}, seed {SEED}, {options}, libvirtd {whose}, after {moment:.2f} s of {usual[options]:.2f}"
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            killed += 1
            if whose is not None:
                os.kill(pid, signal.SIGKILL)
                said, _ = process.communicate(timeout=240)
                assert "Traceback" not in said
                assert "bug" not in said
                await_answer(world.hosts[whose])
                why += f", which said {said}"
            else:
                process.kill()
                process.communicate()
        if process.returncode == 0:
            # it was done before
            world.at = 1 - world.at
            world.clear()
            continue
        world.finish(options, why, "--direct" not in options)
    counted = world.counts()
    assert counted == list(range(1, len(counted) + 1))
    data = world.disk()
    for number in range(1, len(counted)):
        block = data[4096 * number : 4096 * (number + 1)].split(b"\n")
        assert block[0].endswith(b" %016d" % number), number
        assert block[0] == block[-2], number
