"""`plan --out` and `apply FILE`: a reviewed plan is carried out as it was shown, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Guest, Project, Run, pool, resource

from kvmstate.app import Session
from kvmstate.cli import run
from kvmstate.plan.saved import SavedPlan

pytestmark = pytest.mark.real

CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
BOTH = libvirt.VIR_DOMAIN_AFFECT_CONFIG | libvirt.VIR_DOMAIN_AFFECT_LIVE
LAN = resource("Network", "lan", bridge={"name": "kvmsaved0"}, ips=[{"address": "192.168.177.1/24"}])
DATA = resource("Volume", "data", {"deletion": "delete"}, pool="images", capacity="1MiB")


def save(project: Project, *options: str) -> str:
    file = str(project.folder / "plan.json")
    planned = project.kvmstate("plan", "--out", file, *options)
    assert planned.code == 0, planned
    return file


def apply(file: str, capsys: pytest.CaptureFixture[str]) -> Run:
    capsys.readouterr()
    code = run(["apply", file])
    said = capsys.readouterr()
    return Run(code, said.out, said.err)


@pytest.fixture
def machine(project: Project, tiny: Guest) -> dict[str, Any]:
    """A running one, whose plan to get a second CPU, a disk and a title is to be reviewed."""
    base = {"interfaces": [{"network": "lan"}], "maxCpus": 4}
    project.converge(pool(), LAN, DATA, tiny.machine("web", cpus=1, **base))
    edited = tiny.machine("web", cpus=2, title="reviewed", disks=[{"name": "data", "volume": "images/data"}], **base)
    project.write(pool(), LAN, DATA, edited)
    return edited


def test_a_plan_made_while_a_guest_boots_is_not_stale_when_it_is_up_or_was_restarted(
    project: Project,
    machine: Any,
    tiny: Guest,
    connection: libvirt.virConnect,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = save(project)
    tiny.says("cpus=1")
    domain = connection.lookupByName("web")
    domain.destroy()
    domain.create()
    done = apply(file, capsys)
    assert done.code == 0, done
    assert "Resources: 0 added, 1 changed, 0 destroyed." in done.out
    assert (domain.vcpusFlags(), "images/data" in domain.XMLDesc(0)) == (2, True)
    assert project.plan().code == 0


def mark(connection: libvirt.virConnect, value: str | None) -> None:
    """XML of somebody else's, which no field of a manifest models."""
    connection.lookupByName("web").setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, value, "t", "urn:team", BOTH)


def test_every_edit_by_hand_makes_a_plan_stale_and_taking_it_back_makes_it_good_again(
    project: Project, machine: Any, connection: libvirt.virConnect, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(project)
    domain, network = connection.lookupByName("web"), connection.networkLookupByName("lan")
    edits: list[tuple[Callable[[], object], Callable[[], object], str]] = [
        (lambda: domain.setVcpusFlags(3, CONFIG), lambda: domain.setVcpusFlags(1, CONFIG), "domain/web: cpus: 1 -> 3"),
        (domain.destroy, domain.create, "domain/web: state: running -> stopped"),
        (domain.suspend, domain.resume, "domain/web: state: running -> paused"),
        (lambda: network.setAutostart(1), lambda: network.setAutostart(0), "network/lan: autostart: false -> true"),
        (
            lambda: mark(connection, "<x/>"),
            lambda: mark(connection, None),
            "domain/web: its XML differs where no field tells",
        ),
    ]
    for edit, undo, said in edits:
        edit()
        before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        done = apply(file, capsys)
        assert (done.code, done.out) == (1, "")
        assert [line for line in done.err.splitlines() if line.startswith("  ")] == [f"  {said}"]
        assert domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) == before
        undo()
    assert apply(file, capsys).code == 0
    assert domain.vcpusFlags() == 2


