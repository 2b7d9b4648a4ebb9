"""What files may name: what lies in the project's folder by its real path, and is a regular file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from bounds import bounded
from saved import SAVED

from kvmstate.manifest.reach import Reach
from kvmstate.reconcile.notify.credentials import Credentials
from kvmstate.reconcile.notify.notices import NotSent

NETWORK = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: n}\nspec: {}\n"
VOLUME = """apiVersion: kvmstate/v1
kind: Volume
metadata: {{name: v}}
spec: {{pool: p, format: raw, content: {{file: {}}}}}
"""
SECRET = "hunter2hunter2"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A project, with a secret beside it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "kvmstate.yaml").write_text("project: x\n")
    (folder / "m.yaml").write_text(NETWORK)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.yaml").write_text(f"key: {SECRET}\n")
    (outside / "secret").write_text(SECRET)
    return folder


OUTSIDE = ("../outside/secret.yaml", "{outside}/secret.yaml", "link.yaml", "sub/link.yaml", "folder/secret.yaml")


def name_outside(here: Path, spelled: str) -> str:
    """A name in the project for a file outside of it."""
    outside = here.parent / "outside"
    (here / "sub").mkdir()
    if spelled.startswith("sub"):
        (here / "sub" / "link.yaml").symlink_to("../../outside/secret.yaml")
    elif spelled.startswith("link"):
        (here / "link.yaml").symlink_to(outside / "secret.yaml")
    elif spelled.startswith("folder"):
        (here / "folder").symlink_to(outside)
    return spelled.format(outside=outside)


@pytest.mark.parametrize("spelled", OUTSIDE)
@pytest.mark.parametrize("by", ["values", "environment", "manifests", "content", "walk", "project file"])
def test_what_lies_outside_is_refused_and_not_repeated(by: str, spelled: str, here: Path) -> None:
    name = name_outside(here, spelled)
    args: tuple[str, ...] = ()
    if by == "values":
        (here / "kvmstate.yaml").write_text(f"project: x\nvalues: [{name}]\n")
        (here / "t.yaml.j2").write_text(NETWORK.replace("n}", "'{{ values.key }}'}"))
    elif by == "environment":
        (here / "kvmstate.yaml").write_text(f"project: x\nenvironments: {{e: {{values: [{name}]}}}}\n")
        args = ("--env", "e")
    elif by == "manifests":
        (here / "kvmstate.yaml").write_text(f"project: x\nmanifests: [m.yaml, {name}]\n")
    elif by == "content":
        (here / "m.yaml").write_text(VOLUME.format(name))
    elif by == "walk" and not spelled.startswith(("sub", "link", "folder")):
        return
    elif by == "project file":
        (here / "kvmstate.yaml").unlink()
        (here / "kvmstate.yaml").symlink_to(here.parent / "outside" / "secret.yaml")
    done = bounded("validate", *args, cwd=here)
    assert done.code == 1, done
    assert "outside of the project's folder" in done.err, done
    assert "--allow-path" in done.err, done
    assert SECRET not in done.err + done.out, done


@pytest.mark.parametrize("how", ["option", "environment", "command line"])
def test_the_command_line_allows_what_lies_outside(how: str, here: Path) -> None:
    outside = here.parent / "outside"
    (here / "kvmstate.yaml").write_text("project: x\nvalues: [../outside/secret.yaml]\n")
    (here / "v.yaml").write_text(VOLUME.format("../outside/secret"))
    env = {}
    args: list[str] = []
    if how == "option":
        args = ["--allow-path", "../outside"]
    elif how == "environment":
        env = {"KVMSTATE_ALLOW_PATH": f"/nowhere:{outside}"}
    else:
        (here / "kvmstate.yaml").write_text("project: x\n")
        (outside / "v.yaml").write_text(VOLUME.format("secret"))
        (here / "v.yaml").unlink()
        args = ["--values", "../outside/secret.yaml", str(outside / "v.yaml")]
        (outside / "kvmstate.yaml").write_text("project: y\nmanifests: [v.yaml]\n")
    done = bounded("validate", *args, cwd=here, **env)
    assert done.code == 0, done


def test_a_linked_folder_of_the_whole_machine_is_not_walked(here: Path) -> None:
    (here / "everything").symlink_to("/")
    done = bounded("validate", cwd=here, seconds=5)
    assert done.code == 1, done
    assert "everything: a symbolic link to /, outside" in done.err, done


def test_without_a_project_file_it_is_the_folder_that_was_given(here: Path) -> None:
    lone = here.parent / "lone"
    lone.mkdir()
    (lone / "image").write_text("x")
    (lone / "v.yaml").write_text(VOLUME.format("image"))
    assert bounded("validate", str(lone / "v.yaml"), cwd=here.parent).code == 0
    (lone / "v.yaml").write_text(VOLUME.format("../outside/secret"))
    assert bounded("validate", str(lone / "v.yaml"), cwd=here.parent).code == 1


@pytest.mark.parametrize("kind", ["fifo", "tty", "device", "socket", "folder"])
@pytest.mark.parametrize("by", ["values", "manifests", "content", "include", "project file", "walk"])
def test_nothing_that_blocks_is_waited_for(kind: str, by: str, here: Path) -> None:
    odd = here / "odd.yaml"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind in ("tty", "device"):
        odd.symlink_to("/dev/ptmx" if kind == "tty" else "/dev/zero")
    elif kind == "socket":
        import socket

        held = socket.socket(socket.AF_UNIX)
        os.chdir(here)
        held.bind("odd.yaml")
    else:
        odd.mkdir()
        (odd / "x.txt").touch()
    if by == "values":
        (here / "kvmstate.yaml").write_text("project: x\nvalues: [odd.yaml]\n")
    elif by == "manifests":
        (here / "kvmstate.yaml").write_text("project: x\nmanifests: [odd.yaml]\n")
    elif by == "content":
        (here / "v.yaml").write_text(VOLUME.format("odd.yaml"))
    elif by == "include":
        (here / "t.yaml.j2").write_text("{% include 'odd.yaml' %}")
    elif by == "project file":
        (here / "kvmstate.yaml").unlink()
        odd.rename(here / "kvmstate.yaml")
    done = bounded("validate", "--allow-path", "/dev", cwd=here, seconds=8)
    expected = 0 if (kind, by) == ("folder", "walk") else 1
    assert done.code == expected, done


def test_a_saved_plan_uploads_no_other_files(here: Path) -> None:
    (here / "kvmstate.yaml").unlink()
    spec = {"pool": "p", "format": "raw", "content": {"file": str(here.parent / "outside" / "secret")}}
    resource = {
        "id": "volume/p/v",
        "metadata": {"name": "v"},
        "lifecycle": {},
        "spec": spec,
        "origin": {"file": "m.yaml", "line": 1},
    }
    (here / "q.json").write_text(json.dumps(SAVED | {"host": "test:///default", "resources": [resource]}))
    done = bounded("apply", "q.json", cwd=here)
    assert done.code == 1, done
    assert "outside of the project's folder" in done.err, done


def test_confined_manifests_choose_no_host(here: Path) -> None:
    (here / "kvmstate.yaml").write_text("project: x\nconnection: test:///default\n")
    done = bounded("plan", "--confined", cwd=here)
    assert done.code == 1, done
    assert "-c URI" in done.err, done
    assert bounded("plan", "--confined", "-c", "test:///default", cwd=here).code == 0
    assert bounded("plan", "--confined", cwd=here, LIBVIRT_DEFAULT_URI="test:///default").code == 0
    assert bounded("validate", cwd=here).code == 0


def test_a_repositorys_notifications_know_credentials_by_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed = tmp_path / "credentials"
    handed.mkdir()
    for name in ("hook-token", "git-token-file"):
        (handed / name).write_text(f"{name}\n")
    (tmp_path / "given").write_text("given\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    monkeypatch.chdir(tmp_path)
    git = Credentials({"slack": tmp_path / "given"}, None, own=(handed / "git-token-file",))
    assert git.read("hook-token") == "hook-token"
    assert git.read("slack") == "given"
    for name in ("git-token-file", "given", str(tmp_path / "given"), "../given", "../credentials/hook-token", "."):
        with pytest.raises(NotSent):
            git.read(name)
    # of a folder the project's own files too, and no others
    project = tmp_path / "project"
    project.mkdir()
    (project / "token").write_text("token\n")
    (project / "link").symlink_to("/etc/hostname")
    os.mkfifo(project / "fifo")
    folder = Credentials(project=project, reach=Reach.of([project]), own=(handed / "git-token-file",))
    assert folder.read("token") == "token"
    for name in ("link", "fifo", "../given", "/etc/hostname", "git-token-file"):
        with pytest.raises(NotSent):
            folder.read(name)
