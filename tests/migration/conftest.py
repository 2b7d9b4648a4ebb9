"""Two hosts of one machine: a folder is seen by both, /var/lib/libvirt by each alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import MAIN, Guest, Project, Run, clear, kvmstate, resource, wipe

from kvmstate import sandbox
from kvmstate.apply import open_store
from kvmstate.host import open_host
from kvmstate.model.inventory import Entry
from kvmstate.model.resource import ResourceId
from kvmstate.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
DOCUMENTED = [
    line.strip()
    for line in (ROOT / "docs" / "jobs" / "migrate.md").read_text().splitlines()
    if line.startswith("    kvmstate ")
]


@pytest.fixture(scope="session")
def other(worker_id: str) -> Iterator[Sandbox]:
    name = f"other-{os.getpid()}-{worker_id}"
    tree = os.environ.get("KVMSTATE_TEST_TREE_THERE", os.environ.get("KVMSTATE_TEST_TREE"))
    started = sandbox.start(name, Path(tree) if tree else None)
    try:
        yield started
    finally:
        sandbox.stop(name)


@dataclass
class Pair:
    """A project on one host, which may move its machines to the `other` one."""

    project: Project
    other: Sandbox
    shared: Path
    guest: Guest

    @property
    def here(self) -> str:
        return self.project.uri

    @property
    def there(self) -> str:
        return self.other.uri

    def pool(self, name: str) -> dict[str, Any]:
        """One that both hosts see, or each has of its own."""
        path = str(self.shared) if name == "shared" else f"/var/lib/libvirt/behaviours/{name}"
        return resource("StoragePool", name, type="dir", target={"path": path})

    def machine(
        self, pool: str, options: str = "kvmstate.write=1", capacity: str = "32MiB", **spec: Any
    ) -> list[dict[str, Any]]:
        disk = {"pool": pool, "capacity": capacity, "format": "qcow2"}
        # the other host goes on with the same log
        serial = {"port": 0, "log": str(self.guest.log), "logAppend": True}
        usual = {"disks": [{"name": "root", "create": disk}], "serials": [serial]}
        return [self.guest.machine("web", options=options, **{**usual, **spec})]

    def stage(self, *documents: dict[str, Any]) -> None:
        """What the other host has for the machine, as another project there owns it."""
        connection = libvirt.open(self.there)
        try:
            wipe(self.there)
        finally:
            connection.close()
        there = Project(self.other, self.project.folder.parent / "there", "base")
        there.converge(*documents)

    @property
    def words(self) -> list[str]:
        """By sockets, as these hosts have no network in common."""
        folder = self.project.folder
        return [f"--migrate-uri=unix://{folder}/m", f"--disks-uri=unix://{folder}/d"]

    def _command(self, *options: str, back: bool = False) -> list[str]:
        to = [self.here, "-c", self.there] if back else [self.there]
        return ["vm", "migrate", "web", *to, "-C", str(self.project.folder), *self.words, *options]

    def migrate(self, *options: str, back: bool = False) -> Run:
        return kvmstate(*self._command(*options, back=back))

    def typed(self, option: str = "") -> Run:
        """What docs/jobs/migrate.md says, with this machine and this host."""
        words = next(line for line in DOCUMENTED if line.endswith(f"/system {option}".rstrip())).split()
        assert words[:5] == ["kvmstate", "vm", "migrate", "web-1", "qemu+ssh://root@host-2/system"]
        return self.migrate(*words[5:])

    def start(self, *options: str, first: str = "") -> subprocess.Popen[bytes]:
        """A process of its own; what it says is in `log`. `first` is Python, run before."""
        with self.log.open("w") as log:
            words = [sys.executable, "-c", f"{first}\n{MAIN}", *self._command(*options)]
            return subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)

    @property
    def log(self) -> Path:
        return self.project.folder / "migrate.log"

    def entries(self, uri: str) -> Mapping[ResourceId, Entry]:
        """What the record of the project says on this host."""
        with open_host(uri) as host:
            return open_store(host, self.project.name).inventory.entries

    def state(self, uri: str) -> str:
        """Of the machine on this host: running, off, or empty where there is none."""
        connection = libvirt.open(uri)
        try:
            found = [each for each in connection.listAllDomains() if each.name() == "web"]
            return ("running" if found[0].isActive() else "off") if found else ""
        finally:
            connection.close()

    @property
    def states(self) -> tuple[str, str]:
        return self.state(self.here), self.state(self.there)

    def counts(self) -> int:
        """What the guest has counted to by now: never with a gap."""
        said = [line for line in self.guest.said().split("\n")[:-1] if line.startswith("guest: wrote ")]
        numbers = [int(line.split()[2]) for line in said]
        assert numbers == list(range(1, len(numbers) + 1)), numbers
        return len(numbers)


@pytest.fixture
def pair(project: Project, other: Sandbox, guest: Any, tmp_path: Path) -> Iterator[Pair]:
    (tmp_path / "shared").mkdir()
    tiny = Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, tmp_path / "console.log")
    yield Pair(project, other, tmp_path / "shared", tiny)
    clear(other)
