"""`kvmstate run --git`: a host is kept as the last good revision says."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
import yaml
from daemons import Daemon
from harness import Project, kvmstate, resource, until
from remotes import Remote, ssh_key, web

pytestmark = pytest.mark.real
LAN, DMZ = resource("Network", "lan"), resource("Network", "dmz")


def test_a_host_is_kept_as_the_last_good_revision_says(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect, tmp_path: Path
) -> None:
    remote, key = Remote(tmp_path), ssh_key(tmp_path / "asa")
    remote.sign_with(key)
    (tmp_path / "signers").write_text(f"asa@example.org {(tmp_path / 'asa.pub').read_text()}")
    options = ["--git", str(remote.bare), "--branch", "main", "--path", "hosts/a", "-c", project.uri]
    options += ["--verify-ssh", str(tmp_path / "signers"), "--git-cache", str(tmp_path / "cache")]

    def write(*documents: dict[str, object]) -> str:
        commit = remote.commit("hosts/a/nets.yaml", yaml.safe_dump_all(documents))
        remote.push()
        return commit

    def networks() -> set[str]:
        return {network.name() for network in connection.listAllNetworks()}

    remote.commit("hosts/a/kvmstate.yaml", "project: shop\nprune: true\n")
    first = write(LAN)
    daemon = run(*options)
    assert first[:12] in daemon.says("RevisionInForce")["event"]
    assert daemon.says("Applied", "network/lan")["revision"] == first

    # whoever pushes what is not signed changes nothing, and deletes nothing
    daemon.mark()
    remote.sign_with(None)
    write(DMZ)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: [e for e in daemon.since() if "is not signed" in e["event"]], "a refusal")
    assert daemon.stop() == 0
    assert networks() == {"lan"}

    # nor does a restart without the remote: the host is kept as it was
    remote.bare.rename(tmp_path / "gone.git")
    connection.networkLookupByName("lan").destroy()
    daemon = run(*options)
    until(lambda: connection.networkLookupByName("lan").isActive(), "lan corrected")
    until(lambda: [e for e in daemon.events() if "does not appear to be a git repository" in e["event"]], "an error")
    assert networks() == {"lan"}
    assert daemon.stop() == 0

    (tmp_path / "gone.git").rename(remote.bare)
    remote.sign_with(key)
    write(LAN, DMZ)
    daemon = run(*options)
    until(lambda: networks() == {"lan", "dmz"}, "the new revision applied")
    assert daemon.stop() == 0


def test_what_is_wrong_with_a_commit_is_told_by_its_name_and_the_repositorys_paths(
    project: Project, run: Callable[..., Daemon], tmp_path: Path
) -> None:
    remote = Remote(tmp_path)
    remote.commit("hosts/a/kvmstate.yaml", "project: shop\n")
    remote.commit("hosts/a/nets.yaml", yaml.safe_dump(LAN))
    remote.push()
    cache = tmp_path / "cache"
    options = ["--git", str(remote.bare), "--path", "hosts/a", "-c", project.uri, "--git-cache", str(cache)]
    daemon = run(*options)
    for name, text, said in (
        ("nets.yaml", "kind: Network\nnonsense: 1\n", "hosts/a/nets.yaml:1:1: apiVersion: this field is required"),
        ("kvmstate.yaml", "project: shop\nprunes: true\n", "hosts/a/kvmstate.yaml:2:1: prunes: unknown field"),
        ("kvmstate.yaml", "project: shop\nmanifests: [gone]\n", "hosts/a/gone: no such file or folder"),
    ):
        daemon.mark()
        commit = remote.commit(f"hosts/a/{name}", text)
        remote.push()
        daemon.process.send_signal(signal.SIGHUP)
        event = daemon.says("ManifestsInvalid")
        assert event["revision"] == commit
        assert event["event"].startswith(f"commit {commit[:12]}: {said}")
        assert str(cache) not in event["event"]
    assert daemon.stop() == 0


def test_a_repository_that_was_never_reached_touches_nothing(
    project: Project, run: Callable[..., Daemon], tmp_path: Path
) -> None:
    project.converge(LAN)
    # a project file above the cache is another project's
    (tmp_path / "kvmstate.yaml").write_text("project: shop\nprune: true\n")
    options = ["--git", str(tmp_path / "nowhere.git"), "-c", project.uri, "--git-cache", str(tmp_path / "cache")]
    daemon = run(*options, ready=False)
    until(lambda: [e for e in daemon.events() if "no revision of HEAD" in e["event"]], "an error")
    assert daemon.stop() == 0
    assert project.plan().code == 0


def test_a_repository_that_does_not_answer_holds_nothing_up(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect, tmp_path: Path
) -> None:
    remote = Remote(tmp_path)
    remote.commit("kvmstate.yaml", "project: shop\n")
    remote.publish(yaml.safe_dump(LAN))
    with web(tmp_path) as server:
        options = ["--git", server.url, "-c", project.uri, "--git-cache", str(tmp_path / "cache")]
        daemon = run(*options, "--git-interval", "1s")
        server.stall = threading.Event()
        remote.publish(yaml.safe_dump(DMZ))
        assert server.stall.wait(20)
        connection.networkLookupByName("lan").destroy()
        daemon.says("DriftCorrected", "network/lan", 10)
        assert daemon.stop() == 0


def test_manifests_come_from_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused = kvmstate("run", str(tmp_path), "--git", "/srv/infra.git")
    assert refused.code == 1
    assert "either from PATH or from --git" in refused.err
    assert os.listdir(tmp_path) == []
