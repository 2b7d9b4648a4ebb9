"""What was taken out of a manifest, and still runs, waits for the restart: plan and status say so until it is real."""

from __future__ import annotations

import shutil
from typing import Any

import libvirt
import pytest
from harness import QUICK, Project, idle, pool, resource, wipe

from kvmstate.host import domains
from kvmstate.sandbox import Sandbox

pytestmark = pytest.mark.real

REST = "<domain><os><type>hvm</type></os><devices>{}</devices></domain>"
WATCHDOG = "<watchdog model='i6300esb' action='{}'/>"
# by the place that waits: what a manifest says first, and then
MACHINE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cpu": ({"cpu": {"mode": "custom", "model": "Nehalem"}}, {}),
    "cpu.mode": ({"cpu": {"mode": "custom", "model": "Nehalem"}}, {"cpu": {"mode": "host-model"}}),
    "serials[0]": ({"serials": [{"port": 0}]}, {}),
    "graphics[vnc]": ({"graphics": [{"type": "vnc"}]}, {}),
    # what comes: libvirt says more of it while it runs than anybody has defined
    "graphics": ({}, {"graphics": [{"type": "vnc"}]}),
    "disks[root].cache": ({"disks": [{"name": "root", "volume": "images/root", "cache": "none"}]}, {}),
    "disks[root].serial": ({"disks": [{"name": "root", "volume": "images/root", "serial": "abc"}]}, {}),
    "maxMemory": ({"maxMemory": "64MiB"}, {}),
    "maxCpus": ({"cpus": 1, "maxCpus": 2}, {"cpus": 1}),
    # it waits for a disk: a kernel that panics takes a whole CPU
    "kernel": (
        {"memory": "128MiB", "kernel": {"path": "VMLINUZ", "cmdline": f"{QUICK} rootwait root=/dev/none"}},
        {"memory": "128MiB"},
    ),
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
# When one of these is back, it is restarted: libvirt says more of what runs (a port, a path), or nobody compares it
NOT_COMPARED = ("serials[0]", "graphics[vnc]", "remainder[devices/watchdog]")


