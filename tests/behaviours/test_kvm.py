"""A machine whose manifest says no type gets KVM where KVM runs guests, and emulation where it does not.

The host here has the machine's own /dev/kvm, whatever it is worth: one that works, none, or one that exists and hangs
(nested virtualisation that is switched off half-way). Ordinary users cannot make the device, and test without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from harness import Guest, Project, until

from kvmstate import sandbox

pytestmark = pytest.mark.real

MAKE_DEVICE = "mknod -m 666 /dev/kvm c 10 232 2>/dev/null || :"


@pytest.fixture
def with_kvm(tmp_path: Path) -> Iterator[Project]:
    name = f"kvm-{os.getpid()}"
    started = sandbox.start(name)
    try:
        assert sandbox.execute(started, ["sh", "-c", MAKE_DEVICE]) == 0
        yield Project(started, tmp_path / "shop")
    finally:
        sandbox.stop(name)


def probes(connection: libvirt.virConnect) -> list[str]:
    return [d.name() for d in connection.listAllDomains() if d.name().startswith("kvmstate-probe")]


def test_guests_run_whatever_kvm_is_worth_and_no_probe_stays(with_kvm: Project, tiny: Guest) -> None:
    connection = libvirt.open(with_kvm.host.uri)
    with_kvm.write(tiny.machine("web"))
    killed = with_kvm.start_apply()
    until(lambda: probes(connection) or killed.poll() is not None, "KVM is tried")
    killed.kill()
    killed.wait()
    until(lambda: not probes(connection), "the probe goes with the connection that started it")
    applying = with_kvm.start_apply()
    assert applying.wait(timeout=120) == 0
    tiny.boot()
    assert probes(connection) == []
    connection.close()
