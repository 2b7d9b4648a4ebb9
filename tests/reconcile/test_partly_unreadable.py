"""One manifest of several that cannot be read any more is not one that was taken away: plans refuse, the daemon keeps
the last good set and says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
import yaml
from daemons import Daemon
from harness import Project, resource

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("hasty")]
Run = Callable[..., Daemon]
# longer than a hasty daemon lets what was removed from the manifests rest
SETTLED = 3.0


def in_a_folder(project: Project, folder: Path) -> Path:
    """The project with a manifest of its own, one behind a link to a file and one behind a link to a folder."""
    (project.folder / "kvmstate.yaml").write_text(
        f"project: shop\nconnection: {project.uri}\nprune: true\nmanifests: [m]\n"
    )
    (folder / "mounted").mkdir(parents=True)
    manifests = project.folder / "m"
    manifests.mkdir()
    for name, file in (("a", manifests / "a.yaml"), ("b", folder / "b"), ("c", folder / "mounted" / "c.yaml")):
        file.write_text(yaml.safe_dump(resource("Network", name)))
    (manifests / "b.yaml").symlink_to(folder / "b")
    (manifests / "c").symlink_to(folder / "mounted")
    return manifests


def test_the_daemon_keeps_the_last_good_set(
    project: Project, run: Run, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    manifests = in_a_folder(project, outside)
    daemon = run()
    a = manifests / "a.yaml"
    good = a.read_text()
    last = None
    for spoil, fix, said in (
        (
            lambda: (outside / "b").rename(outside / "gone"),
            lambda: (outside / "gone").rename(outside / "b"),
            # a look may come between the file's name and its content
            "m/b.yaml: ",
        ),
        (lambda: a.write_text(""), lambda: a.write_text(good), "m/a.yaml: the file is empty"),
        (
            lambda: (manifests / "kvmstate.yaml").write_text("project: other\n"),
            (manifests / "kvmstate.yaml").unlink,
            "m/kvmstate.yaml: this folder is a project of its own",
        ),
        (
            lambda: (outside / "mounted").rename(outside / "away"),
            lambda: None,
            "m/c: a symbolic link to",
        ),
    ):
        daemon.mark()
        spoil()
        # a link's target is not among what is watched: SIGHUP asks for a look
        daemon.process.send_signal(1)
        last = daemon.says("ManifestsInvalid")
        assert said in str(last)
        planned = project.plan()
        assert planned.code == 1, planned
        assert said in planned.err
        daemon.mark()
        fix()
        if said != "m/c: a symbolic link to":
            daemon.process.send_signal(1)
            daemon.says("ManifestsValid")
    daemon.process.send_signal(1)
    with pytest.raises(AssertionError):
        daemon.says("Deleted", "network/c", SETTLED)
    assert sorted(n.name() for n in connection.listAllNetworks()) == ["a", "b", "c"]
    assert [e for e in daemon.events() if e["reason"] in ("Deleted", "Released")] == []
    # what is meant is said
    daemon.mark()
    (manifests / "c").unlink()
    shutil.rmtree(outside / "away")
    daemon.says("Deleted", "network/c")


def test_the_daemon_touches_nothing_of_another_project_of_its_name(
    project: Project, run: Run, connection: libvirt.virConnect
) -> None:
    settings = project.folder / "kvmstate.yaml"
    text = settings.read_text() + "prune: true\n"
    settings.write_text(text + "id: theirs\n")
    project.converge(resource("Network", "a"))
    settings.write_text(text + "id: mine\n")
    project.write(resource("Network", "b"))
    daemon = run(ready=False)
    said = daemon.says("PlanFailed")
    assert "belongs to another project of this name: its id is theirs" in str(said)
    with pytest.raises(AssertionError):
        daemon.says("Ready", "", SETTLED)
    assert [n.name() for n in connection.listAllNetworks()] == ["a"]
    daemon.mark()
    settings.write_text(text + "id: theirs\n")
    daemon.says("Applied", "network/b")


def test_the_daemon_lets_no_large_share_go_at_once(project: Project, run: Run, connection: libvirt.virConnect) -> None:
    settings = project.folder / "kvmstate.yaml"
    settings.write_text(settings.read_text() + "prune: true\n")
    networks = [resource("Network", name) for name in "abcdef"]
    project.write(*networks)
    daemon = run()
    daemon.mark()
    project.write(*networks[:2])
    # also when something is heard of one of them alone
    with pytest.raises(AssertionError):
        daemon.says("Deleted", "network/c", SETTLED)
    connection.networkLookupByName("c").destroy()
    with pytest.raises(AssertionError):
        daemon.says("Deleted", "network/c", SETTLED)
    assert sorted(n.name() for n in connection.listAllNetworks()) == list("abcdef")
    assert "4 of the 6 resources that project shop owns would be deleted" in project.kvmstate("status").out
    daemon.mark()
    project.write(*networks[:4])
    for name in "ef":
        daemon.says("Deleted", f"network/{name}")