def test_a_plan_is_for_its_own_host_by_whatever_way(
    project: Project, connection: libvirt.virConnect, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write(pool())
    file = save(project)
    assert run(["apply", file, "-c", "test:///default"]) == 1
    assert f"this plan was made for the host {project.uri}, not for test:///default" in capsys.readouterr().err
    other_way = project.uri.replace("qemu+unix:///system?", "qemu+unix:///system?mode=direct&")
    assert other_way != project.uri
    assert run(["apply", file, "-c", other_way]) == 0
    assert connection.storagePoolLookupByName("images").isActive()


def test_deletions_and_creations_are_as_planned(
    project: Project, connection: libvirt.virConnect, capsys: pytest.CaptureFixture[str]
) -> None:
    project.converge(pool(), DATA)
    project.write(pool(), LAN)
    file = save(project, "--prune")
    Path(project.folder / "manifests.yaml").unlink()
    done = apply(file, capsys)
    assert "Resources: 1 added, 0 changed, 1 destroyed." in done.out, done
    assert connection.storagePoolLookupByName("images").listVolumes() == []
    assert connection.networkLookupByName("lan").isActive()


def image(project: Project, name: str = "base", **content: str) -> dict[str, Any]:
    file = str(project.folder / f"{name}.img")
    return resource("Volume", name, pool="images", format="raw", content={"file": file, **content})


def _written_in_place(path: Path) -> None:
    """As many bytes, in the same file, as if it were as old."""
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(b"y" * path.stat().st_size)
    other.rename(path)


def _a_link(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(b"z" * path.stat().st_size)
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("swap", [_written_in_place, _replaced, _a_link, Path.unlink])
def test_a_file_with_another_content_than_was_reviewed_is_not_uploaded(
    project: Project, connection: libvirt.virConnect, capsys: pytest.CaptureFixture[str], swap: Callable[[Path], object]
) -> None:
    file = project.folder / "base.img"
    file.write_bytes(b"reviewed".ljust(1 << 20, b"."))
    project.write(pool(), image(project))
    plan = save(project)
    swap(file)
    done = apply(plan, capsys)
    assert (done.code, done.out) == (1, "")
    assert str(file) in done.err
    if file.exists():
        assert "this plan is stale, and nothing was done: volume/images/base changed" in done.err
        assert f"volume/images/base: the file {file} has another content now" in done.err
    assert connection.listAllStoragePools() == []


def test_a_file_of_the_same_content_is_the_same_wherever_it_comes_from(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.folder / "base.img"
    file.write_bytes(b"reviewed".ljust(1 << 20, b"."))
    project.write(pool(), image(project))
    plan = save(project)
    # as in another checkout
    text = file.read_bytes()
    file.unlink()
    file.write_bytes(text)
    os.utime(file, (1, 1))
    assert apply(plan, capsys).code == 0
    assert project.path("images/base").read_bytes() == text
    assert project.plan().code == 0


def test_what_is_written_to_after_the_plan_was_checked_is_refused_on_its_way(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.folder / "base.img"
    file.write_bytes(b"reviewed".ljust(1 << 20, b"."))
    project.write(pool(), image(project))
    plan = save(project)

    def swapped(self: Session, saved: SavedPlan, *more: Any) -> Any:
        found = restored(self, saved, *more)
        _written_in_place(file)
        return found

    restored = Session.restored
    monkeypatch.setattr(Session, "restored", swapped)
    done = apply(plan, capsys)
    assert done.code == 1
    assert f"{file}: its sha256 is " in done.out
    # nobody has it for whole: what the manifests mean now is uploaded
    monkeypatch.undo()
    project.converge()
    assert project.path("images/base").read_bytes() == b"x" * (1 << 20)


def test_a_file_is_read_for_a_plan_only_when_that_is_saved_and_uploads_it(project: Project) -> None:
    file = project.folder / "base.img"
    file.write_bytes(b"reviewed".ljust(1 << 20, b"."))
    known = hashlib.sha256(file.read_bytes()).hexdigest()
    (project.folder / "sure.img").write_bytes(file.read_bytes())
    project.write(pool(), image(project), image(project, "sure", checksum=f"sha256:{known}"))
    saved = json.loads(Path(save(project)).read_text())
    assert {address: noted["digest"] for address, noted in saved["uploads"].items()} == {
        "volume/images/base": f"sha256:{known}"
    }
    project.converge()
    assert json.loads(Path(save(project)).read_text())["uploads"] == {}
