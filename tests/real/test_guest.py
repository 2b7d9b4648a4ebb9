"""The tiny guest boots, tells what it has on its console, and obeys the power button."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import QUICK

from kvmstate.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.conftest import Guest

pytestmark = pytest.mark.real

DOMAIN = """<domain type='qemu'><name>tiny</name><memory unit='MiB'>128</memory>
<os><type machine='{machine}'>hvm</type><kernel>{guest.vmlinuz}</kernel><initrd>{guest.initrd}</initrd>
<cmdline>{quick} {options}</cmdline></os><features><acpi/></features>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/>
<target dev='vda' bus='virtio'/></disk>
<serial type='pty'><log file='{log}'/></serial></devices></domain>"""


def until(holds: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.1)
    return holds()


@pytest.mark.parametrize(
    ("machine", "options", "answer"),
    [
        ("pc", "", "guest: power button\n"),
        ("q35", "", "guest: power button\n"),
        ("q35", "kvmstate.ignore_shutdown=1", "guest: power button ignored\n"),
    ],
)
def test_a_guest(host: Sandbox, guest: Guest, tmp_path: Path, machine: str, options: str, answer: str) -> None:
    def virsh(*words: str) -> str:
        return subprocess.run(
            ["virsh", "-c", host.uri, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    log, disk, xml = tmp_path / "console.log", tmp_path / "disk", tmp_path / "tiny.xml"
    disk.write_bytes(b"marker:first\n".ljust(1 << 20, b"\0"))
    xml.write_text(DOMAIN.format(quick=QUICK, machine=machine, guest=guest, options=options, disk=disk, log=log))

    def console() -> str:
        return log.read_text(errors="replace").replace("\r", "") if log.exists() else ""

    virsh("create", str(xml))
    try:
        assert until(lambda: "disks=vda:1MiB:marker:first" in console()), console()
        assert "guest ready" in console()
        virsh("shutdown", "tiny")
        assert until(lambda: answer in console()), console()
        if not options:
            assert until(lambda: virsh("list", "--name") == "")
    finally:
        if virsh("list", "--name"):
            virsh("destroy", "tiny")
