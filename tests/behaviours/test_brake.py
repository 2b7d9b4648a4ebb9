"""What leaves the manifests all at once is more likely lost than meant: a large share of it is not deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
import yaml
from harness import Project, Run, resource

YES = "--auto-approve"


def networks(count: int, first: int = 0) -> list[dict]:
    return [resource("Network", f"n{number}") for number in range(first, count)]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project on libvirt's test driver, which lives as long as somebody is connected."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    opened = libvirt.open("test:///default")
    project = Project("test:///default", tmp_path / "lab", "lab")
    yield project
    assert project.kvmstate("destroy", YES).code == 0
    opened.close()


def settings(project: Project, more: str) -> None:
    file = project.folder / "kvmstate.yaml"
    file.write_text(file.read_text() + more)


def braked(run: Run, said: str, needed: int) -> None:
    assert run.code == 1, run
    assert said in run.err, run
    assert f"hint: if that is meant: `kvmstate apply --prune --max-delete-share {needed}%`" in run.err, run


def test_more_than_a_third_is_braked(lab: Project) -> None:
    settings(lab, "prune: true\n")
    lab.converge(*networks(9))
    lab.write(*networks(9, 4))
    for run in (lab.plan(), lab.apply(), lab.apply("--max-deletes", "9"), lab.plan("--target", "network/*")):
        braked(run, "4 of the 9 resources that project lab owns would be deleted, more than 33% at once", 45)
    # what was not asked about
    assert lab.kvmstate("status").code == 0
    assert lab.kvmstate("drift").code == 0
    assert lab.apply("--no-prune").code == 0
    assert lab.todo("--max-delete-share", "45%") == {"delete": 4}
    # who has counted means it
    assert lab.todo("--max-deletes", "4") == {"delete": 4}
    # exactly a third is not more
    lab.write(*networks(9, 3))
    assert "3 destroyed" in lab.apply().out


def test_few_are_never_too_many(lab: Project) -> None:
    lab.converge(*networks(3))
    lab.write(*networks(3, 2))
    assert "2 destroyed" in lab.apply("--prune").out


def test_the_share_is_settable(lab: Project) -> None:
    settings(lab, "maxDeleteShare: 50%\n")
    lab.converge(*networks(8))
    lab.write(*networks(8, 5))
    braked(lab.apply("--prune"), "5 of the 8", 63)
    lab.write(*networks(8, 4))
    braked(lab.plan("--prune", "--max-delete-share", "10%"), "more than 10% at once", 50)
    assert "4 destroyed" in lab.apply("--prune").out
    for wrong in ("half", "101%", "50", "-1%"):
        assert "expected a share such as 50%" in lab.plan("--max-delete-share", wrong).err


def test_what_was_said_to_be_meant_is_not_braked(lab: Project) -> None:
    lab.converge(*networks(6))
    lab.write()
    assert "6 destroyed" in lab.apply("--prune", "--allow-empty").out
    lab.converge(*networks(6))
    assert "6 destroyed" in lab.kvmstate("destroy", YES).out


def test_a_folder_that_was_not_mounted(lab: Project, tmp_path: Path) -> None:
    """A linked folder that is a mount point is there, and empty."""
    settings(lab, "prune: true\n")
    lab.converge(*networks(8))
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (lab.folder / "m").mkdir()
    file = lab.folder / "kvmstate.yaml"
    file.write_text(file.read_text().replace("[manifests.yaml]", "[m]"))
    (lab.folder / "manifests.yaml").rename(mounted / "manifests.yaml")
    (lab.folder / "m" / "mounted").symlink_to(mounted)
    (lab.folder / "m" / "other.yaml").write_text("# here\n" + yaml.safe_dump(resource("Network", "other")))
    lab.converge()
    (mounted / "manifests.yaml").rename(tmp_path / "unmounted")
    braked(lab.apply(), "8 of the 9", 89)
