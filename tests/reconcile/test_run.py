"""What differs from the manifests is corrected as soon as libvirt tells, and nothing else is touched."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from daemons import Daemon
from harness import Project, idle, pool, resource, until

pytestmark = pytest.mark.real
Run = Callable[..., Daemon]
LAN = resource("Network", "lan", autostart=True)
VM = idle("vm", state="running", autostart=True)


def is_running(connection: libvirt.virConnect, name: str = "vm") -> bool:
    try:
        return bool(connection.lookupByName(name).state()[0] == libvirt.VIR_DOMAIN_RUNNING)
    except libvirt.libvirtError:
        return False


def test_changes_by_hand_are_corrected(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    project.write(LAN, pool(), VM)
    daemon = run()
    domain = connection.lookupByName("vm")

    def network() -> Any:
        return connection.networkLookupByName("lan")

    for change, holds in (
        (domain.destroy, domain.isActive),
        (domain.suspend, lambda: is_running(connection)),
        (domain.undefine, lambda: connection.lookupByName("vm").isPersistent()),
        (lambda: network().destroy(), lambda: network().isActive()),
        (lambda: network().undefine(), lambda: network().isPersistent()),
        (
            lambda: connection.storagePoolLookupByName("images").destroy(),
            lambda: connection.storagePoolLookupByName("images").isActive(),
        ),
    ):
        daemon.mark()
        change()
        until(holds, "corrected", 10)
        until(lambda: [e for e in daemon.since() if e["reason"] == "DriftCorrected"], "said", 10)
    assert daemon.stop() == 0
    assert project.plan().code == 0


def test_what_is_saved_is_applied(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    project.write(VM)
    daemon = run()
    number = connection.lookupByName("vm").ID()
    project.write(VM, LAN)
    daemon.says("Applied", "network/lan")
    # an editor's way: a new file takes the old one's place
    new = project.folder / "manifests.yaml.new"
    text = (project.folder / "manifests.yaml").read_text()
    new.write_text(text.replace("32MiB", "48MiB"))
    daemon.mark()
    new.rename(project.folder / "manifests.yaml")
    assert "memory: 32 MiB -> 48 MiB" in daemon.says("Applied", "domain/vm")["event"]
    assert daemon.says("RestartPending", "domain/vm")
    # of the first start: nothing was restarted
    assert connection.lookupByName("vm").ID() == number


def test_a_machine_that_does_not_come_back_is_the_only_one_however_often_it_is_tried(
    project: Project, run: Run, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    names = ["web-0", "web-1", "web-2"]

    def machines(cpus: int) -> list[dict[str, Any]]:
        logged = {"web-1": {"serials": [{"port": 0, "log": str(logs / "console.log")}]}}
        return [idle(name, {"restart": "now"}, cpus=cpus, **logged.get(name, {})) for name in names]

    def numbers() -> list[int]:
        return [connection.lookupByName(name).ID() for name in names]

    project.write(*machines(1))
    daemon = run()
    first = numbers()
    logs.rename(tmp_path / "gone")
    daemon.mark()
    project.write(*machines(2))
    daemon.says("Failed", "domain/web-1")
    assert "no other machine is restarted: domain/web-1 failed" in daemon.says("Failed", "domain/web-2")["event"]
    # tried once more by itself, while the other one waits for its own next try
    daemon.mark()
    told = daemon.says("Failed", "domain/web-2")["event"]
    assert "rollout.maxUnavailable is 1, and domain/web-1 does not run" in told
    assert numbers()[1:] == [-1, first[2]]
    (tmp_path / "gone").rename(logs)
    until(lambda: all(now > before for now, before in zip(numbers(), first, strict=True)), "all are restarted")
    assert daemon.stop() == 0
    project.converge()


def test_what_left_the_manifests_goes_once_they_have_rested(
    project: Project, run: Run, connection: libvirt.virConnect
) -> None:
    project.write(LAN, VM)
    (project.folder / "kvmstate.yaml").write_text((project.folder / "kvmstate.yaml").read_text() + "prune: true\n")
    daemon = run()
    daemon.mark()
    project.write(VM)
    daemon.says("Pending", "network/lan")
    project.write(LAN, VM)
    daemon.says("InSync", "network/lan")
    assert connection.networkLookupByName("lan").isActive()
    project.write(VM)
    daemon.says("Deleted", "network/lan")
    assert connection.listAllNetworks() == []


def test_a_failing_machine_does_not_hold_up_the_rest(
    project: Project, run: Run, connection: libvirt.virConnect
) -> None:
    broken = idle("broken", state="running", kernel={"path": "/nowhere"})
    lost = idle("lost", disks=[{"name": "root", "volume": "nowhere/root"}])
    project.write(broken, lost, VM, LAN)
    daemon = run()
    assert daemon.says("Failed", "domain/broken")["level"] == "warning"
    assert "volume/nowhere/root" in daemon.says("Blocked", "domain/lost")["event"]
    assert is_running(connection)
    assert connection.networkLookupByName("lan").isActive()
    # what failed is tried again by itself, and at once when its manifest changes
    project.write(idle("broken", state="running"), VM, LAN)
    daemon.says("Recovered", "domain/broken", 10)


def test_a_change_that_was_taken_back_is_not_tried_again_before_its_manifest_changes(
    project: Project, run: Run, connection: libvirt.virConnect
) -> None:
    before = {"revert": "onFailure"}
    policy = resource(
        "SnapshotPolicy",
        "safe",
        selector={"names": ["web"]},
        every="90d",
        retention={"keepLast": 9},
        beforeChange=before,
    )
    root = resource("Volume", "web", pool="images", capacity="4MiB")

    def web(**spec: Any) -> dict[str, Any]:
        return idle("web", {"restart": "now"}, disks=[{"name": "root", "volume": "images/web"}], **spec)

    project.converge(pool(), root, web(), VM)
    daemon = run()
    project.write(pool(), root, web(kernel={"path": "/nowhere"}), VM, policy)
    said = daemon.says("Failed", "domain/web")["event"]
    assert "domain/web was reverted to snapshot safe-" in said
    assert is_running(connection, "web")
    started = connection.lookupByName("web").ID()
    # what else is done does not make it be tried again, nor does an event of its own
    project.write(pool(), root, web(kernel={"path": "/nowhere"}), VM, policy, LAN)
    daemon.says("Applied", "network/lan")
    connection.lookupByName("web").setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "x", None, None, 2)
    daemon.mark()
    connection.lookupByName("vm").destroy()
    daemon.says("DriftCorrected", "domain/vm")
    assert connection.lookupByName("web").ID() == started
    daemon.mark()
    project.write(pool(), root, web(), VM, policy, LAN)
    daemon.says("Recovered", "domain/web")


def test_what_is_observed_or_suspended_is_left_alone(
    project: Project, run: Run, connection: libvirt.virConnect
) -> None:
    project.converge(idle("watched", {"mode": "observe"}, state="running"), idle("out", state="running"), VM)
    project.write(
        idle("watched", {"mode": "observe"}, state="running"), idle("out", {"suspend": True}, state="running"), VM
    )
    daemon = run()
    daemon.says("Suspended", "domain/out")
    for name in ("watched", "out", "vm"):
        connection.lookupByName(name).destroy()
    assert "state: stopped -> running" in daemon.says("Drifted", "domain/watched")["event"]
    until(lambda: is_running(connection), "corrected", 10)
    assert not is_running(connection, "watched")
    assert not is_running(connection, "out")
    # an apply by hand leaves alone what is suspended, and enforces what the daemon only observes
    assert project.apply("--lock-timeout", "20s").code == 0
    assert is_running(connection, "watched")
    assert not is_running(connection, "out")


@pytest.mark.usefixtures("hasty")
def test_guests_are_stopped_in_change_windows_only(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    settings = project.folder / "kvmstate.yaml"
    before = settings.read_text()
    leap_day = "{schedule: '0 0 29 2 *', duration: 1h}"
    settings.write_text(before + f"prune: true\nreconcile: {{windows: [{leap_day}]}}\n")
    project.write(idle("vm", {"restart": "now"}, state="running"), LAN)
    daemon = run()
    number = connection.lookupByName("vm").ID()
    project.write(idle("vm", {"restart": "now"}, state="running", memory="48MiB"))
    daemon.says("RestartPending", "domain/vm")
    assert (
        "change window, which opens 2028-02-29"
        in until(lambda: [e for e in daemon.events() if "window" in e["event"]], "waits")[-1]["event"]
    )
    assert connection.lookupByName("vm").ID() == number
    settings.write_text(before + "prune: true\nreconcile: {windows: [{schedule: '* * * * *', duration: 1h}]}\n")
    until(lambda: connection.lookupByName("vm").ID() != number, "restarted in the window")
    daemon.says("Deleted", "network/lan")


def test_signals(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    project.write(VM)
    daemon = run()
    domain = connection.lookupByName("vm")
    # no event tells of this
    domain.setAutostart(0)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says("DriftCorrected", "domain/vm")
    assert domain.autostart() == 1
    assert daemon.stop() == 0


def test_snapshot_policies_run_on_time(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    root = resource("Volume", "root.qcow2", pool="images", format="qcow2", capacity="1MiB")
    vm = idle("vm", state="stopped", disks=[{"name": "root", "volume": "images/root.qcow2"}])
    policy = resource("SnapshotPolicy", "often", selector={"names": ["vm"]}, every="60s", retention={"keepLast": 1})
    project.write(pool(), root, vm, policy)
    daemon = run()
    daemon.says("SnapshotTaken", "domain/vm")
    assert connection.lookupByName("vm").snapshotNum() == 1
    assert [e for e in daemon.events() if e["level"] == "warning"] == []
