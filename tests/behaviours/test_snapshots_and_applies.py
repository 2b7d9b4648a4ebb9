"""Snapshot commands and applies at the same time: those of a machine that a project owns wait for each other, and
nobody's disk comes to be another file than its snapshots say."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import MAIN, ROOT, Project, Run, idle, kvmstate, pool, resource, until

from kvmstate.apply import open_lock
from kvmstate.host import open_host
from kvmstate.xmlbind import document

pytestmark = pytest.mark.real

# between the plan and the first change, as at the question whether to go on
PAUSE = """
import pathlib, time
import kvmstate.app
carry_out = kvmstate.app.Session.apply
def paused(*args, **given):
    pathlib.Path("asked").touch()
    while not pathlib.Path("answered").exists():
        time.sleep(0.02)
    return carry_out(*args, **given)
kvmstate.app.Session.apply = paused
"""


def volume(name: str = "root.qcow2") -> Any:
    return resource("Volume", name, pool="images", format="qcow2", capacity="8MiB")


def machine(name: str = "vm", disk: str = "root.qcow2", **spec: Any) -> Any:
    return idle(name, **{"disks": [{"name": "root", "volume": f"images/{disk}"}], "state": "stopped", **spec})


def snapshot(project: Project, command: str, *words: str) -> Run:
    return kvmstate("snapshot", command, *words, "-c", project.uri)


def files(connection: libvirt.virConnect, name: str = "vm") -> list[str]:
    text = connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return [source.get("file", "").rpartition("/")[2] for source in document(text).iterfind("devices/disk/source")]


@contextmanager
def locked(project: Project, name: str = "") -> Iterator[None]:
    with open_host(project.uri) as host, open_lock(host, name or project.name).held("apply"):
        yield


COMMANDS = [
    ("create", "vm"),
    ("revert", "vm", "one", "--auto-approve"),
    ("delete", "vm", "one", "--auto-approve"),
    ("merge", "vm", "--auto-approve"),
    ("flatten", "vm"),
]


def test_what_changes_a_machine_holds_the_lock_of_the_project_that_owns_it(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume(), machine())
    assert snapshot(project, "create", "vm", "--name", "one").code == 0
    before = connection.lookupByName("vm").XMLDesc()
    with locked(project):
        for command in COMMANDS:
            refused = snapshot(project, *command, "--lock-timeout", "0s")
            assert refused.code == 1, refused
            assert "project shop is locked on this host by" in refused.err
        assert connection.lookupByName("vm").XMLDesc() == before
        assert [each.getName() for each in connection.lookupByName("vm").listAllSnapshots()] == ["one"]
        # these only look
        for look in (("list",), ("tree", "vm"), ("create", "vm", "--dry-run"), ("merge", "vm", "--dry-run")):
            assert snapshot(project, *look).code == 0
        planned = project.kvmstate("snapshot run", "--dry-run")
        assert planned.code == 0, planned
    with locked(project, "another"):
        for command in COMMANDS[1:]:
            done = snapshot(project, *command, "--lock-timeout", "0s")
            assert done.code == 0, done


def test_a_machine_that_nobody_owns_needs_no_lock(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume(), machine())
    text = connection.lookupByName("vm").XMLDesc()
    # not even when it has the name of one that somebody owned
    connection.lookupByName("vm").undefine()
    connection.defineXML(text.replace(text[text.index("<uuid>") : text.index("</uuid>") + 7], ""))
    with locked(project):
        done = snapshot(project, "create", "vm", "--lock-timeout", "0s")
        assert done.code == 0, done


def test_machines_of_two_projects_are_both_held(project: Project, tmp_path: Path) -> None:
    project.converge(pool(), volume(), machine())
    other = Project(project.host, tmp_path / "other", "another")
    other.converge(volume("other.qcow2"), machine("other", "other.qcow2"))
    for name in ("shop", "another"):
        with locked(project, name):
            refused = snapshot(project, "create", "vm", "other", "--lock-timeout", "0s")
            assert f"project {name} is locked" in refused.err
            assert refused.code == 1
    done = snapshot(project, "create", "vm", "other", "--lock-timeout", "0s")
    assert done.code == 0, done


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_snapshot_at_an_applys_question_waits_for_its_end(
    project: Project, connection: libvirt.virConnect, state: str
) -> None:
    project.converge(pool(), volume(), machine(state=state))
    project.write(pool(), volume(), machine(state=state, title="changed"))
    applying = project.start_apply(first=PAUSE)
    try:
        until(lambda: (project.folder / "asked").exists(), "it asks")
        command = ["snapshot", "create", "vm", "--name", "colleague", "-c", project.uri, "--lock-timeout", "60s"]
        taking = subprocess.Popen(
            [sys.executable, "-c", MAIN, *command], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert taking.stderr is not None
        assert "which holds the lock of project shop since" in taking.stderr.readline()
        assert taking.poll() is None
        (project.folder / "answered").touch()
        assert applying.wait(60) == 0, project.log.read_text()
        assert taking.wait(60) == 0, taking.stderr.read()
        taking.communicate()
    finally:
        (project.folder / "answered").touch()
        applying.wait(60)
    assert files(connection) == ["root.colleague.overlay"]
    planned = project.plan()
    assert planned.code == 0, planned
    assert connection.lookupByName("vm").metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None) == "changed"


def test_snapshots_beside_applies_leave_each_disk_on_its_latest_overlay(
    project: Project, connection: libvirt.virConnect
) -> None:
    names = ("vm", "other")

    def declared(memory: int) -> list[Any]:
        return [
            pool(),
            *(volume(f"{name}.qcow2") for name in names),
            *(machine(name, f"{name}.qcow2", memory=f"{memory}MiB") for name in names),
        ]

    project.converge(*declared(32))
    taken: list[str] = []
    failed: list[str] = []
    ended = threading.Event()
    command = [sys.executable, "-c", MAIN, "snapshot", "create", *names, "-c", project.uri, "--lock-timeout", "60s"]

    def take() -> None:
        while not ended.is_set() and len(taken) < 20:
            name = f"s{len(taken)}"
            ran = subprocess.run([*command, "--name", name], cwd=ROOT, check=False, capture_output=True, text=True)
            failed.extend([ran.stderr] if ran.returncode else [])
            taken.append(name)

    taking = threading.Thread(target=take)
    taking.start()
    try:
        end = time.monotonic() + 40
        for memory in itertools.count(33):
            if len(taken) > 3 or time.monotonic() > end:
                break
            project.write(*declared(memory))
            applied = project.apply("--lock-timeout", "60s")
            assert applied.code == 0, applied
    finally:
        ended.set()
        taking.join()
    assert not failed, failed
    assert len(taken) > 1
    for name in names:
        assert files(connection, name) == [f"{name}.{taken[-1]}.overlay"]
    planned = project.plan()
    assert planned.code == 0, planned
