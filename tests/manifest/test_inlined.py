"""Fields whose texts stand in files: within the project's folder, and told at their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmstate.errors import ManifestErrors
from kvmstate.manifest.load import load
from kvmstate.manifest.manifests import Manifests
from kvmstate.manifest.reach import Reach

MACHINE = """apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {name: web}
spec:
  memory: 1GiB
  disks: [{name: root, create: {pool: images, capacity: 1GiB}}]
  cloudInit:
    userDataFile: %s
"""
TEXT = "#cloud-config\npackages: [nginx]   # as it is\n"


def loaded(folder: Path, named: str, more: str = "") -> Manifests:
    (folder / "web.yaml").write_text(MACHINE % named + more)
    return load([folder / "web.yaml"], reach=Reach.of([folder]))


def told(folder: Path, named: str, more: str = "") -> str:
    with pytest.raises(ManifestErrors) as raised:
        loaded(folder, named, more)
    [problem] = raised.value.problems
    assert (problem.file, problem.line, problem.path) == (
        str(folder / "web.yaml"),
        8,
        "spec.cloudInit.userDataFile",
    )
    return problem.message


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "user-data.cfg").write_text(TEXT)
    seeds = [each for each in loaded(tmp_path, "user-data.cfg").resources if each.id.kind == "volume"]
    texts = [each.spec.content.seed.user_data for each in seeds if each.spec.content]
    assert texts == [TEXT]
    # another text is another seed, which no cache of manifests hides
    (tmp_path / "user-data.cfg").write_text("#!/bin/sh\n")
    seeds = [each for each in loaded(tmp_path, "user-data.cfg").resources if each.id.kind == "volume"]
    assert [each.spec.content.seed.user_data for each in seeds if each.spec.content] == ["#!/bin/sh\n"]


def problems(folder: Path, cloud_init: str) -> list[tuple[int, str, str]]:
    text = MACHINE.partition("    userDataFile")[0] + cloud_init
    (folder / "web.yaml").write_text(text)
    try:
        load([folder / "web.yaml"], reach=Reach.of([folder]))
    except ManifestErrors as errors:
        return [(each.line, each.path, each.message) for each in errors.problems]
    return []


def test_what_does_not_fit_the_schema_of_cloud_init_is_told_where_it_stands(tmp_path: Path) -> None:
    mapping = """    userData:
      packages: {nginx: 1.2}
      write_files:
        - path: /etc/motd
          contents: hush
    users: [default, {nam: ada, passwd: hush}]
"""
    found = problems(tmp_path, mapping)
    assert [(line, path) for line, path, _ in found] == [
        (9, "spec.cloudInit.userData.packages"),
        (11, "spec.cloudInit.userData.write_files[0]"),
        (13, "spec.cloudInit.users[1]"),
    ]
    assert [message for _, _, message in found if "hush" in message] == []
    assert found[0][2] == "this is to be a list"
    assert found[1][2].startswith("cloud-init knows no contents here, only append, content,")
    assert problems(tmp_path, mapping + "    checkSchema: false\n") == []
    text = "    userData: |\n      #cloud-config\n      runcmd: reboot\n"
    assert problems(tmp_path, text) == [(8, "spec.cloudInit.userData", "line 2 of it: runcmd: this is to be a list")]
    (tmp_path / "bad.cfg").write_text("#cloud-config\npackages:\n- [a, b\n")
    [(line, path, message)] = problems(tmp_path, "    userDataFile: bad.cfg\n")
    assert (line, path) == (8, "spec.cloudInit.userDataFile")
    assert message.startswith("line 4 of it: this is not YAML")
    # what is not YAML is not cloud-init's to read so, and what repeats itself is not followed
    bomb = "#cloud-config\na: &a [x, x]\nb: &b [*a, *a]\nruncmd: 1\n"
    for fine in ("## template: jinja\n#cloud-config\n{% if %}\n", "#!/bin/sh\n", bomb, "#cloud-config\n"):
        (tmp_path / "fine.cfg").write_text(fine)
        assert problems(tmp_path, "    userDataFile: fine.cfg\n") == []


def test_meta_data_may_stand_in_a_file(tmp_path: Path) -> None:
    machine = MACHINE.replace("userDataFile", "metaDataFile")
    for said, why in (
        ("instance-id: second\n", ""),
        ("- second\n", "expected a mapping"),
        ("a: 2026-11-30\n", "this is not YAML of plain values without aliases"),
        ("a: &a [1]\nb: *a\n", "this is not YAML of plain values without aliases"),
        ("a: [\n", "this is not YAML of plain values without aliases: line 2"),
    ):
        (tmp_path / "meta.cfg").write_text(said)
        (tmp_path / "web.yaml").write_text(machine % "meta.cfg")
        try:
            found = load([tmp_path / "web.yaml"], reach=Reach.of([tmp_path])).resources
        except ManifestErrors as errors:
            [problem] = errors.problems
            assert why
            assert (problem.line, problem.path) == (8, "spec.cloudInit.metaDataFile")
            assert why in problem.message
            continue
        assert not why
        [text] = [each.spec.content.seed.meta_data for each in found if each.id.kind == "volume" and each.spec.content]
        assert '"instance-id": "second"' in text


def test_what_cannot_be_read_is_told_at_its_place(tmp_path: Path) -> None:
    (folder := tmp_path / "shop").mkdir()
    (tmp_path / "outside.cfg").write_text(TEXT)
    (folder / "link.cfg").symlink_to(tmp_path / "outside.cfg")
    (folder / "bad.cfg").write_text("packages: [nginx]\n")
    (folder / "binary.cfg").write_bytes(b"#!\xff\xfe")
    (folder / "large.cfg").write_bytes(b"#!".ljust((1 << 20) + 1))
    assert "this lies outside of the project's folder" in told(folder, "../outside.cfg")
    assert "a symbolic link to" in told(folder, "link.cfg")
    assert "no such file" in told(folder, "nothing.cfg")
    assert "cloud-init reads no text that begins so" in told(folder, "bad.cfg")
    assert "this is not UTF-8 text" in told(folder, "binary.cfg")
    assert "more than 1,048,576 bytes" in told(folder, "large.cfg")
    (folder / "good.cfg").write_text(TEXT)
    assert "packages cannot be added" in told(folder, "good.cfg", "    packages: [nginx]\n")
