"""Machines with disks whose contents can be told block by block."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
from harness import Run, kvmstate

from kvmstate.snapshots.chain import lay
from kvmstate.xmlbind import document, to_text

MACHINE = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os>
<devices>{disks}</devices></domain>"""
DISK = """<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/>
<target dev='{target}' bus='virtio'/></disk>"""


SPACING = 128 << 10


def qemu_img(*words: object) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


@dataclass
class Machine:
    """A machine that boots nothing. What its disks of 1 MiB hold a test writes, through QEMU while it runs."""

    domain: Any
    uri: str
    folder: Path
    targets: tuple[str, ...]
    _digests: dict[tuple[object, ...], str] = field(default_factory=dict, repr=False)

    def snapshot(self, command: str, *words: str) -> Run:
        return kvmstate("snapshot", command, "vm", *words, "-c", self.uri)

    def done(self, command: str, *words: str) -> Run:
        run = self.snapshot(command, *words)
        assert run.code == 0, run
        return run

    def file(self, target: str) -> str:
        """What the disk is written to."""
        text = self.domain.XMLDesc(0 if self.domain.isActive() else libvirt.VIR_DOMAIN_XML_INACTIVE)
        return next(
            str(disk.find("source").get("file"))  # type: ignore[union-attr]
            for disk in document(text).iterfind("devices/disk")
            if disk.find("target").get("dev") == target  # type: ignore[union-attr]
        )

    def write(self, pattern: int, at: int) -> None:
        """64 KiB of one byte, in one of eight places of each disk."""
        for number, target in enumerate(self.targets):
            command = f"write -P {pattern + number} {at * SPACING} 64k"
            if self.domain.isActive():
                said = libvirt_qemu.qemuMonitorCommand(
                    self.domain,
                    f'qemu-io -d /machine/peripheral/virtio-disk{number}/virtio-backend "{command}"',
                    libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
                )
                # its own words go to QEMU's log
                assert said == ""
            else:
                path = self.file(target)
                format_ = "qcow2" if not path.endswith(".raw") else "raw"
                subprocess.run(["qemu-io", "-f", format_, "-c", command, path], check=True, stdout=subprocess.DEVNULL)

    def contents(self) -> dict[str, str]:
        """What the machine's disks hold, as digests."""
        if self.domain.isActive():
            for number, _ in enumerate(self.targets):
                libvirt_qemu.qemuMonitorCommand(
                    self.domain,
                    f'qemu-io -d /machine/peripheral/virtio-disk{number}/virtio-backend "flush"',
                    libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
                )
        return {target: self.digest(self.file(target)) for target in self.targets}

    def digest(self, path: str) -> str:
        """Of all that an image and those below it hold. What no file of it was written to since is not read again."""
        at = tuple((file, (stat := Path(file).stat()).st_mtime_ns, stat.st_size) for file in backing_chain(path))
        if at not in self._digests:
            self._digests[at] = self._read(path)
        return self._digests[at]

    def _read(self, path: str) -> str:
        out = self.folder.parent / "read.raw"
        qemu_img("convert", "-U", "-f", "raw" if path.endswith(".raw") else "qcow2", "-O", "raw", path, out)
        return hashlib.sha256(out.read_bytes()).hexdigest()

    def clone(self) -> None:
        """Have the first disk be on a layer over its image, as a linked clone is."""
        base, path = self.file("vda"), self.folder / "clone.qcow2"
        qemu_img("create", "-f", "qcow2", "-b", base, "-F", "raw" if base.endswith(".raw") else "qcow2", path)
        self.switch(str(path))

    def switch(self, path: str) -> None:
        root = document(self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        lay(root.iterfind("devices/disk"), "vda", path, "qcow2")
        self.domain.connect().defineXML(to_text(root))

    def check(self) -> None:
        """Every image is whole."""
        for path in self.folder.iterdir():
            if not path.name.endswith((".raw", ".memory")):
                qemu_img("check", "-U", "-f", "qcow2", path)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def backing_chain(path: str | None) -> Iterator[str]:
    """By the images' own headers (https://www.qemu.org/docs/master/interop/qcow2.html)."""
    while path:
        yield path
        if path.endswith(".raw"):
            return
        with Path(path).open("rb") as image:
            offset, size = struct.unpack(">8xQI", image.read(20))
            image.seek(offset)
            path = image.read(size).decode() if offset else None


def make(
    connection: Any, uri: str, folder: Path, disks: int = 1, format_: str = "qcow2", running: bool = False
) -> Machine:
    targets = tuple(f"vd{letter}" for letter in "abc"[:disks])
    listed = []
    for target in targets:
        path = folder / f"{target}.{format_}"
        qemu_img("create", "-f", format_, path, 8 * SPACING)
        listed.append(DISK.format(format=format_, path=path, target=target))
    domain = connection.defineXML(MACHINE.format(name="vm", disks="".join(listed)))
    machine = Machine(domain, uri, folder, targets)
    machine.write(1, 0)
    if running:
        domain.create()
    return machine
