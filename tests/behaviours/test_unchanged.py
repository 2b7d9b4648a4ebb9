"""What agreed when it was last looked at, and has not changed, is not even parsed; every change is noticed."""

from __future__ import annotations

from pathlib import Path

import libvirt
import pytest
from harness import Project, kvmstate, pool, resource

from kvmstate.app import open_session
from kvmstate.manifest import load
from kvmstate.plan import Options

pytestmark = pytest.mark.real

MACHINE = resource(
    "VirtualMachine", "web", memory="64MiB", state="stopped", disks=[{"name": "root", "volume": "images/root"}]
)
VOLUME = resource("Volume", "root", pool="images", capacity="1MiB")


def parsed(project: Project) -> set[str]:
    """The addresses of the resources that a plan had to parse."""
    return parsed_of(project.host.uri, project.name, project.folder / "manifests.yaml")


def parsed_of(uri: str, name: str, path: Path) -> set[str]:
    with open_session(uri, name, load([path]).resources) as session:
        plan = session.plan(Options())
        return {str(c.id) for c in plan.changes if c.observed is not None and "_specs" in vars(c.observed)}


def test_a_plan_parses_only_what_has_changed(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), VOLUME, MACHINE)
    assert parsed(project) == set()
    connection.lookupByName("web").setMemoryFlags(32 << 10, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert parsed(project) == {"domain/web"}
    assert project.plan().code == 2


def test_what_was_imported_is_parsed_no_more(project: Project, connection: libvirt.virConnect, tmp_path: Path) -> None:
    project.converge(pool(), VOLUME, MACHINE, resource("Network", "lan"))
    for secret in connection.listAllSecrets():
        secret.undefine()
    imported = kvmstate("import", "--all", "-c", project.host.uri, "-o", str(tmp_path / "taken"))
    assert imported.code == 0, imported
    (tmp_path / "taken" / "kvmstate.yaml").unlink()
    assert parsed_of(project.host.uri, "taken", tmp_path / "taken") == set()
    connection.lookupByName("web").setMemoryFlags(32 << 10, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert parsed_of(project.host.uri, "taken", tmp_path / "taken") == {"domain/web"}


def test_what_was_adopted_as_its_manifest_says_is_parsed_no_more(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), VOLUME, MACHINE, resource("Network", "lan", autostart=False))
    for secret in connection.listAllSecrets():
        secret.undefine()
    connection.networkLookupByName("lan").setAutostart(1)
    adopted = project.kvmstate("adopt", "--auto-approve")
    assert adopted.code == 0, adopted
    assert parsed(project) == {"network/lan"}
    assert "autostart:  true -> false" in project.plan().out


def test_calls_that_leave_no_trace_in_xml_are_noticed(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), VOLUME, resource("Network", "lan", autostart=False))
    connection.networkLookupByName("lan").setAutostart(1)
    connection.storagePoolLookupByName("images").destroy()
    planned = project.plan()
    assert "autostart:  true -> false" in planned.out
    assert "active:  false -> true" in planned.out


def test_an_edit_of_the_manifest_alone_is_noticed(project: Project) -> None:
    project.converge(pool(), VOLUME, MACHINE)
    project.write(pool(), VOLUME, {**MACHINE, "spec": {**MACHINE["spec"], "memory": "96MiB"}})
    assert project.plan().code == 2
    project.write(pool(), VOLUME, {**MACHINE, "lifecycle": {"preventDestroy": True}})
    assert parsed(project) == {"domain/web"}
    project.converge()
    assert parsed(project) == set()


def test_what_paths_mean_counts_too(project: Project, connection: libvirt.virConnect) -> None:
    """The machine's XML stays as it is, while its disk's path is another pool's by now."""
    project.converge(pool(), VOLUME, MACHINE)
    images = connection.storagePoolLookupByName("images")
    moved = images.XMLDesc(0).replace("behaviours/images", "behaviours/elsewhere")
    images.destroy()
    connection.storagePoolDefineXML(moved).build()
    assert "domain/web" in parsed(project)
