"""What was taken out of a manifest, and still runs, waits for the restart: plan and status say so until it is real."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Project, idle, pool, resource

pytestmark = pytest.mark.real

REST = "<domain><os><type>hvm</type></os><devices>{}</devices></domain>"
WATCHDOG = "<watchdog model='i6300esb' action='{}'/>"
# by the place that waits: what a manifest says first, and then
MACHINE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cpu": ({"cpu": {"mode": "custom", "model": "Nehalem"}}, {}),
    "cpu.mode": ({"cpu": {"mode": "custom", "model": "Nehalem"}}, {"cpu": {"mode": "host-model"}}),
    "rng": ({"rng": {"source": "/dev/urandom"}}, {}),
    "serials[0]": ({"serials": [{"port": 0}]}, {}),
    "graphics[vnc]": ({"graphics": [{"type": "vnc"}]}, {}),
    "guestAgent": ({"guestAgent": True}, {}),
    "disks[root].cache": ({"disks": [{"name": "root", "volume": "images/root", "cache": "none"}]}, {}),
    "disks[root].serial": ({"disks": [{"name": "root", "volume": "images/root", "serial": "abc"}]}, {}),
    "maxMemory": ({"maxMemory": "64MiB"}, {}),
    "maxCpus": ({"cpus": 1, "maxCpus": 2}, {"cpus": 1}),
    "kernel": ({"kernel": {"path": "VMLINUZ", "cmdline": "quiet"}}, {}),
    "interfaces[nic].mtu": ({"interfaces": [{"name": "nic", "network": "lan", "mtu": 1400}]}, {}),
    "xml[./features/vmport/@state]": ({"xml": {"./features/vmport/@state": "off"}}, {}),
    "remainder[devices/watchdog]": (
        {"remainder": REST.format(WATCHDOG.format("reset"))},
        {"remainder": REST.format("")},
    ),
    "remainder[devices/watchdog/@action]": (
        {"remainder": REST.format(WATCHDOG.format("reset"))},
        {"remainder": REST.format(WATCHDOG.format("poweroff"))},
    ),
}


@pytest.mark.parametrize("place", MACHINE)
def test_of_a_machine(place: str, project: Project, connection: libvirt.virConnect, guest: Any) -> None:
    before, after = MACHINE[place]
    if "kernel" in before:
        before = {"kernel": {**before["kernel"], "path": str(guest.vmlinuz)}}
    rest = [pool(), resource("Volume", "root", pool="images", capacity="4MiB"), resource("Network", "lan")]

    def machine(spec: dict[str, Any], lifecycle: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        plain = {
            "disks": [{"name": "root", "volume": "images/root"}],
            "interfaces": [{"name": "nic", "network": "lan"}],
        }
        return idle("web", lifecycle, type="qemu", **{**plain, **spec, **more})

    project.converge(*rest, machine(before))
    project.write(*rest, machine(after))
    assert (applied := project.apply()).code == 0, applied
    _waits(project, "domain/web", place)
    # and whatever else is changed
    project.converge(*rest, machine(after, title="new"))
    _waits(project, "domain/web", place)
    web = connection.lookupByName("web")
    web.destroy()
    web.create()
    assert "restart" not in project.converge().out
    assert "RestartPending" not in project.syncs().values()
    # once more, and now it may
    project.converge(*rest, machine(before, {"restart": "now"}))
    project.converge(*rest, machine(after))
    _waits(project, "domain/web", place)
    id_ = connection.lookupByName("web").ID()
    project.converge(*rest, machine(after, {"restart": "now"}))
    assert connection.lookupByName("web").ID() > id_
    assert "RestartPending" not in project.syncs().values()


@pytest.mark.parametrize(
    ("place", "spec"),
    [
        ("mtu", {"mtu": 1400}),
        ("domain", {"domain": {"name": "rm.test"}}),
        ("dns", {"dns": {"forwardPlainNames": False}}),
        ("forward", {"forward": {"mode": "nat"}}),
        ("xml[./ip/dhcp/bootp/@file]", {"xml": {"./ip/dhcp/bootp/@file": "pxelinux.0"}}),
        ("remainder[bridge/@delay]", {"remainder": "<network><bridge delay='7'/></network>"}),
    ],
)
def test_of_a_network(place: str, spec: dict[str, Any], project: Project, connection: libvirt.virConnect) -> None:
    ips = [{"address": "192.168.95.1/24", "dhcp": {"ranges": [{"start": "192.168.95.9", "end": "192.168.95.19"}]}}]
    less = {"remainder": "<network/>"} if "remainder" in spec else {}
    project.converge(resource("Network", "lan", ips=ips, **spec))
    project.write(resource("Network", "lan", ips=ips, **less))
    assert (applied := project.apply()).code == 0, applied
    for _ in range(2):
        _waits(project, "network/lan", place)
        project.converge()
    connection.networkLookupByName("lan").destroy()
    assert project.apply().code == 0
    assert "RestartPending" not in project.syncs().values()
    assert "restart" not in project.plan().out


def _waits(project: Project, address: str, place: str) -> None:
    plan = project.plan()
    assert plan.code == 0, plan
    assert f"{address} " in plan.out, plan
    assert f"  {place}" in plan.out, plan
    assert "(restart required)" in plan.out
    assert project.syncs()[address] == "RestartPending"
    line = next(line for line in project.kvmstate("status").out.split("\n") if line.startswith(f"{address} "))
    assert place in line


def test_beneath_saved_memory(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(idle("web", type="qemu", rng={"source": "/dev/urandom"}, guestAgent=True))
    web = connection.lookupByName("web")
    web.managedSave()
    stopped = idle("web", type="qemu", state="stopped", rng={"source": "/dev/random"}, cpus=2)
    project.write(stopped)
    assert (applied := project.apply()).code == 0, applied
    plan = project.plan()
    assert plan.code == 0, plan
    assert "its saved memory has it as it was before: maxCpus, cpus, rng.source" in plan.out, plan
    line = next(line for line in project.kvmstate("status").out.split("\n") if line.startswith("domain/web "))
    assert " saved " in line
    stopped["spec"]["state"] = "running"
    project.converge(stopped)
    _waits(project, "domain/web", "rng.source")
    _waits(project, "domain/web", "guestAgent")
    web.destroy()
    web.create()
    assert "restart" not in project.converge().out


@pytest.mark.parametrize(
    ("place", "after"),
    [
        ("rng.source", {"rng": {"source": "/dev/random"}}),
        ("rng", {"rng": None}),
        ("maxCpus", {"cpus": 2}),
        ("maxMemory", {"memory": "48MiB"}),
        ("xml[./features/vmport/@state]", {"xml": {"./features/vmport/@state": "off"}}),
        ("remainder[devices/watchdog]", {"remainder": REST.format(WATCHDOG.format("reset"))}),
    ],
)
def test_what_goes_on_from_saved_memory(
    place: str, after: dict[str, Any], project: Project, connection: libvirt.virConnect
) -> None:
    def machine(restart: str, **spec: Any) -> dict[str, Any]:
        known = {"type": "qemu", "cpus": 1, "rng": {"source": "/dev/urandom"}, **spec}
        return idle("web", {"restart": restart}, **{k: v for k, v in known.items() if v is not None})

    project.converge(machine("whenOff"))
    web = connection.lookupByName("web")
    web.managedSave()
    project.write(machine("never", **after))
    refused = project.apply()
    assert refused.code == 1
    assert f"lifecycle.restart: never refuses a restart, which {place}" in refused.out
    assert web.hasManagedSaveImage()
    project.write(machine("whenOff", **after))
    assert f"its saved memory has it as it was before: {place}" in project.plan().out
    assert (applied := project.apply()).code == 0, applied
    _waits(project, "domain/web", place)
    # stopped by its manifest while it is saved, then what was saved is given up
    web.managedSave()
    project.converge(machine("whenOff", **after, state="stopped"))
    assert f"its saved memory has it as it was before: {place}" in project.plan().out
    web.managedSaveRemove(0)
    assert "restart" not in project.converge(machine("whenOff", **after)).out
    assert project.todo() == {}
    # and where a restart is allowed
    project.converge(machine("whenOff"))
    web.destroy()
    project.converge()
    web.managedSave()
    project.write(machine("now", **after))
    assert f"it goes on from its saved memory, and is restarted for {place}" in project.plan().out
    project.converge()
    assert "RestartPending" not in project.syncs().values()


def test_what_changes_live_does_so_after_the_saved_memory(project: Project, connection: libvirt.virConnect) -> None:
    def machine(**spec: Any) -> dict[str, Any]:
        nics = [{"name": "nic", "network": "lan", "mac": "52:54:00:00:00:01"}]
        return idle("web", type="qemu", interfaces=nics, **spec)

    lan = resource("Network", "lan")
    project.converge(lan, machine(title="old"))
    connection.lookupByName("web").managedSave()
    both = machine(title="new")
    both["spec"]["interfaces"][0]["link"] = "down"
    project.converge(lan, both)
    active = connection.lookupByName("web").XMLDesc()
    assert "<title>new</title>" in active
    assert "<link state='down'/>" in active
