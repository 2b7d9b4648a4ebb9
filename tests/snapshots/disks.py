"""Machines with disks whose contents can be told block by block."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
from harness import Run, kvmstate

from kvmstate.xmlbind import document

MIB = 1 << 20
MACHINE = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os>
<devices>{disks}</devices></domain>"""
DISK = """<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/>
<target dev='{target}' bus='virtio'/></disk>"""


def qemu_img(*words: object) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


@dataclass
class Machine:
    """A machine that boots nothing: what is written to its disks, a test writes, through QEMU while it runs."""

    domain: Any
    uri: str
    folder: Path
    targets: tuple[str, ...]

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
        """64 KiB of one byte, at so many MiB of each disk."""
        for number, target in enumerate(self.targets):
            command = f"write -P {pattern + number} {at}M 64k"
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
        out = self.folder.parent / "read.raw"
        qemu_img("convert", "-U", "-f", "raw" if path.endswith(".raw") else "qcow2", "-O", "raw", path, out)
        return hashlib.sha256(out.read_bytes()).hexdigest()

    def clone(self) -> None:
        """Have the first disk be on a layer over its image, as a linked clone is."""
        base, path = self.file("vda"), self.folder / "clone.qcow2"
        qemu_img("create", "-f", "qcow2", "-b", base, "-F", "raw" if base.endswith(".raw") else "qcow2", path)
        self.switch(str(path))

    def switch(self, path: str) -> None:
        disk = DISK.format(format="qcow2", path=path, target="vda")
        text = MACHINE.format(name="vm", disks=disk)
        self.domain.connect().defineXML(text.replace("<name>", f"<uuid>{self.domain.UUIDString()}</uuid><name>", 1))

    def check(self) -> None:
        """Every image is whole."""
        for path in self.folder.iterdir():
            if not path.name.endswith((".raw", ".memory")):
                qemu_img("check", "-U", "-f", "qcow2", path)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


def make(
    connection: Any, uri: str, folder: Path, disks: int = 1, format_: str = "qcow2", running: bool = False
) -> Machine:
    targets = tuple(f"vd{letter}" for letter in "abc"[:disks])
    listed = []
    for target in targets:
        path = folder / f"{target}.{format_}"
        qemu_img("create", "-f", format_, path, "8M")
        listed.append(DISK.format(format=format_, path=path, target=target))
    domain = connection.defineXML(MACHINE.format(name="vm", disks="".join(listed)))
    machine = Machine(domain, uri, folder, targets)
    machine.write(1, 0)
    if running:
        domain.create()
    return machine
