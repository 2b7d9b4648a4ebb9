"""What a running daemon tells, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from counting import Counting
from daemons import Daemon
from harness import MAIN, Project, await_old, idle, pool, resource, until
from test_marks import settings
from test_notify import Hook
from test_web import ask, metrics

from kvmstate.web.address import Address

pytestmark = pytest.mark.real


def at(daemon: Daemon) -> Address:
    return Address(Path(daemon.env["XDG_RUNTIME_DIR"]) / "kvmstate" / "shop.sock")


@pytest.fixture
def still(project: Project) -> Iterator[Callable[[], None]]:
    """Lets the host's libvirtd answer nothing, until the test is over."""
    stopped = []

    def stop() -> None:
        stopped.append(await_old(project.host))
        os.kill(stopped[0], signal.SIGSTOP)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def test_it_tells_of_a_silent_host_what_it_saw_last_and_asks_it_nothing(
    project: Project, run: Callable[..., Daemon], still: Callable[[], None]
) -> None:
    disk = resource("Volume", "web", pool="images", capacity="1MiB")
    web = idle("web", state="stopped", disks=[{"name": "root", "volume": "images/web"}])
    nightly = resource("SnapshotPolicy", "nightly", selector={"names": ["*"]}, every="1d", retention={"keepLast": 2})
    project.converge(pool(), disk, web, nightly)
    daemon = run()
    socket = at(daemon)
    daemon.says("SnapshotTaken", "domain/web")
    age = "kvmstate_snapshot_newest_age_seconds", frozenset({("policy", "nightly")})
    assert 0 <= until(lambda: metrics(socket).get(age), "the snapshot's age") < 60
    still()
    found = metrics(socket)
    capacity = found["kvmstate_pool_capacity_bytes", frozenset({("pool", "images")})]
    assert capacity >= found["kvmstate_pool_available_bytes", frozenset({("pool", "images")})] > 0
    assert found["kvmstate_resources", frozenset({("kind", "pool"), ("sync", "InSync")})] == 1
    for path in ("/healthz", "/readyz", "/status", "/events"):
        assert ask(socket, path)[0] == 200


def test_pages_are_drawn_without_asking_the_host(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect, tmp_path: Path
) -> None:
    settings(project, mode="observe")
    disk = resource("Volume", "web", pool="images", capacity="1MiB")
    web = idle("web", state="running", disks=[{"name": "root", "volume": "images/web"}])
    project.converge(pool(), disk, web)
    counting = Counting(tmp_path / "libvirt", project.uri.partition("socket=")[2])
    daemon = run("-c", f"qemu+unix:///system?socket={tmp_path}/libvirt")
    connection.lookupByName("web").destroy()
    daemon.says("Drifted", "domain/web")
    until(lambda: counting.quiet(0.3), "it has seen all that events told of")
    asked = counting.calls.copy()
    assert asked.total() > 10
    for _ in range(20):
        said = json.loads(ask(at(daemon), "/status?resource=domain/web")[1])
        for path in ("/", "/healthz", "/readyz", "/status", "/metrics", "/events"):
            assert ask(at(daemon), path)[0] == 200
    # it may be told of something meanwhile, or close a connection: but no page has it ask, not even one of them
    assert (counting.calls - asked).total() < 10
    (shown,) = said["resources"]
    assert (shown["state"], shown["summary"]["disks"]) == ("stopped", 1)
    assert shown["spec"]["disks"] == [{"name": "root", "volume": {"pool": "images", "name": "web"}}]
    assert [(f["path"], f["text"]) for f in shown["plan"]["fields"]] == [("state", "stopped -> running")]
    states = {r["address"]: r["state"] for r in json.loads(ask(at(daemon), "/status")[1])["resources"]}
    assert states == {"domain/web": "stopped", "pool/images": "active", "volume/images/web": "present"}


def test_what_was_just_made_is_shown_as_it_is(project: Project, run: Callable[..., Daemon]) -> None:
    project.write(pool(), resource("Volume", "web", pool="images", capacity="1MiB"), idle("web", state="running"))
    daemon = run()
    said = json.loads(ask(at(daemon), "/status")[1])
    states = {r["address"]: (r["sync"], r["state"], r["plan"]["actions"]) for r in said["resources"]}
    assert states == {
        "domain/web": ("InSync", "running", ["create"]),
        "pool/images": ("InSync", "active", ["create"]),
        "volume/images/web": ("InSync", "present", ["create"]),
    }


def test_what_nobody_told_of_is_seen_when_it_is_asked_to_look(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect
) -> None:
    project.converge(idle("web", state="stopped", autostart=False))
    daemon = run()
    # no event comes for it
    connection.lookupByName("web").setAutostart(True)
    assert ask(at(daemon), "/reconcile", "POST")[0] == 202
    daemon.says("DriftCorrected", "domain/web")
    assert daemon.stop() == 0
    assert not at(daemon).path.exists()


