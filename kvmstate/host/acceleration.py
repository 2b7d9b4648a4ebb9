"""Whether KVM really works on a host, not only whether libvirt lists it."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import libvirt

from kvmstate.errors import HostError
from kvmstate.host.connection import Host, once
from kvmstate.host.faults import faults
from kvmstate.xmlbind.document import document

# SeaBIOS says its name on the serial port as soon as the virtual CPU runs its first instructions.
PROBE_NAME = "kvmstate-probe-"
_PROBE = """
<domain type='kvm'>
  <name>{name}</name>
  <memory unit='MiB'>16</memory>
  <os><type>hvm</type><bios useserial='yes'/></os>
  <devices><serial type='pty'/></devices>
</domain>
"""
_PROBE_TIMEOUT = 5.0
_ASKING = threading.Lock()


@once
def best(host: Host) -> str:
    """kvm where a guest really runs with it, else qemu (emulation); the test driver has a type of its own."""
    kinds = {kind.get("type", "") for kind in document(host.capabilities).iterfind("guest/arch/domain")}
    if "kvm" in kinds:
        return "kvm" if works(host) else "qemu"
    return "qemu" if "qemu" in kinds else min(kinds, default="qemu")


@once
def is_x86(host: Host) -> bool:
    """Whether machines of type q35 exist on this host."""
    machines = document(host.capabilities).iterfind("guest/arch[@name='x86_64']/machine")
    return any(machine.text == "q35" for machine in machines)


def works(host: Host) -> bool:
    """Run a machine without disks for a moment and see whether its firmware speaks. Asked once a connection."""
    with _ASKING:
        return _probe(host)


@once
def _probe(host: Host) -> bool:
    try:
        with faults():
            domain = host.raw.createXML(
                _PROBE.format(name=PROBE_NAME + uuid.uuid4().hex[:8]), libvirt.VIR_DOMAIN_START_AUTODESTROY
            )
    except HostError:
        return False
    try:
        with faults():
            return _speaks(host, domain)
    except HostError:
        return False
    finally:
        with faults():
            domain.destroy()


def _speaks(host: Host, domain: Any) -> bool:
    stream = host.raw.newStream(libvirt.VIR_STREAM_NONBLOCK)
    domain.openConsole(None, stream, 0)
    deadline = time.monotonic() + _PROBE_TIMEOUT
    try:
        while time.monotonic() < deadline:
            said = stream.recv(1024)
            if isinstance(said, bytes) and said:
                return True
            time.sleep(0.05)
        return False
    finally:
        stream.abort()
