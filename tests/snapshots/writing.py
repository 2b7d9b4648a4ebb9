"""A machine whose guest writes numbered blocks all the time (see script/guest-init), so that what an image holds says
at which moment the guest wrote it last."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest
from disks import qemu_img
from harness import Guest, Project, kvmstate, resource, until, wipe

from kvmstate.xmlbind import document

BLOCK = 4096
# Who writes while the machine is off
HOST = "00000000"


@dataclass(frozen=True)
class Content:
    """What a machine's disks hold, all of it: by target, which boot wrote block 1, 2 and so on."""

    blocks: dict[str, tuple[str, ...]]

    @property
    def last(self) -> int:
        """The last block that is on every disk. A guest is at most one ahead on the first ones."""
        lengths = [len(boots) for boots in self.blocks.values()]
        assert lengths == sorted(lengths, reverse=True), "a disk is ahead of one that is written to before it"
        assert lengths[0] - lengths[-1] <= 1, "the disks are not of the same moment"
        return lengths[-1]


def block(boot: str, number: int) -> bytes:
    return f"block {boot} {number:016}\n".encode() * 128


def read(path: Path, out: Path) -> tuple[str, ...]:
    """The boots that wrote the blocks of an image, each of which is whole and where it belongs, with nothing after."""
    format_ = "raw" if path.suffix == ".raw" else "qcow2"
    # what is zero becomes a hole
    qemu_img("convert", "-U", "-f", format_, "-O", "raw", path, out)
    boots: list[str] = []
    with out.open("rb") as image:
        assert not any(image.read(BLOCK))
        while found := re.match(rb"block (\w{8}) ", content := image.read(BLOCK)):
            boots.append(found[1].decode())
            assert content == block(boots[-1], len(boots)), f"block {len(boots)} is torn"
        with pytest.raises(OSError, match="No such device or address"):
            os.lseek(image.fileno(), (len(boots) + 1) * BLOCK, os.SEEK_DATA)
    return tuple(boots)