class Watcher:
    """A command that goes on printing JSON, an object a line."""

    def __init__(self, project: Project, log: Path, *args: str) -> None:
        self._log = log
        with log.open("w") as out:
            command = [sys.executable, "-c", MAIN, *args, "--json"]
            self.process = subprocess.Popen(command, cwd=project.folder, stdout=out, stderr=subprocess.STDOUT)

    def shows(self, holds: Callable[[dict[str, Any]], bool], what: str) -> None:
        def found() -> bool:
            lines = self._log.read_text().split("\n")[:-1]
            return any(holds(json.loads(line)) for line in lines if line.startswith("{"))

        until(found, f"{what} in {self._log.read_text()}", 30)


@pytest.fixture
def watch(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watcher]]:
    """Starts commands that find the daemons of this test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    started: list[Watcher] = []

    def start(*args: str) -> Watcher:
        started.append(Watcher(project, tmp_path / f"watch-{len(started)}.log", *args))
        return started[-1]

    yield start
    for watcher in started:
        watcher.process.kill()
        watcher.process.wait()


def network(state: dict[str, Any], sync: str) -> bool:
    return any((r["address"], r["sync"]) == ("network/lan", sync) for r in state.get("resources", ()))


def test_events_are_followed_over_a_restart_and_left_on_disk(
    project: Project, run: Callable[..., Daemon], watch: Callable[..., Watcher], connection: libvirt.virConnect
) -> None:
    project.converge(resource("Network", "lan"))
    first = run()
    follows = watch("events", "--follow")
    connection.networkLookupByName("lan").destroy()
    follows.shows(lambda e: (e["reason"], e["resource"]) == ("DriftCorrected", "network/lan"), "what was corrected")
    assert first.stop() == 0
    # what a daemon that does not run any more has left
    left = project.kvmstate("events", "--json")
    events = [json.loads(line) for line in left.out.splitlines()]
    assert [e["resource"] for e in events if e["reason"] == "DriftCorrected"] == ["network/lan"]
    assert "these are from its disk" in left.err
    assert project.kvmstate("events", "--since", "yesterday").code == 1
    second = run()
    again = [json.loads(line) for line in project.kvmstate("events", "--json").out.splitlines()]
    assert again[: len(events)] == events
    assert [e["id"] for e in again] == list(range(1, len(again) + 1))
    follows.shows(lambda e: e["reason"] == "Ready" and e["id"] > events[-1]["id"], "the second daemon")
    assert "DriftCorrected    network/lan: active: false -> true" in project.kvmstate("events", "--since", "1h").out
    assert second.process.poll() is None


def test_status_is_watched_as_the_daemon_sees_it(
    project: Project, run: Callable[..., Daemon], watch: Callable[..., Watcher]
) -> None:
    project.converge(resource("Network", "lan"))
    daemon = run()
    watcher = watch("status", "--watch")
    watcher.shows(lambda state: state["ready"] and network(state, "InSync"), "all is well")
    project.write(resource("Network", "lan", {"suspend": True}))
    watcher.shows(lambda state: network(state, "Suspended"), "suspended by its manifest")
    project.write({"kind": "Nonsense"})
    watcher.shows(lambda state: any(t["reason"] == "ManifestsInvalid" for t in state["conditions"]), "what is wrong")
    daemon.stop()
    watcher.shows(lambda state: "no daemon answers" in state.get("gone", ""), "the daemon has gone")


def test_status_is_watched_without_a_daemon(
    project: Project, watch: Callable[..., Watcher], connection: libvirt.virConnect
) -> None:
    project.converge(resource("Network", "lan"))
    watcher = watch("status", "--watch")
    watcher.shows(lambda state: network(state, "InSync"), "all is well")
    connection.networkLookupByName("lan").destroy()
    watcher.shows(lambda state: network(state, "Differs"), "what somebody did on the host")
    project.write(resource("Network", "lan", {"suspend": True}))
    watcher.shows(lambda state: network(state, "Suspended"), "what changed in the files")
    project.write({"kind": "Nonsense"})
    watcher.shows(lambda state: bool(state.get("errored")), "what is wrong in the files")


def test_who_is_to_be_told_is_told(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect
) -> None:
    project.converge(resource("Network", "lan"))
    hook = Hook()
    try:
        daemon = run()
        (project.folder / "url").write_text(hook.url)
        # of settings as of manifests, those in force are those in the files
        settings(project, notifications=[{"type": "webhook", "urlFile": "url"}])
        project.write({"kind": "Nonsense"})
        # before it, what is wrong with a file that is only half written
        until(lambda: any("expected a kind" in message for message in hook.messages()), "what is wrong")
        connection.networkLookupByName("lan").destroy()
        until(lambda: "active: false -> true" in hook.messages(), "what was corrected")
        assert daemon.stop() == 0
    finally:
        hook.close()
