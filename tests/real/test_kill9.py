"""Killed at any moment, kvmstate or libvirtd: the next apply brings everything to what the manifests say, nothing of
the project is left over, and no volume has lost a byte.

The full count, some ten minutes: KVMSTATE_KILLS=100 KVMSTATE_DAEMON_KILLS=20 pytest -s tests/real/test_kill9.py
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import MAIN, await_answer, await_old, forget_starts, kvmstate

from kvmstate.host import open_host
from kvmstate.sandbox import Sandbox

KILLS = int(os.environ.get("KVMSTATE_KILLS", "3"))
DAEMON_KILLS = int(os.environ.get("KVMSTATE_DAEMON_KILLS", "2"))
SEED = int(os.environ.get("KVMSTATE_SEED", "9"))

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def world(host: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Made and measured once."""
    return World(host, tmp_path_factory.mktemp("kill9"), "kill9")


def test_kvmstate_killed_at_any_moment_converges_with_the_next_apply(world: World) -> None:
    duration, killed = world.duration, 0
    while killed < KILLS:
        world.turn()
        moment = world.random.uniform(0, duration)
        process = world.start()
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        world.recover(f"kill {killed}, seed {SEED}, after {moment:.2f} s of {duration:.2f}")


def test_libvirtd_killed_at_any_moment_converges_with_the_next_apply(world: World, host: Sandbox) -> None:
    duration, killed = world.duration, 0
    while killed < DAEMON_KILLS:
        world.turn()
        moment = world.random.uniform(0, duration)
        daemon = await_old(host)
        process = world.start()
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            os.kill(daemon, signal.SIGKILL)
            _, said = process.communicate(timeout=120)
            assert "Traceback" not in said
            assert "bug" not in said
            killed += 1
        await_answer(host)
        world.recover(f"kill {killed}, seed {SEED}, after {moment:.2f} s of {duration:.2f}")


@dataclass
class World:
    """A project of 30 objects that goes to and fro between two states: most are changed, some come, some go."""

    host: Sandbox
    folder: Path
    project: str
    state: int = 0
    duration: float = 0
    random: random.Random = field(default_factory=lambda: random.Random(SEED))

    def __post_init__(self) -> None:
        (self.folder / "pool").mkdir()
        (self.folder / "kvmstate.yaml").write_text(yaml.safe_dump({"project": self.project, "manifests": ["m.yaml"]}))
        for state in (0, 1):
            for name in self.volumes(state):
                path = self.folder / f"{name}.img"
                path.write_bytes(random.Random(name).randbytes(self.random.randint(200_000, 900_000)))
        # how long a change of everything takes, undisturbed, in seconds
        self.turn()
        self.recover("made")
        self.turn()
        self.duration = self.recover("undisturbed")

    def networks(self, state: int) -> list[str]:
        return [f"{self.project}-{n}" for n in ("lan", "back", "ab"[state])]

    def volumes(self, state: int) -> list[str]:
        return [f"v{n}" for n in range(10)] + [f"{'ab'[state]}{n}" for n in range(3)]

    def machines(self, state: int) -> list[str]:
        return [f"{self.project}-{name}" for name in self.volumes(state)]

    def turn(self) -> None:
        """The manifests of the other state."""
        self.state = state = 1 - self.state
        lan, back, own = self.networks(state)
        lives = {"lifecycle": {"deletion": "delete", "restart": "now", "stop": {"timeout": 1, "onTimeout": "destroy"}}}
        documents: list[dict[str, Any]] = [
            {"kind": "Network", "metadata": {"name": name}, "spec": {"domain": {"name": f"{'ab'[state]}.example"}}}
            for name in (lan, own)
        ]
        documents.append({"kind": "Network", "metadata": {"name": back}, "spec": {"active": bool(state)}})
        pool = {"type": "dir", "target": {"path": str(self.folder / "pool")}, "autostart": bool(state)}
        documents.append({"kind": "StoragePool", "metadata": {"name": self.project}, "spec": pool})
        for name, machine in zip(self.volumes(state), self.machines(state), strict=True):
            volume = {"pool": self.project, "format": "raw", "content": {"file": f"{name}.img"}}
            documents.append({"kind": "Volume", "metadata": {"name": name}, "spec": volume, **lives})
            spec = {
                "state": "running" if name in ("v0", "a0", "b0") else "stopped",
                "memory": f"{32 + 16 * state}MiB",
                "disks": [{"name": "root", "volume": f"{self.project}/{name}"}],
                "interfaces": [{"name": "one", "network": own if name in ("v0", "v1") else lan}],
            }
            documents.append({"kind": "VirtualMachine", "metadata": {"name": machine}, "spec": spec, **lives})
        text = yaml.safe_dump_all([{"apiVersion": "kvmstate/v1", **document} for document in documents])
        (self.folder / "m.yaml").write_text(text)

    def start(self) -> subprocess.Popen[str]:
        """An apply."""
        options = ["--auto-approve", "--prune", "--max-deletes", "50"]
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, "apply", "-c", self.host.uri, *options],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def recover(self, when: str) -> float:
        """Apply, and see that all is as it should be; how long the apply took."""
        began = time.monotonic()
        process = self.start()
        out, said = process.communicate(timeout=300)
        if "delete /run/libvirt/qemu/MACHINE.xml there" in out:
            forget_starts(self.host)
            process = self.start()
            out, said = process.communicate(timeout=300)
        took = time.monotonic() - began
        assert process.returncode == 0, f"{when}\n{out[-3000:]}{said[-3000:]}"
        plan = kvmstate("plan", str(self.folder), "-c", self.host.uri, "--detailed-exitcode")
        assert plan.code == 0, f"{when}: the next plan is not empty\n{plan}"
        assert self.found() == self.wanted(), when
        for name in self.volumes(self.state):
            made, given = (self.folder / "pool" / name).read_bytes(), (self.folder / f"{name}.img").read_bytes()
            assert hashlib.sha256(made).digest() == hashlib.sha256(given).digest(), f"{when}: {name}"
        return took

    def wanted(self) -> dict[str, set[str]]:
        return {
            "domains": set(self.machines(self.state)),
            "networks": set(self.networks(self.state)),
            "files": set(self.volumes(self.state)),
        }

    def found(self) -> dict[str, set[str]]:
        """What is on the host by this project's names, whatever its record says."""
        with open_host(self.host.uri) as host:
            domains = {d.name() for d in host.connection.listAllDomains()}
            networks = {n.name() for n in host.connection.listAllNetworks()}
        prefix = f"{self.project}-"
        return {
            "domains": {name for name in domains if name.startswith(prefix)},
            "networks": {name for name in networks if name.startswith(prefix)},
            "files": {path.name for path in (self.folder / "pool").iterdir()},
        }