class Writing:
    """The machine `vm` of a project. While it is off, the host writes in its guest's place."""

    def __init__(self, project: Project, folder: Path, tiny: Guest, disks: int, format_: str, running: bool) -> None:
        self.project, self.folder, self.tiny, self.running = project, folder, tiny, running
        self.targets = tuple(f"vd{letter}" for letter in "abc"[:disks])
        self._volumes = [f"{target}.{format_}" for target in self.targets]
        self._format = format_

    def build(self) -> None:
        """Bring it about, in place of whatever is left of the last one."""
        wipe(self.project.uri)
        for path in self.folder.iterdir():
            path.unlink()
        disks = [
            {"name": target, "volume": f"chains/{volume}"}
            for target, volume in zip(self.targets, self._volumes, strict=True)
        ]
        lasting = {"deletion": "delete"}
        self.project.converge(
            resource("StoragePool", "chains", type="dir", target={"path": str(self.folder)}),
            *(
                resource("Volume", volume, lasting, pool="chains", format=self._format, capacity="64MiB")
                for volume in self._volumes
            ),
            self.tiny.machine(
                "vm", options="kvmstate.write=1", disks=disks, state="running" if self.running else "stopped"
            ),
            resource(
                "SnapshotPolicy",
                "nightly",
                selector={"names": ["vm"]},
                schedule="30 2 * * *",
                retention={"keepLast": 1},
            ),
        )
        self.connection = libvirt.open(self.project.uri)
        self.domain: Any = self.connection.lookupByName("vm")
        self._written = 0
        self.more()

    def done(self, command: str, *words: str) -> str:
        run = kvmstate("snapshot", command, "vm", *words, "-c", self.project.uri)
        assert run.code == 0, run
        return run.out

    def is_as_built(self) -> bool:
        if not hasattr(self, "domain"):
            return False
        files = {path.name for path in self.folder.iterdir()}
        return (
            files == set(self._volumes)
            and bool(self.domain.isActive()) == self.running
            and not self.domain.listAllSnapshots()
        )

    # What is written

    def told(self) -> int:
        """The last block that the guest has told of."""
        if not self.running:
            return self._written
        _, booted, said = self.tiny.said().rpartition(" writes on after ")
        first, *lines = said.split("\n")[:-1] or ["0"]
        numbers = [line.rpartition(" ")[2] for line in lines if line.startswith("guest: wrote ")]
        return int(numbers[-1] if numbers else first) if booted else 0

    def more(self, blocks: int = 5) -> int:
        """So much more has been written; the last block told of then."""
        if self.running:
            before = self.told()
            until(lambda: self.told() >= before + blocks, f"the guest writes: {self.tiny.said()[-500:]}")
        else:
            for volume in self.files().values():
                self._write_as_host(volume, blocks)
            self._written += blocks
        return self.told()

    def _write_as_host(self, path: Path, blocks: int) -> None:
        numbers = range(self._written + 1, self._written + blocks + 1)
        source = self.folder.parent / "blocks"
        source.write_bytes(b"".join(block(HOST, number) for number in numbers))
        command = f"write -q -s {source} {numbers[0] * BLOCK} {blocks * BLOCK}"
        format_ = "raw" if path.suffix == ".raw" else "qcow2"
        subprocess.run(["qemu-io", "-f", format_, "-c", command, path], check=True)

    def went_on(self, before: str) -> tuple[str, int]:
        """After which block it went on when it was started again, and in which boot."""
        if not self.running:
            self._written = self.content(self.files()).last
            return HOST, self._written

        def found() -> tuple[str, int] | None:
            last = re.findall(r"guest: boot (\w+) writes on after (\d+)\n", self.tiny.said())[-1:]
            return next(((boot, int(number)) for boot, number in last if boot != before), None)

        boot, number = until(found, "the guest writes on")
        return boot, number

    def boot(self) -> str:
        said = re.findall(r"guest: boot (\w+) writes on after", self.tiny.said())
        return str(said[-1]) if self.running else HOST

    # What disks hold

    def files(self) -> dict[str, Path]:
        """What the disks are written to."""
        return self._disks(self.domain.XMLDesc(0))

    def now(self) -> Content:
        """What the disks hold at this moment, in images that are whole; all that the guest has told of is there."""
        told = self.told()
        with self._still():
            content = self.content(self.files())
            for path in self.folder.iterdir():
                if path.suffix != ".raw":
                    qemu_img("check", "-U", "-f", "qcow2", path)
        assert content.last >= told, "what was written is lost"
        return content

    def held(self, snapshot: str) -> Content:
        """What a snapshot's files hold."""
        return self.content(self.held_files(snapshot))

    def held_files(self, snapshot: str) -> dict[str, Path]:
        return self._disks(self.domain.snapshotLookupByName(snapshot).getXMLDesc())

    def forget(self, snapshot: str) -> None:
        """Its files stay: the machine is on layers over them, as a linked clone is."""
        self.domain.snapshotLookupByName(snapshot).delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)

    def merged(self) -> None:
        """With all its snapshots merged it is as it was built, and has what it wrote last."""
        if self.domain.listAllSnapshots():
            self.done("merge", "--auto-approve")
        self.now()
        assert self.is_as_built(), sorted(self.folder.iterdir())

    def take(self, name: str, *words: str) -> Content:
        """A new snapshot, which holds what had been written at a moment while it was taken."""
        with self.a_moment() as moment:
            self.done("create", "--name", name, *words)
        return moment.of(name)

    @contextmanager
    def a_moment(self) -> Iterator[Moment]:
        moment = Moment(self, self.told())
        yield moment
        moment.latest = self.more(1) if self.running else self.told()

    def content(self, files: dict[str, Path]) -> Content:
        out = self.folder.parent / "read.raw"
        return Content({target: read(path, out) for target, path in files.items()})

    def _disks(self, xml: str) -> dict[str, Path]:
        found = {}
        for disk in document(xml).iterfind(".//devices/disk"):
            target, source = disk.find("target"), disk.find("source")
            assert target is not None
            assert source is not None
            found[target.get("dev", "")] = Path(source.get("file", ""))
        assert tuple(found) == self.targets
        return found

    @contextmanager
    def _still(self) -> Iterator[None]:
        """QEMU has written out everything, and the guest waits."""
        if self.running:
            self.domain.suspend()
        yield
        if self.running:
            self.domain.resume()


@dataclass
class Moment:
    """Some moment between two blocks that the guest told of."""

    vm: Writing
    earliest: int
    latest: int = 0

    def of(self, snapshot: str) -> Content:
        """What a snapshot that was taken then holds."""
        content = self.vm.held(snapshot)
        assert self.earliest <= content.last <= self.latest
        return content
