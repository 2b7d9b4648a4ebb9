"""What the rows of thousand.py work on: a host with so many machines and volumes, and a project that has come to own
them in one of two ways; and whole processes, with what they took."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

PROGRAM = [sys.executable, "-c", "from kvmstate.cli import main; main()"]
# an installed package has its bytecode
ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
BARE = Path(__file__).resolve().with_name("bare.py")
HEAD = """
apiVersion: kvmstate/v1
kind: StoragePool
metadata: {name: images}
spec: {type: dir, target: {path: /var/lib/libvirt/thousand}}
---
apiVersion: kvmstate/v1
kind: Network
metadata: {name: lan}
spec:
  active: false
  ips: [{address: 192.168.170.1/24}]
"""
VOLUME = """
apiVersion: kvmstate/v1
kind: Volume
metadata: {{name: vm-{n:04}.raw}}
lifecycle: {{deletion: delete}}
spec: {{pool: images, format: raw, capacity: 1MiB}}
"""
MACHINE = """
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata:
  name: vm-{n:04}
  labels: {{tier: web}}
spec:
  state: stopped
  cpus: 1
  memory: {memory}MiB
  disks:
    - {{name: root, volume: images/vm-{n:04}.raw}}
  interfaces:
    - {{network: lan}}
  serials:
    - {{port: 0}}
  guestAgent: true
