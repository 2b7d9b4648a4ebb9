"""What is there and cannot be read does not count as taken away: it is an error that names the file."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmstate.errors import KvmstateError, ManifestErrors
from kvmstate.manifest import load, load_project

NETWORK = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: %s}\nspec: {mtu: 1500}\n"
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kvmstate.yaml").write_text("project: shop\n")
    (tmp_path / "a.yaml").write_text(NETWORK % "a")
    assert len(load_project(tmp_path).load().resources) == 1
    return tmp_path


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # its path may be too long
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def nested(path: Path, text: str = "project: other\n") -> None:
    path.mkdir()
    (path / "kvmstate.yaml").write_text(text)
    (path / "b.yaml").write_text(NETWORK % "b")


def linked_nested(path: Path) -> None:
    elsewhere = Path(f"{path.parent.parent}-elsewhere")
    nested(elsewhere)
    path.symlink_to(elsewhere)


def dangling_nested(path: Path) -> None:
    path.mkdir()
    (path / "kvmstate.yaml").symlink_to("/nowhere/kvmstate.yaml")


UNREADABLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a dangling link": ("b.yaml", lambda p: p.symlink_to("/mnt/none/b.yaml"), "a symbolic link to /mnt/none/b.yaml"),
    "a dangling template": ("b.yaml.j2", lambda p: p.symlink_to("b.tpl"), "a symbolic link to b.tpl, which is not"),
    "a link below a file": ("b.yaml", lambda p: p.symlink_to("a.yaml/b.yaml"), "a symbolic link to a.yaml/b.yaml"),
    "a linked folder that is not mounted": ("vms", lambda p: p.symlink_to("/mnt/none"), "a symbolic link to /mnt/none"),
    "a link to itself": ("b.yaml", lambda p: p.symlink_to("b.yaml"), "cannot be read: Too many levels"),
    "a FIFO": ("b.yaml", lambda p: os.mkfifo(p), "this is a FIFO, not a regular file"),
    "a FIFO of a template": ("b.yaml.j2", lambda p: os.mkfifo(p), "this is a FIFO, not a regular file"),
    "a socket": ("b.yml", bound, "this is a socket, not a regular file"),
    "a device": ("b.yaml", lambda p: p.symlink_to("/dev/zero"), "this is a device, not a regular file"),
    "no bytes": ("b.yaml", lambda p: p.touch(), "the file is empty"),
    "a template of no bytes": ("b.yaml.j2", lambda p: p.touch(), "the file is empty"),
    "nothing but a byte order mark": ("b.yaml", lambda p: p.write_bytes(b"\xef\xbb\xbf"), "the file is empty"),
    "nothing but white space": ("b.yaml", lambda p: p.write_text("\n \n"), "the file is empty"),
    "zeros, as a crash leaves them": ("b.yaml", lambda p: p.write_bytes(bytes(64)), "the control character U+0000"),
    "an error of the disk": ("b.yaml", lambda p: p.symlink_to("/proc/self/mem"), "cannot be read: Input/output error"),
    "a nested project": ("sub", nested, "this folder is a project of its own"),
    "a linked nested project": ("sub", linked_nested, "this folder is a project of its own"),
    "a nested project that cannot be read": ("sub", dangling_nested, "this folder is a project of its own"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_it_is_an_error(case: str, folder: Path) -> None:
    name, make, said = UNREADABLE[case]
    (folder / "m").mkdir()
    make(folder / "m" / name)
    for paths in ([], [folder]):
        with pytest.raises(ManifestErrors) as errors:
            load_project(folder, allowed=[Path("/")]).load(paths)
        (problem,) = errors.value.problems
        assert Path(problem.file).is_relative_to(folder / "m" / name)
        assert said in problem.message
        if "cannot be read" not in said and "not a regular" not in said and "U+0000" not in said:
            assert problem.hint


def test_comments_alone_are_no_error(folder: Path) -> None:
    (folder / "b.yaml").write_text("# nothing any more\n")
    (folder / "c.yaml.j2").write_text("{% if values.none is defined %}x{% endif %}")
    assert len(load_project(folder).load().resources) == 1


def test_what_is_excluded_is_not_looked_at(folder: Path) -> None:
    nested(folder / "sub")
    (folder / "dead.yaml").symlink_to("/nowhere")
    (folder / "draft.yaml").touch()
    (folder / "kvmstate.yaml").write_text("project: shop\nexclude: [sub, dead.yaml, draft.yaml]\n")
    assert [r.id.name for r in load_project(folder).load().resources] == ["a"]


def test_a_listed_folder_may_be_another_project_too(folder: Path) -> None:
    nested(folder / "sub")
    (folder / "kvmstate.yaml").write_text("project: shop\nmanifests: [a.yaml, sub]\n")
    with pytest.raises(ManifestErrors, match=r"sub/kvmstate.yaml: this folder is a project of its own"):
        load_project(folder).load()
    assert load_project(folder / "sub").name == "other"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.symlink_to("/nowhere/kvmstate.yaml"), "cannot be read: No such file or directory"),
        (lambda p: p.touch(), "the file is empty"),
        (lambda p: p.mkdir(), "cannot be read: Is a directory"),
        (lambda p: p.symlink_to("kvmstate.yaml"), "cannot be read: Too many levels"),
    ],
    ids=["a dangling link", "no bytes", "a folder", "a link to itself"],
)
def test_a_project_file_that_cannot_be_read_is_no_reason_to_take_one_above(
    make: Callable[[Path], object], said: str, folder: Path
) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "b.yaml").write_text(NETWORK % "b")
    make(folder / "sub" / "kvmstate.yaml")
    with pytest.raises(ManifestErrors) as errors:
        load_project(folder / "sub", allowed=[Path("/")])
    assert said in str(errors.value)


def test_values_of_no_bytes_are_an_error(folder: Path) -> None:
    (folder / "values.txt").touch()
    with pytest.raises(ManifestErrors, match="the file is empty"):
        load_project(folder, values_files=[folder / "values.txt"])
    assert load_project(folder, values_files=[Path("/dev/null")]).values == {}


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder of the user nobody, who this process is meanwhile: root reads everything."""
    if os.geteuid():
        pytest.skip("needs root")
    place = Path(tempfile.mkdtemp())
    os.chown(place, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield place
    finally:
        os.seteuid(0)
        shutil.rmtree(place)


def test_without_permission(as_nobody: Path) -> None:
    (as_nobody / "a.yaml").write_text(NETWORK % "a")
    for name in ("dir", "walled"):
        (as_nobody / name).mkdir()
        (as_nobody / name / "b.yaml").write_text(NETWORK % name)
    (as_nobody / "dir").chmod(0)
    (as_nobody / "walled").chmod(0o400)
    (as_nobody / "a.yaml").chmod(0)
    with pytest.raises(ManifestErrors) as errors:
        load([as_nobody])
    said = {(Path(p.file).name, p.message) for p in errors.value.problems}
    denied = "cannot be read: Permission denied"
    assert said == {("a.yaml", denied), ("dir", denied), ("b.yaml", denied)}
    with pytest.raises(KvmstateError, match=denied):
        load([as_nobody / "walled" / "b.yaml"])