@pytest.fixture(scope="module")
def waiting(host: Sandbox, guest: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """By the place: the steps at which it was not as it should be. A machine for each, all in one project: each step is
    one apply of all of them."""
    project = Project(host, tmp_path_factory.mktemp("pending") / "shop")
    with (project.folder / "kvmstate.yaml").open("a") as file:
        file.write("rollout: {maxUnavailable: 100%}\n")
    wrong: dict[str, list[str]] = {place: [] for place in MACHINE}
    names = {place: f"web-{number}" for number, place in enumerate(MACHINE)}

    def written(which: int, lifecycle: dict[str, Any] | None = None, **more: Any) -> list[dict[str, Any]]:
        documents = [pool(), resource("Network", "lan")]
        for place, name in names.items():
            spec = dict(MACHINE[place][which])
            if "kernel" in spec:
                spec["kernel"] = {**spec["kernel"], "path": str(guest.vmlinuz)}
            disks = [{**disk, "volume": f"images/{name}"} for disk in spec.get("disks", [{"name": "root"}])]
            plain = {"interfaces": [{"name": "nic", "network": "lan"}]}
            documents.append(resource("Volume", name, pool="images", capacity="4MiB"))
            documents.append(idle(name, lifecycle, type="qemu", **{**plain, **spec, "disks": disks, **more}))
        return documents

    def look(step: str) -> None:
        plan, status = project.plan(), project.kvmstate("status").out
        syncs = project.syncs()
        assert plan.code == 0, plan
        for place, name in names.items():
            said = plan.out.partition(f" domain/{name} ")[2].partition("\n    domain/")[0]
            line = next(line for line in status.split("\n") if line.startswith(f"domain/{name} "))
            if not (
                f"  {place}" in said
                and "(restart required)" in said
                and syncs[f"domain/{name}"] == "RestartPending"
                and place in line
            ):
                wrong[place].append(f"{step}: {syncs[f'domain/{name}']}\n{line}\n{said}")

    def numbers() -> dict[str, int]:
        opened = libvirt.open(project.uri)
        found = {name: opened.lookupByName(name).ID() for name in names.values()}
        opened.close()
        return found

    def none_waits(step: str) -> None:
        syncs = project.syncs()
        for place, name in names.items():
            if syncs[f"domain/{name}"] != "InSync":
                wrong[place].append(f"{step}: {syncs[f'domain/{name}']}")

    try:
        project.converge(*written(0))
        project.write(*written(1))
        assert (applied := project.apply()).code == 0, applied
        look("taken out")
        # and whatever else is changed
        project.converge(*written(1, title="new"))
        look("something else changed")
        opened = libvirt.open(project.uri)
        for name in names.values():
            opened.lookupByName(name).destroy()
            opened.lookupByName(name).create()
        opened.close()
        assert "restart" not in project.converge().out
        none_waits("restarted by hand")
        # once more, and now it may
        project.converge(*written(0, {"restart": "now"}))
        project.converge(*written(1))
        look("once more")
        # what is taken back is so as it runs: that takes no restart
        before = numbers()
        project.converge(*written(0, {"restart": "now"}))
        for place, name in names.items():
            if (numbers()[name] != before[name]) != (place in NOT_COMPARED):
                wrong[place].append("restarted for what runs so, or not")
        none_waits("taken back")
        project.converge(*written(1))
        look("and again")
        project.converge(*written(1, {"restart": "now"}))
        for place, name in names.items():
            if numbers()[name] <= before[name]:
                wrong[place].append("not restarted")
        none_waits("restarted")
        return wrong
    finally:
        wipe(host.uri)
        shutil.rmtree(host.directory / "lib" / "behaviours", ignore_errors=True)


@pytest.mark.parametrize("place", MACHINE)
def test_of_a_machine(place: str, waiting: dict[str, list[str]]) -> None:
    assert waiting[place] == []


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


def test_what_is_back_with_less_is_restarted(project: Project, connection: libvirt.virConnect) -> None:
    def machine(restart: str, *disks: dict[str, Any]) -> list[dict[str, Any]]:
        known = [{"name": "x", "volume": "images/x", "bus": "sata", **disk} for disk in disks]
        return [
            pool(),
            resource("Volume", "x", pool="images", capacity="1MiB"),
            idle("web", {"restart": restart}, disks=known),
        ]

    project.converge(*machine("whenOff", {"cache": "unsafe"}))
    project.converge(*machine("whenOff"))
    assert "restart" in project.plan().out
    # also where it is told, and waits
    project.write(*machine("whenOff", {}))
    assert project.apply().code == 0
    for _ in range(2):
        _waits(project, "domain/web", "disks[x].cache")
        assert project.apply().code == 0
    project.converge(*machine("now", {}))
    assert "cache=" not in connection.lookupByName("web").XMLDesc()


def test_what_goes_waits_though_libvirt_has_something_in_its_place(
    project: Project, connection: libvirt.virConnect
) -> None:
    cpu = {"mode": "custom", "model": "qemu64", "topology": {"sockets": 1, "cores": 1, "threads": 1}}
    timers = [{"name": "hpet", "present": False}]
    project.converge(idle("web", type="qemu", cpu=cpu, clock={"offset": "utc", "timers": timers}))
    project.write(idle("web", type="qemu", clock={"offset": "utc"}))
    assert project.apply().code == 0
    for _ in range(2):
        _waits(project, "domain/web", "cpu.topology")
        _waits(project, "domain/web", "clock.timers")
        assert project.apply().code == 0
    web = connection.lookupByName("web")
    web.destroy()
    web.create()
    assert "restart" not in project.converge().out
    assert project.syncs()["domain/web"] == "InSync"


def test_what_libvirt_has_by_itself_is_taken_back_without_a_restart(
    project: Project, connection: libvirt.virConnect
) -> None:
    said: dict[str, Any] = {
        "clock": {"offset": "localtime"},
        "maxCpus": 4,
        "features": {"pae": True},
        "cpu": {"mode": "custom", "model": "Nehalem"},
    }
    project.converge(*(idle(f"web-{place.lower()}", type="qemu", cpus=1) for place in said))
    numbers = {each.name(): each.ID() for each in connection.listAllDomains()}
    project.write(*(idle(f"web-{p.lower()}", type="qemu", **{"cpus": 1, p: value}) for p, value in said.items()))
    assert project.apply().code == 0
    assert {*project.syncs().values()} == {"RestartPending"}
    project.converge(*(idle(f"web-{place.lower()}", {"restart": "now"}, type="qemu", cpus=1) for place in said))
    assert {each.name(): each.ID() for each in connection.listAllDomains()} == numbers
    assert {*project.syncs().values()} == {"InSync"}
    # as a new machine has them
    defined = connection.lookupByName("web-features").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert "<acpi/>" in defined
    assert "<pae/>" not in defined


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
    web.destroy()
    web.create()
    assert "restart" not in project.converge().out


@pytest.mark.parametrize(
    ("place", "after"),
    [
        ("rng.source", {"rng": {"source": "/dev/random"}}),
        ("maxCpus", {"cpus": 2}),
        ("maxMemory", {"memory": "48MiB"}),
        ("xml[./features/vmport/@state]", {"xml": {"./features/vmport/@state": "off"}}),
        ("remainder[devices/watchdog]", {"remainder": REST.format(WATCHDOG.format("reset"))}),
    ],
)
def test_what_goes_on_from_saved_memory(
    place: str,
    after: dict[str, Any],
    project: Project,
    connection: libvirt.virConnect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # nothing in there moves a memory balloon, however long one waits
    monkeypatch.setattr(domains, "GUEST_TIMEOUT", 1.0)

    def machine(restart: str, **spec: Any) -> dict[str, Any]:
        known = {"type": "qemu", "cpus": 1, "rng": {"source": "/dev/urandom"}, **spec}
        return idle("web", {"restart": restart}, **{k: v for k, v in known.items() if v is not None})

    project.converge(machine("whenOff"))
    web = connection.lookupByName("web")
    web.managedSave()
    project.write(machine("never", **after))
    refused = project.apply()
    assert refused.code == 1
    # libvirt 11 has a watchdog of its own beside it, and the place a number
    place = place.removesuffix("]")
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
