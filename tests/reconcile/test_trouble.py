"""Whatever happens to manifests, host and other runs: nothing is deleted, and what is in force is kept."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
import yaml
from conftest import Daemon
from harness import Project, await_old, idle, resource, until

from kvmstate.app import Writing, writable
from kvmstate.host import open_host

pytestmark = pytest.mark.real
Run = Callable[..., Daemon]
LAN = resource("Network", "lan")
VM = idle("vm", state="running")


def is_running(connection: libvirt.virConnect, name: str = "vm") -> bool:
    try:
        return bool(connection.lookupByName(name).isActive())
    except libvirt.libvirtError:
        return False


def prune(project: Project) -> None:
    settings = project.folder / "kvmstate.yaml"
    settings.write_text(settings.read_text() + "prune: true\n")


def test_manifests_that_are_not_whole_delete_nothing(
    project: Project, run: Run, connection: libvirt.virConnect
) -> None:
    prune(project)
    project.write(VM, LAN)
    daemon = run()
    manifests = project.folder / "manifests.yaml"
    good = manifests.read_text()
    aside = project.folder.with_name("aside")

    def unreadable() -> None:
        manifests.unlink()
        manifests.mkdir()
        (manifests / "a.yaml").symlink_to("/proc/self/mem")

    def empty() -> None:
        manifests.write_text("")

    for spoil, mend in (
        (lambda: manifests.write_text(good[:-40] + "\n  bad: ["), lambda: manifests.write_text(good)),
        (empty, lambda: manifests.write_text(good)),
        (lambda: project.folder.rename(aside), lambda: aside.rename(project.folder)),
        (unreadable, lambda: (shutil.rmtree(manifests), manifests.write_text(good))),
        (
            lambda: (project.folder / "kvmstate.yaml").rename(project.folder / "gone"),
            lambda: (project.folder / "gone").rename(project.folder / "kvmstate.yaml"),
        ),
    ):
        daemon.mark()
        spoil()
        until(lambda: [e for e in daemon.since() if e["level"] == "warning"], "loud", 10)
        connection.lookupByName("vm").destroy()
        if spoil is not empty:
            until(lambda: is_running(connection), "the last good ones are in force", 10)
        mend()
        until(lambda: is_running(connection), "in force again", 10)
        until(lambda: [e for e in daemon.since() if e["reason"] in ("ManifestsValid", "Recovered")], "mended", 10)
    assert connection.networkLookupByName("lan").isActive()
    assert [e for e in daemon.events() if e["reason"] in ("Deleted", "Forgotten")] == []


def test_without_any_good_manifests_what_was_applied_last_is_in_force(
    project: Project, run: Run, connection: libvirt.virConnect
) -> None:
    prune(project)
    project.converge(VM, LAN)
    (project.folder / "manifests.yaml").write_text("- nonsense")
    connection.lookupByName("vm").destroy()
    daemon = run()
    daemon.says("ManifestsInvalid")
    until(lambda: is_running(connection), "as it was applied last", 10)
    assert connection.networkLookupByName("lan").isActive()


def test_a_folder_that_is_switched_by_a_link(project: Project, run: Run, tmp_path: Path) -> None:
    for name, memory in (("one", "32MiB"), ("two", "40MiB")):
        shutil.copytree(project.folder, tmp_path / name)
        vm = idle("vm", memory=memory)
        (tmp_path / name / "manifests.yaml").write_text(yaml.safe_dump(vm))
    current = tmp_path / "current"
    current.symlink_to("one")
    daemon = run(folder=current)
    for target in ("two", "one", "two"):
        daemon.mark()
        (tmp_path / "next").symlink_to(target)
        os.replace(tmp_path / "next", current)
        daemon.says("Applied", "domain/vm", 10)
    daemon.mark()
    (tmp_path / "two" / "manifests.yaml").write_text(yaml.safe_dump(idle("vm", memory="44MiB")))
    assert "40 MiB -> 44 MiB" in daemon.says("Applied", "domain/vm", 10)["event"]


def test_libvirtd_killed(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    project.write(VM, LAN)
    daemon = run()
    os.kill(await_old(project.host), 9)
    daemon.says("HostUnreachable")
    daemon.says("HostReachable")
    again = libvirt.open(project.uri)
    daemon.mark()
    again.lookupByName("vm").destroy()
    daemon.says("DriftCorrected", "domain/vm", 10)
    again.close()


def test_the_lock_decides(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    project.write(VM)
    daemon = run()
    with open_host(project.uri) as host, writable(host, project.name, Writing("by hand")):
        connection.lookupByName("vm").destroy()
        daemon.says("Locked")
        assert not is_running(connection)
    # as soon as it is free, not when the wait for it is over
    until(lambda: is_running(connection), "corrected", 3)
    daemon.says("Unlocked")


def test_of_two_one_stands_by(project: Project, run: Run, connection: libvirt.virConnect, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(project.folder, other)
    (other / "manifests.yaml").write_text(yaml.safe_dump(idle("vm", memory="48MiB")))
    project.write(VM)
    first = run()
    second = run(folder=other, ready=False)
    second.says("StandingBy")
    assert connection.lookupByName("vm").maxMemory() == 32 * 1024
    first.stop()
    second.says("Applied", "domain/vm", 10)
    assert connection.lookupByName("vm").isActive()
    second.process.kill()
    second.process.wait()
    # its process is dead: nobody waits for its time to be up
    third = run()
    third.says("Applied", "domain/vm", 10)


def test_a_storm(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    project.write(VM, LAN)
    daemon = run()
    daemon.mark()
    ends = time.monotonic() + 5
    stop = threading.Event()

    def events() -> None:
        domain = connection.lookupByName("vm")
        count = 0
        while not stop.is_set():
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, f"<a n='{count}'/>", "k", "x:y", 3)
            count += 1
            time.sleep(0.01)

    thread = threading.Thread(target=events)
    thread.start()
    count = 0
    while time.monotonic() < ends:
        count += 1
        # in one go: what is cut off half-way would not be applied
        new = project.folder / "manifests.yaml.new"
        new.write_text(yaml.safe_dump_all([idle("vm", state="running", memory=f"{32 + count % 7}MiB"), LAN]))
        new.rename(project.folder / "manifests.yaml")
        time.sleep(0.01)
    project.write(idle("vm", state="running", memory="64MiB"), LAN)
    stop.set()
    thread.join()
    until(lambda: "-> 64 MiB" in str(daemon.since()), "the last one", 10)
    # the files never rested: they are read every two seconds all the same
    applied = [e for e in daemon.since() if e["reason"] == "Applied"]
    assert 2 <= len(applied) <= 8, applied
    assert count > 100
