"""The host is looked at while manifests are read: what is wrong with these is told first, and nothing old counts."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from harness import Project, idle, kvmstate, pool, resource

from kvmstate.app import Ahead, Session, Writing, open_session
from kvmstate.apply import open_lock
from kvmstate.host import open_host
from kvmstate.manifest import load
from kvmstate.model.change import Action
from kvmstate.plan import Options

pytestmark = pytest.mark.real
BROKEN = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: lan}\nspec: {mtu: many}\n"


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_wrong_manifests_are_told_at_once_whatever_the_host_does(command: str, tmp_path: Path) -> None:
    (tmp_path / "lan.yaml").write_text(BROKEN)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "socket"))
        silent.listen()
        for path in ("nobody", "socket"):
            began = time.monotonic()
            done = kvmstate(command, str(tmp_path), "-c", f"qemu+unix:///system?socket={tmp_path}/{path}")
            assert done.code == 1
            assert "spec.mtu: expected a whole number" in str(done)
            assert "connect" not in str(done)
            assert time.monotonic() - began < 15, path


def test_wrong_manifests_leave_no_lock_and_no_record(project: Project) -> None:
    project.write(pool(), resource("Network", "lan", mtu="many"))
    assert "spec.mtu" in str(project.apply())
    with open_host(project.uri) as host:
        assert open_lock(host, project.name).holder() is None
        assert not [each for each in host.raw.listAllSecrets() if f":{project.name}:" in each.usageID()]


def session(project: Project, ahead: Ahead, writing: Writing | None = None):  # type: ignore[no-untyped-def]
    return open_session(project.uri, project.name, load([project.folder]).resources, None, writing, None, ahead)


def planned(opened: Session) -> list[str]:
    return [f"{change.action.name.lower()} {change.id}" for change in opened.plan(Options()).todo]


def test_what_manifests_come_to_say_is_looked_at_as_well(project: Project) -> None:
    project.converge(pool(), idle("vm", state="stopped"))
    ahead = Ahead(project.uri, project.name, False)
    ahead.join()
    project.write(pool(), idle("vm", state="stopped"), idle("other", state="stopped"), resource("Network", "lan"))
    with session(project, ahead) as opened:
        assert sorted(planned(opened)) == ["create domain/other", "create network/lan"]


def test_an_apply_counts_nothing_that_another_run_may_have_changed(project: Project) -> None:
    project.converge(pool(), idle("vm", state="stopped"))
    # another run holds the lock while this one looks, and changes what the record does not say
    with open_host(project.uri) as host, open_lock(host, project.name).held("snapshot"):
        ahead = Ahead(project.uri, project.name, False)
        ahead.join()
    with session(project, ahead, Writing("apply")) as opened:
        assert opened.seen.asked == frozenset()
    # another run has changed the record since
    ahead = Ahead(project.uri, project.name, False)
    ahead.join()
    project.converge(pool(), idle("vm", state="stopped"), idle("new", state="stopped"))
    with session(project, ahead, Writing("apply")) as opened:
        assert opened.seen.asked == frozenset()
        assert planned(opened) == []
    # nobody was there
    ahead = Ahead(project.uri, project.name, False)
    ahead.join()
    with session(project, ahead, Writing("apply")) as opened:
        assert {str(id_) for id_ in opened.seen.asked} == {"pool/images", "domain/vm", "domain/new"}
        assert planned(opened) == []


def test_what_was_seen_counts_for_one_plan(project: Project) -> None:
    project.converge(pool(), idle("vm", state="stopped"))
    ahead = Ahead(project.uri, project.name, False)
    with session(project, ahead) as opened:
        assert planned(opened) == []
        opened.host.raw.lookupByName("vm").undefine()
        plan = opened.plan(Options())
        assert [change.action for change in plan.todo] == [Action.CREATE]
