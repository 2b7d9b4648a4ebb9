"""Whatever happens to manifests, host and other runs: nothing is deleted, and what is in force is kept."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import libvirt
import pytest
import yaml
from daemons import Daemon
from harness import Project, await_old, idle, pool, resource, until
from trouble import inside, small_disk, until_it_may_die

from kvmstate.app import Writing, writable
from kvmstate.host import open_host

pytestmark = pytest.mark.real
Run = Callable[..., Daemon]
# How often, and for how many seconds: more by hand
KILLS = int(os.environ.get("KVMSTATE_RUN_KILLS", 1))
STORM = int(os.environ.get("KVMSTATE_STORM", 4))
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

    for spoil, fix in (
        (lambda: manifests.write_text(good[:-40] + "\n  bad: ["), lambda: manifests.write_text(good)),
        (lambda: manifests.write_text(""), lambda: manifests.write_text(good)),
        (lambda: project.folder.rename(aside), lambda: aside.rename(project.folder)),
        (unreadable, lambda: (shutil.rmtree(manifests), manifests.write_text(good))),
        (
            lambda: (project.folder / "kvmstate.yaml").rename(project.folder / "gone"),
            lambda: (project.folder / "gone").rename(project.folder / "kvmstate.yaml"),
        ),
    ):
        daemon.mark()
        spoil()
        daemon.says("ManifestsInvalid")
        connection.lookupByName("vm").destroy()
        until(lambda: is_running(connection), "the last good ones are in force")
        fix()
        daemon.says("ManifestsValid")
    assert connection.networkLookupByName("lan").isActive()
    assert [e for e in daemon.events() if e["reason"] in ("Deleted", "Released")] == []


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


def opened(uri: str) -> libvirt.virConnect | None:
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError:
        return None


def test_libvirtd_killed(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    project.write(VM, LAN)
    daemon = run()
    for _ in range(KILLS):
        daemon.mark()
        os.kill(await_old(project.host), 9)
        # whether it hears of the loss, or is connected again before it would have to say so
        again = until(lambda: opened(project.uri), "libvirtd is back")
        # what was being corrected when it died is corrected by now
        until(partial(is_running, again), "kept")
        daemon.mark()
        # while a new libvirtd takes its machines over, this destroys them and fails
        with suppress(libvirt.libvirtError):
            again.lookupByName("vm").destroy()
        daemon.says("DriftCorrected", "domain/vm", 20)
        again.close()
    assert [e for e in daemon.events() if e["reason"] in ("Deleted", "Released")] == []


def test_a_disk_that_is_full(project: Project, run: Run, connection: libvirt.virConnect, tmp_path: Path) -> None:
    (tmp_path / "base.img").write_bytes(os.urandom(3 << 20))
    base = resource("Volume", "base", pool="images", format="raw", content={"file": str(tmp_path / "base.img")})
    folder = "/var/lib/libvirt/behaviours/images"
    with small_disk(project.host, folder, "4m"):
        inside(project.host, f"head -c 2M /dev/urandom >{folder}/in-the-way")
        until_it_may_die(project.host)
        project.write(pool(), base, VM)
        daemon = run()
        daemon.says("Failed", "volume/images/base")
        # libvirtd of 11.3 may crash of it
        until(lambda: is_running(libvirt.open(project.uri)), "the others are kept")
        inside(project.host, f"rm {folder}/in-the-way")
        daemon.says("Recovered", "volume/images/base", 60)
        inside(project.host, f"cmp {folder}/base {tmp_path}/base.img")
        assert daemon.stop() == 0
        libvirt.open(project.uri).storagePoolLookupByName("images").destroy()


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
    second.says("LeaderElectionLost")
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
    ends = time.monotonic() + STORM
    stop = threading.Event()
    made = 0

    def events() -> None:
        nonlocal made
        domain = connection.lookupByName("vm")
        while not stop.is_set():
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, f"<a n='{made}'/>", "k", "x:y", 3)
            made += 1
            time.sleep(0.005)

    thread = threading.Thread(target=events)
    thread.start()
    count = 0
    while time.monotonic() < ends:
        count += 1
        # in one go: what is cut off half-way would not be applied
        new = project.folder / "manifests.yaml.new"
        new.write_text(yaml.safe_dump_all([idle("vm", state="running", memory=f"{32 + count % 7}MiB"), LAN]))
        new.rename(project.folder / "manifests.yaml")
        time.sleep(0.005)
    project.write(idle("vm", state="running", memory="64MiB"), LAN)
    stop.set()
    thread.join()
    until(lambda: "-> 64 MiB" in str(daemon.since()), "the last one", 10)
    # the files never rested: they are read every two seconds, however often they change
    applied = [e for e in daemon.since() if e["reason"] == "Applied"]
    assert len(applied) <= 3 + STORM, applied
    assert count > 20 * STORM
    print(f"{count} writes, {made} events in {STORM} s: {len(applied)} applied")
