"""`plan --out` and `apply FILE`: a reviewed plan is carried out as it was shown, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Guest, Project, Run, pool, resource

from kvmstate.cli import run

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