"""


def rich(n: int, state: str) -> str:
    """A machine of which some forty fields are said, all of them fields from the beginning; as YAML, which JSON is."""
    disk = {
        "bus": "virtio",
        "target": "vda",
        "cache": "writeback",
        "io": "threads",
        "discard": "unmap",
        "serial": "s-1",
    }
    nic = {"network": "lan", "model": "virtio", "link": "up", "mtu": 1400}
    last = f"{n >> 8:02x}:{n & 255:02x}"
    spec = {
        **{"state": state, "type": "qemu", "title": f"Machine {n}", "description": "One of many", "machine": "q35"},
        **{"cpus": 1, "maxCpus": 2, "memory": "48MiB", "maxMemory": "64MiB", "clock": "localtime", "rng": {}},
        **{"cpu": {"mode": "custom", "model": "qemu64", "topology": {"sockets": 1, "cores": 2}}, "guestAgent": True},
        "disks": [
            {"name": "root", "volume": f"images/vm-{n:04}.raw", **disk},
            {"name": "cd", "device": "cdrom", "bus": "sata", "target": "sda"},
        ],
        "interfaces": [
            {"name": name, "mac": f"52:54:00:{number:02x}:{last}", **nic}
            for number, name in enumerate(("front", "back"))
        ],
        **{"serials": [{"port": 0}], "graphics": [{"type": "vnc"}]},
    }
    stop = {"stop": {"timeout": "1s", "onTimeout": "destroy"}}
    head = {"apiVersion": "kvmstate/v1", "kind": "VirtualMachine", "metadata": {"name": f"vm-{n:04}"}}
    return json.dumps({**head, "lifecycle": stop, "spec": spec})


@dataclass(frozen=True)
class Took:
    """What a process took: seconds on the clock and of processors, MB at most."""

    seconds: float
    cpu: float
    memory: float


def run(words: Sequence[str], want: int = 0, begun: bool = False, cwd: Path | None = None) -> Took:
    """One whole process, which must end with the exit code `want`. Of one that says when it has `begun`, the time
    since."""
    start, before = time.perf_counter(), 0.0
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENV, cwd=cwd) as done:
        assert done.stdout
        if begun:
            assert done.stdout.readline() == "begun\n"
            start = time.perf_counter()
            before = cpu(done.pid)
        said = done.stdout.read()
        _, status, usage = os.wait4(done.pid, 0)
        done.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - start
    assert done.returncode == want, (words[2:], done.returncode, said[-2000:])
    return Took(took, usage.ru_utime + usage.ru_stime - before, usage.ru_maxrss / 1024)


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class World(ABC):
    """A host at `uri`, and a project in `folder` that owns `count` machines and volumes of it."""

    name: ClassVar[str]
    uri: str
    folder: Path
    count: int

    def kvmstate(self, *words: str, want: int = 0) -> Took:
        return run([*PROGRAM, *words, str(self.folder), "-c", self.uri], want)

    def bare(self, work: str, begun: bool = False) -> Took:
        return run([sys.executable, str(BARE), self.uri, work, str(self.count)], begun=begun)

    @abstractmethod
    def come(self) -> Took:
        """The project comes to own everything: what that command took."""

    @abstractmethod
    def allow_deletion(self) -> None:
        """What is deleted by and by takes its data along, as the project has it recorded."""

    @abstractmethod
    def machine(self, number: int) -> Path:
        """Its manifest, of this machine alone."""

    @abstractmethod
    def volumes(self) -> list[Path]:
        """The manifests of volumes."""

    def to_change(self) -> None:
        """One machine shall have other memory than it has."""
        file = self.machine(self.count // 2)
        text = file.read_text()
        memory = "256MiB" if "memory: 128MiB" in text else "128MiB"
        file.write_text(re.sub(r"memory: \w+", f"memory: {memory}", text))

    def to_remove(self) -> None:
        """One machine and its volume were removed from the manifests."""
        self.machine(self.count - 1).unlink()
        name = f"vm-{self.count - 1:04}.raw"
        for file in self.volumes():
            parts = file.read_text().split("---")
            kept = [part for part in parts if f"name: {name}" not in part]
            if len(kept) < len(parts):
                file.write_text("---".join(kept)) if kept else file.unlink()

    def leave(self) -> None:
        """The host is as it was, and the folder gone."""
        self.bare("wipe")
        shutil.rmtree(self.folder)


class Applied(World):
    """Its manifests were written, and applied."""

    name = "applied"
    head: ClassVar[str] = HEAD

    def come(self) -> Took:
        self.folder.mkdir()
        (self.folder / "kvmstate.yaml").write_text("project: thousand\n")
        (self.folder / "head.yaml").write_text(self.head)
        (self.folder / "volumes.yaml").write_text("---".join(VOLUME.format(n=n) for n in range(self.count)))
        for n in range(self.count):
            self.machine(n).write_text(self.manifest(n))
        return self.kvmstate("apply", "--auto-approve")

    def manifest(self, number: int) -> str:
        return MACHINE.format(n=number, memory=128)

    def machine(self, number: int) -> Path:
        return self.folder / f"vm-{number:04}.yaml"

    def volumes(self) -> list[Path]:
        return [self.folder / "volumes.yaml"]

    def allow_deletion(self) -> None:
        """Its manifests say so from the beginning."""


class Running(Applied):
    """Its machines say more, and these run: paused, as what a guest does is not measured."""

    name = "running"
    head = HEAD.replace("  active: false\n", "")
    running: ClassVar[int] = 50

    def manifest(self, number: int) -> str:
        return rich(number, "paused" if number < self.running else "stopped")


class Imported(World):
    """Others have made what there is, and it was imported."""

    name = "imported"

    def come(self) -> Took:
        self.bare("make")
        words = ["import", "--all", "--output", str(self.folder), "-c", self.uri]
        return run([*PROGRAM, *words])

    def machine(self, number: int) -> Path:
        return self.folder / "machines" / f"vm-{number:04}.yaml"

    def volumes(self) -> list[Path]:
        return [*(self.folder / "volumes").rglob("*.yaml")]

    def allow_deletion(self) -> None:
        texts = {file: file.read_text() for file in self.volumes()}
        if all("\nlifecycle:" in text for text in texts.values()):
            return
        for file, text in texts.items():
            file.write_text(text.replace("\nspec:", "\nlifecycle: {deletion: delete}\nspec:"))
        self.kvmstate("apply", "--auto-approve")
