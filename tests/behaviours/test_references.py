"""What a manifest refers to is declared or on the host; else its place is named, before anything is done."""

from __future__ import annotations

import json
import re

import libvirt
import pytest
from harness import Project, pool, resource

pytestmark = pytest.mark.real

MACHINE = resource(
    "VirtualMachine",
    "web",
    memory="32MiB",
    state="stopped",
    disks=[{"name": "root", "volume": "images/root"}],
    interfaces=[{"network": "lan"}],
)


def place(project: Project, text: str) -> str:
    """file:line:column of a value in the manifests."""
    file = project.folder / "manifests.yaml"
    lines = file.read_text().splitlines()
    line = next(number for number, line in enumerate(lines, 1) if line.endswith(f" {text}"))
    return f"{file}:{line}:{lines[line - 1].index(text) + 1}"


def expected(project: Project) -> list[str]:
    return [
        f"{place(project, 'images/root')}: spec.disks[0].volume: "
        "there is no volume/images/root, neither in the manifests nor on the host",
        "  hint: declare a Volume named images/root, or correct the name",
        f"{place(project, 'lan')}: spec.interfaces[0].network: "
        "there is no network/lan, neither in the manifests nor on the host",
        "  hint: declare a Network named lan, or correct the name",
    ]


def test_a_plan_names_every_reference_to_nothing(project: Project) -> None:
    project.write(MACHINE, resource("Network", "other"))
    for command in ("plan", "apply"):
        done = project.kvmstate(command)
        assert done.code == 1
        assert done.err.removeprefix("error: ").splitlines() == expected(project)
        assert done.out == ""


def test_validate_asks_a_host_only_when_one_is_named(project: Project, connection: libvirt.virConnect) -> None:
    project.write(MACHINE)
    offline = project.kvmstate("validate")
    assert offline.code == 0
    assert offline.err.count("is not in these manifests; it must be on the host") == 2
    asked = project.kvmstate("validate", "-c", project.uri)
    assert asked.code == 1
    assert asked.err.splitlines() == [*expected(project), "2 problems"]
    told = json.loads(project.kvmstate("validate", "--json", "-c", project.uri).out)
    assert [d["path"] for d in told["diagnostics"]] == ["spec.disks[0].volume", "spec.interfaces[0].network"]
    connection.networkDefineXML("<network><name>lan</name></network>")
    project.converge(pool(), resource("Volume", "root", pool="images", capacity="1MiB"))
    project.write(MACHINE)
    asked = project.kvmstate("validate", "-c", project.uri)
    assert (asked.code, asked.err) == (0, "")


def test_a_reference_into_a_pool_that_is_off_says_so(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), resource("Volume", "root", pool="images", capacity="1MiB"))
    connection.storagePoolLookupByName("images").destroy()
    project.write(resource("VirtualMachine", "web", memory="32MiB", disks=[{"name": "root", "volume": "images/root"}]))
    planned = project.plan()
    assert planned.code == 2
    assert "blocked: volume/images/root cannot be seen: pool/images is not active" in planned.out
    assert "hint: start it: `virsh pool-start images`" in planned.out


def test_a_reference_into_a_pool_that_comes_with_its_volumes_holds_up_nothing_else(project: Project) -> None:
    """What is in it, such as the LUNs of a target, is seen when it has been made and started."""
    source = {"host": "127.0.0.1", "device": "iqn.2026-01.example.nas:disks"}
    luns = resource("StoragePool", "luns", type="iscsi", source=source, target={"path": "/dev/disk/by-path"})
    disks = [{"name": "root", "volume": "luns/unit:0:0:1"}]
    project.write(luns, resource("VirtualMachine", "web", memory="32MiB", disks=disks))
    planned = project.plan()
    assert planned.code == 2, planned
    assert re.search(r"\+ pool/luns +will be created", planned.out), planned
    assert "blocked: volume/luns/unit:0:0:1 cannot be seen: pool/luns is not active" in planned.out
    assert "hint: apply again when it is" in planned.out


def test_a_reference_into_a_pool_that_is_off_holds_up_nothing_else(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), resource("Volume", "root", pool="images", capacity="1MiB"))
    connection.storagePoolLookupByName("images").destroy()
    project.write(
        resource("VirtualMachine", "web", memory="32MiB", disks=[{"name": "root", "volume": "images/root"}]),
        resource("VirtualMachine", "db", memory="32MiB", state="stopped"),
    )
    applied = project.apply()
    assert applied.code == 1
    assert [domain.name() for domain in connection.listAllDomains()] == ["db"]


def test_what_is_on_the_host_and_nobodys_may_be_used(project: Project, connection: libvirt.virConnect) -> None:
    connection.networkDefineXML("<network><name>lan</name></network>")
    project.converge(
        resource("VirtualMachine", "web", memory="32MiB", state="stopped", interfaces=[{"network": "lan"}])
    )
    project.kvmstate("destroy", "--auto-approve")
    assert [network.name() for network in connection.listAllNetworks()] == ["lan"]


def test_a_reference_to_nothing_does_not_hide_the_others_from_status(project: Project) -> None:
    lan = resource("Network", "lan")
    project.converge(lan)
    project.write(lan, resource("VirtualMachine", "web", memory="32MiB", interfaces=[{"network": "dmz"}]))
    shown = project.kvmstate("status")
    assert shown.code == 0, shown
    told = json.loads(project.kvmstate("status", "--json").out)["resources"]
    assert {row["address"]: row["sync"] for row in told} == {"domain/web": "Blocked", "network/lan": "InSync"}
    assert "there is no network/dmz, neither in the manifests nor on the host" in shown.out
