"""A machine whose disks are written to overlays is still what its manifest says, and can be changed and deleted."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import libvirt
import pytest
from harness import MAIN, Project, idle, kvmstate, patching, pool, resource

from kvmstate.app import open_session
from kvmstate.manifest.project import load_project
from kvmstate.plan import Options

pytestmark = pytest.mark.real

ROOT = {"name": "root", "volume": "images/root.qcow2"}


def volume(capacity: str = "8MiB") -> Any:
    return resource("Volume", "root.qcow2", pool="images", format="qcow2", capacity=capacity)


def snapshot(project: Project, command: str, *words: str) -> None:
    done = kvmstate("snapshot", command, "vm", *words, "-c", project.uri)
    assert done.code == 0, done


def overlay(connection: libvirt.virConnect) -> bool:
    return ".overlay" in connection.lookupByName("vm").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_an_overlay_is_no_drift_and_stays_when_the_machine_changes(
    project: Project, connection: libvirt.virConnect, state: str
) -> None:
    project.converge(pool(), volume(), idle("vm", disks=[ROOT], state=state))
    for name in ("one", "two"):
        snapshot(project, "create", "--name", name)
        planned = project.plan()
        assert planned.code == 0, planned
    snapshot(project, "revert", "one", "--auto-approve")
    assert project.plan().code == 0
    assert project.kvmstate("drift").code == 0
    project.converge(pool(), volume(), idle("vm", disks=[ROOT], state=state, title="changed"))
    assert overlay(connection)
    snapshot(project, "revert", "two", "--auto-approve")
    assert connection.lookupByName("vm").metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None) == "changed"
    assert project.plan().code == 0


def test_a_file_and_its_format_are_those_below_the_overlays(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume(), idle("vm", state="stopped"))
    path = project.path("images/plain.img")
    path.write_bytes(bytes(1 << 20))
    disk = {"name": "root", "file": "/var/lib/libvirt/behaviours/images/plain.img", "format": "raw"}
    project.converge(pool(), volume(), idle("vm", state="stopped", disks=[disk]))
    snapshot(project, "create")
    assert overlay(connection)
    planned = project.plan()
    assert planned.code == 0, planned


def test_another_volume_is_drift_also_of_a_machine_with_snapshots(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume(), idle("vm", disks=[ROOT], state="stopped"))
    snapshot(project, "create")
    domain = connection.lookupByName("vm")
    text = domain.XMLDesc(0)
    other = project.path("images/other.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", other, "8M"], check=True)
    at = text.index("/var/lib/libvirt/behaviours/images/root.")
    connection.defineXML(text[:at] + "/var/lib/libvirt/behaviours/images/other.qcow2" + text[text.index("'", at) :])
    assert "images/other.qcow2" in project.plan().out


def test_a_volume_that_a_snapshot_is_of_is_neither_grown_nor_deleted(project: Project) -> None:
    project.converge(pool(), volume(), idle("vm", disks=[ROOT], state="stopped"))
    snapshot(project, "create", "--name", "one")
    project.write(pool(), volume("16MiB"), idle("vm", disks=[ROOT], state="stopped"))
    refused = project.apply()
    assert refused.code == 1
    assert "snapshot one of virtual machine vm keeps this volume as it is" in refused.err + refused.out
    assert "kvmstate snapshot merge" in refused.err + refused.out
    snapshot(project, "merge", "--auto-approve")
    project.converge()


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_machine_that_is_deleted_leaves_its_volume_as_it_wrote_it_last(
    project: Project, connection: libvirt.virConnect, state: str
) -> None:
    project.converge(pool(), volume(), idle("vm", disks=[ROOT], state=state))
    snapshot(project, "create", "--name", "one")
    if state == "stopped":
        # as the guest would have done
        written = project.path("images/root.one.overlay")
        backing = project.path("images/root.qcow2")
        subprocess.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", backing, written], check=True)
        subprocess.run(["qemu-io", "-c", "write -q -P 7 1M 64k", written], check=True)
        inside = "/var/lib/libvirt/behaviours/images/root.qcow2"
        subprocess.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", inside, written], check=True)
    project.converge(pool(), volume(), options=("--prune",))
    assert not connection.listAllDomains()
    assert [path.name for path in project.path("images").iterdir()] == ["root.qcow2"]
    if state == "stopped":
        read = ["qemu-io", "-c", "read -P 7 1M 64k", project.path("images/root.qcow2")]
        assert (
            "Pattern verification failed" not in subprocess.run(read, check=True, capture_output=True, text=True).stdout
        )


def test_a_volume_below_overlays_does_not_come_back_to_be_written_to(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume(), idle("vm", disks=[ROOT], state="stopped"))
    snapshot(project, "create", "--name", "one")
    project.converge(pool(), volume(), idle("vm", disks=[], state="stopped"))
    project.write(pool(), volume(), idle("vm", disks=[ROOT], state="stopped"))
    refused = project.apply()
    assert refused.code == 1
    assert "volume images/root.qcow2 is what snapshot one of virtual machine vm preserves" in refused.out
    assert "use that file instead" in refused.out
    assert "root.qcow2" not in connection.lookupByName("vm").XMLDesc(0)
    project.write(pool(), volume(), idle("other", disks=[ROOT], state="stopped"))
    assert "is what snapshot one of virtual machine vm preserves" in project.apply().out


def test_what_a_cut_off_revert_has_left_off_is_not_started_before_it_is_finished(
    project: Project, connection: libvirt.virConnect
) -> None:
    policy = resource("SnapshotPolicy", "daily", selector={"names": ["*"]}, schedule="@daily", retention={"daily": 1})
    project.converge(pool(), volume(), idle("vm", disks=[ROOT]), policy)
    snapshot(project, "create", "--name", "one")
    killed = f"import os; {patching(host__domains__define='lambda *_, **__: os.kill(os.getpid(), 9)')}"
    command = ["snapshot", "revert", "vm", "one", "--auto-approve", "-c", project.uri]
    ended = subprocess.run([sys.executable, "-c", f"{killed}\n{MAIN}", *command], check=False)
    domain = connection.lookupByName("vm")
    assert (ended.returncode, domain.isActive()) == (-9, 0)
    said = "a revert of virtual machine vm to snapshot one was cut off, and has left it off"
    planned = project.plan()
    assert f"! domain/vm                        blocked: {said}" in planned.out
    assert "hint: `kvmstate snapshot revert vm one` finishes it; `virsh start vm` gives it up" in planned.out
    assert project.apply().code == 1
    ran = project.kvmstate("snapshot run")
    assert (ran.code, f"! {said}" in ran.out) == (1, True)
    assert not domain.isActive()
    snapshot(project, "revert", "one", "--auto-approve")
    assert domain.isActive()
    assert project.plan().code == 0
    assert project.kvmstate("snapshot run").code == 0


def test_snapshots_of_a_machine_with_checkpoints_are_left_and_it_is_not_stopped_for_its_deletion(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume(), idle("vm", disks=[ROOT]))
    snapshot(project, "create", "--name", "one")
    domain = connection.lookupByName("vm")
    domain.checkpointCreateXML("<domaincheckpoint><name>c1</name></domaincheckpoint>")
    before, files = domain.ID(), sorted(project.path("images").iterdir())
    held = "checkpoint c1 of a backup program, and libvirt changes no snapshots then"
    for words in (["delete", "vm", "one"], ["merge", "vm"], ["revert", "vm", "one"]):
        run = kvmstate("snapshot", *words, "--auto-approve", "-c", project.uri)
        assert run.code == 1, run
        assert f"vm has {held}" in run.err, run
        assert "virsh checkpoint-delete vm c1 --metadata" in run.err
    project.write(pool(), volume())
    applied = project.apply("--prune")
    assert applied.code == 1
    assert f"blocked: it has {held}" in applied.out
    assert (domain.ID(), sorted(project.path("images").iterdir())) == (before, files)
    domain.checkpointLookupByName("c1").delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    project.converge(options=("--prune",))
    assert not connection.listAllDomains()


def test_a_checkpoint_that_comes_after_the_plan_stops_no_machine_either(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume(), idle("vm", disks=[ROOT]))
    snapshot(project, "create", "--name", "one")
    project.write(pool(), volume())
    loaded, options = load_project(project.folder).load(()), Options(prune=True)
    domain = connection.lookupByName("vm")
    before = domain.ID()
    with open_session(project.uri, project.name, loaded.resources, loaded.place) as session:
        plan = session.plan(options)
        assert not plan.blocked
        domain.checkpointCreateXML("<domaincheckpoint><name>c1</name></domaincheckpoint>")
        result = session.apply(plan, options, lambda event: None)
    assert ["libvirt changes no snapshots then" in error.message for _, error in result.failed] == [True]
    assert domain.ID() == before
