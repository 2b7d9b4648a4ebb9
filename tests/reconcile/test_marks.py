"""What people suspend stays as they leave it, and what is to be deleted waits for their word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libvirt
import pytest
import yaml
from daemons import Daemon
from harness import Project, Run, idle, kvmstate, pool, resource, until

pytestmark = pytest.mark.real


def mark(project: Project, command: str, *args: str) -> Run:
    return kvmstate(command, "-C", str(project.folder), *args)


def settings(project: Project, **reconcile: Any) -> None:
    file = project.folder / "kvmstate.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"reconcile": reconcile}))


def test_what_is_suspended_is_left_alone_and_what_is_resumed_is_corrected_at_once(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect
) -> None:
    project.converge(resource("Network", "web"), resource("Network", "db"))
    daemon = run()
    done = mark(project, "suspend", "network/web", "--reason", "a disk is repaired")
    assert (done.code, done.out) == (0, "network/web is suspended\n")
    said = daemon.says("Suspended", "network/web")["event"]
    assert said.startswith("suspended since 20")
    assert said.endswith(": a disk is repaired")
    connection.networkLookupByName("web").destroy()
    connection.networkLookupByName("db").destroy()
    # both were heard of; what is not suspended comes back
    daemon.says("DriftCorrected", "network/db")
    applied = project.apply("--lock-timeout", "30s")
    assert "network/web" in applied.out
    assert "a disk is repaired" in applied.out
    assert not connection.networkLookupByName("web").isActive()
    shown = project.kvmstate("status").out.split("\n")
    assert "  suspended  " in next(line for line in shown if line.startswith("network/web "))
    assert mark(project, "resume", "network/web").out.startswith("network/web is resumed; it was suspended since 20")
    daemon.says("DriftCorrected", "network/web")
    assert connection.networkLookupByName("web").isActive()
    assert mark(project, "resume", "network/web").out == "network/web was not suspended\n"
    assert project.plan().code == 0


def test_what_leaves_the_manifests_while_it_is_suspended_stays_and_so_does_what_it_uses(
    project: Project, connection: libvirt.virConnect
) -> None:
    disk = resource("Volume", "web", {"deletion": "delete"}, pool="images", capacity="1MiB")
    web = idle("web", state="stopped", disks=[{"name": "root", "volume": "images/web"}])
    project.converge(pool(), disk, web)
    assert mark(project, "suspend", "domain/*").code == 0
    project.write(pool())
    done = project.apply("--prune")
    assert "volume/images/web" in done.out
    assert connection.lookupByName("web")
    assert project.path("images/web").exists()
    assert mark(project, "resume", "domain/web").code == 0
    assert project.apply("--prune").code == 0
    assert not project.path("images/web").exists()


def test_no_policy_takes_snapshots_of_what_is_suspended_and_adopting_it_again_does_not_resume_it(
    project: Project,
) -> None:
    disk = resource("Volume", "web", pool="images", capacity="1MiB")
    web = idle("web", state="stopped", disks=[{"name": "root", "volume": "images/web"}])
    nightly = resource("SnapshotPolicy", "nightly", selector={"names": ["*"]}, every="1d", retention={"keepLast": 1})
    project.converge(pool(), disk, web, nightly)
    assert mark(project, "suspend", "domain/web").code == 0
    other = str(project.folder.parent / "taken")
    taken = kvmstate("import", "domain/web", "--output", other, "--project", "shop", "-c", project.uri)
    assert taken.code == 0, taken
    done = project.kvmstate("snapshot run")
    assert "none is taken: suspended since 20" in done.out
    assert "0 created, 0 deleted, 0 failed" in done.out
    assert mark(project, "resume", "domain/web").out.startswith("domain/web is resumed")
    assert "1 created" in project.kvmstate("snapshot run").out


@pytest.mark.parametrize("command", ["suspend", "resume"])
def test_what_is_not_owned_cannot_be_marked_and_then_nothing_is(project: Project, command: str) -> None:
    project.converge(idle("web", state="stopped"))
    done = mark(project, command, "domain/web", "domain/wob")
    assert (done.code, done.out) == (1, "")
    assert "project shop owns no domain/wob on this host\nhint: did you mean domain/web?" in done.err
    assert "suspended" not in project.kvmstate("status").out


@pytest.mark.usefixtures("hasty")
def test_a_deletion_waits_until_it_is_confirmed_and_no_longer_than_it_is_meant(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect
) -> None:
    never = [{"schedule": "0 0 29 2 *", "duration": "1m"}]
    settings(project, prune="confirm", windows=never)
    both = [idle("web", state="stopped"), idle("db", state="stopped")]
    project.converge(*both)
    daemon = run()
    assert "is declared in" in mark(project, "confirm", "domain/web").err

    project.write(both[1])
    waits_for(daemon, "confirmation")
    assert mark(project, "confirm", "domain/web").out == "domain/web may be deleted\n"
    waits_for(daemon, "the change window")
    # meant no longer: a confirmation that was not used is over
    project.write(*both)
    daemon.says("InSync", "domain/web")
    settings(project, prune="confirm")
    project.write(both[1])
    waits_for(daemon, "confirmation")

    assert mark(project, "confirm", "domain/web").code == 0
    daemon.says("Deleted", "domain/web")
    assert [domain.name() for domain in connection.listAllDomains()] == ["db"]


def waits_for(daemon: Daemon, what: str) -> None:
    until(lambda: any(e["reason"] == "Pending" and what in e["event"] for e in daemon.since()), what, 30)
    daemon.mark()


def test_nothing_is_confirmed_where_nothing_waits(project: Project) -> None:
    project.converge(idle("web", state="stopped"))
    assert "waits for no confirmation" in mark(project, "confirm", "domain/web").err
