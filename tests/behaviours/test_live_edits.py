"""What changes while a machine runs, as its guest sees it: the same boot, and nothing left to do."""

from __future__ import annotations

import libvirt
import libvirt_qemu
import pytest
from harness import Guest, Project, idle, pool, resource

pytestmark = pytest.mark.real

LAN = {"ips": [{"address": "192.168.90.1/24", "dhcp": {"ranges": [{"start": "192.168.90.9", "end": "192.168.90.99"}]}}]}
ROOT = {"name": "root", "volume": "images/root"}


def test_cpus_memory_disks_and_interfaces_change_in_a_running_guest(project: Project, tiny: Guest) -> None:
    rest = [
        pool(),
        resource("Volume", "root", pool="images", capacity="4MiB"),
        resource("Volume", "data", pool="images", capacity="6MiB"),
        resource("Network", "lan", **LAN),
        resource("Network", "backend"),
    ]

    def machine(**spec: object) -> dict:
        return tiny.machine("web", maxCpus=3, maxMemory="192MiB", **spec)

    first = machine(cpus=1, memory="128MiB", disks=[ROOT], interfaces=[{"network": "lan"}])
    project.converge(*rest, first)
    less = tiny.says(r"cpus=1 mem=(\d+)MiB disks=vda:4MiB nics=[^ ,]*=192\.168\.90\.\d+ ")
    boot = tiny.boot()
    more = machine(
        cpus=3,
        memory="192MiB",
        disks=[ROOT, {"name": "data", "volume": "images/data"}],
        interfaces=[{"network": "lan"}, {"network": "backend", "mac": "52:54:00:00:00:0b"}],
    )
    applied = project.converge(*rest, more)
    assert "restart required" not in applied.out
    grown = tiny.says(r"cpus=3 mem=(\d+)MiB disks=vda:4MiB,vdb:6MiB nics=.*52:54:00:00:00:0b=")
    assert int(grown[1]) > int(less[1]) + 32
    # and the devices away again
    project.converge(*rest, machine(cpus=3, memory="192MiB", disks=[ROOT], interfaces=[{"network": "lan"}]))
    tiny.says(r"disks=vda:4MiB nics=[^,]*=192\.168\.90\.\d+ ")
    assert tiny.boot() == boot


def test_a_medium_is_changed_in_the_drive_of_a_running_machine(
    project: Project, connection: libvirt.virConnect
) -> None:
    media = {name: project.folder / f"{name}.iso" for name in ("one", "two")}
    for file in media.values():
        file.write_bytes(b"\0" * (1 << 20))

    def machine(**medium: object) -> dict:
        return idle("web", disks=[{"name": "cd", "device": "cdrom", **medium}])

    project.converge(machine())
    before = connection.lookupByName("web").ID()
    for file in (media["one"], media["two"], None):
        project.converge(machine(**({"file": str(file)} if file else {})))
        hmp = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        drive = libvirt_qemu.qemuMonitorCommand(connection.lookupByName("web"), "info block", hmp)
        assert (str(file) if file else "[not inserted]") in drive
    assert connection.lookupByName("web").ID() == before
