"""Projects on one host never touch each other's objects, nor anybody else's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import libvirt
import pytest
from harness import Project, idle, pool, resource

pytestmark = pytest.mark.real


def network(name: str, mtu: int = 1500) -> dict:
    return resource("Network", name, mtu=mtu)


def names(connection: libvirt.virConnect) -> set[str]:
    return {network.name() for network in connection.listAllNetworks()}


def test_two_projects_on_one_host(project: Project, tmp_path: Path, connection: libvirt.virConnect) -> None:
    other = Project(project.host, tmp_path / "other", "other")
    connection.networkDefineXML("<network><name>nobodys</name></network>")
    project.converge(network("ours"))
    other.converge(network("theirs"))
    other.converge(network("more"), options=("--prune",))
    assert names(connection) == {"ours", "more", "nobodys"}
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert names(connection) == {"more", "nobodys"}
    assert other.plan().code == 0


def test_what_another_project_owns_is_not_taken(project: Project, tmp_path: Path) -> None:
    other = Project(project.host, tmp_path / "other", "other")
    project.converge(network("lan"))
    other.write(network("lan", 1400), network("more"))
    applied = other.apply()
    assert applied.code == 1
    assert "network/lan" in applied.out
    assert "blocked: " in applied.out
    assert project.plan().code == 0
    other.kvmstate("destroy", "--auto-approve")
    assert project.plan().code == 0


def test_what_nobody_owns_is_not_taken_silently(project: Project, connection: libvirt.virConnect) -> None:
    connection.networkDefineXML("<network><name>lan</name><mtu size='1400'/></network>")
    project.write(network("lan"), network("new"))
    applied = project.apply()
    assert applied.code == 1
    assert "blocked: it exists on the host, and this project does not own it" in applied.out
    assert "hint: `kvmstate adopt` takes ownership" in applied.out
    assert names(connection) == {"lan", "new"}
    assert "size='1400'" in connection.networkLookupByName("lan").XMLDesc()
    project.kvmstate("destroy", "--auto-approve")
    assert names(connection) == {"lan"}


def unstamped(xml: str) -> str:
    assert 'resource/1.0" project="shop"' in xml.replace("'", '"')
    return re.sub(r"\s*<metadata>.*?</metadata>", "", xml, flags=re.DOTALL)


def test_adopt_takes_ownership_says_so_in_the_xml_and_changes_nothing_else(
    project: Project, connection: libvirt.virConnect
) -> None:
    connection.networkDefineXML("<network><name>lan</name><mtu size='1400'/></network>").create()
    machine = connection.defineXML(
        "<domain type='qemu'><name>web</name><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>"
    )
    machine.create()
    network = connection.networkLookupByName("lan")
    known = [machine.ID(), machine.XMLDesc(), machine.XMLDesc(2), network.XMLDesc(), network.XMLDesc(1)]
    project.write(resource("Network", "lan", mtu=1400), idle("web"))
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    assert project.plan().code == 0
    now = [machine.ID(), *map(unstamped, (machine.XMLDesc(), machine.XMLDesc(2)))]
    # a running network has it from its next start on
    now += [network.XMLDesc(), unstamped(network.XMLDesc(1))]
    assert now == known


def test_after_adopt_the_plan_shows_the_differences(project: Project, connection: libvirt.virConnect) -> None:
    connection.networkDefineXML("<network><name>lan</name><mtu size='1400'/></network>")
    project.write(network("lan"))
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    planned = project.plan()
    assert planned.code == 2
    assert "1400 -> 1500" in planned.out
    project.converge()
    assert "size='1500'" in connection.networkLookupByName("lan").XMLDesc()


def test_a_volume_with_data_is_adopted_as_it_is(project: Project, connection: libvirt.virConnect) -> None:
    images = resource("StoragePool", "images", **pool()["spec"])
    data = resource("Volume", "data", pool="images", format="raw", capacity="1MiB")
    project.converge(images)
    project.path("images/data").write_bytes(b"dear".ljust(1 << 20, b"\0"))
    connection.storagePoolLookupByName("images").refresh()
    project.write(images, data)
    assert "this project does not own it" in project.plan().out
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    assert project.plan().code == 0
    assert project.path("images/data").read_bytes().startswith(b"dear")


def test_addresses_choose_what_is_adopted(project: Project, connection: libvirt.virConnect) -> None:
    for name in ("lan", "dmz", "wan"):
        connection.networkDefineXML(f"<network><name>{name}</name><mtu size='1500'/></network>")
    project.write(network("lan"), network("dmz"), network("wan"), network("new"))
    adopted = project.kvmstate("adopt", "network/lan", "Network/d*", "--auto-approve")
    assert adopted.code == 0, adopted
    assert adopted.out.endswith("Resources: 0 added, 0 changed, 0 destroyed, 2 adopted.\n")
    rows = json.loads(project.kvmstate("status", "--json").out)["resources"]
    assert [row["address"] for row in rows if row["sync"] in ("NotOwned", "Missing")] == ["network/new", "network/wan"]
    for address, said in (
        ("network/lan", "network/lan cannot be adopted: project shop owns it already"),
        ("network/new", "network/new cannot be adopted: it is not on the host"),
        ("network/la", "did you mean network/lan?"),
        ("domain/other", "`kvmstate import domain/other` writes a manifest of it"),
    ):
        refused = project.kvmstate("adopt", address, "--auto-approve")
        assert refused.code == 1
        assert said in refused.err


def test_a_quiet_apply_tells_what_is_blocked(project: Project, connection: libvirt.virConnect) -> None:
    connection.networkDefineXML("<network><name>lan</name></network>")
    project.write(resource("Network", "lan"), resource("Network", "other"))
    applied = project.apply("--quiet")
    assert applied.code == 1
    assert "network/lan" in applied.out
    assert "kvmstate adopt" in applied.out
    assert "network/other" not in applied.out + applied.err
    assert "Resources: 1 added, 0 changed, 0 destroyed, 1 blocked." in applied.out
