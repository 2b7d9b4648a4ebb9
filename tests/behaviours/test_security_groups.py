"""What reaches a machine whose interface has security groups: what they accept, and answers."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Guest, Project, idle, kvmstate, resource

from kvmstate import sandbox

ALL = ("--prune", "--max-delete-share", "100%")
LAN = resource(
    "Network",
    "lan",
    bridge={"name": "kvgroups0"},
    ips=[{"address": "192.168.98.1/24", "dhcp": {"ranges": [{"start": "192.168.98.9", "end": "192.168.98.99"}]}}],
)


def group(name: str, port: int) -> dict[str, Any]:
    return resource(
        "NetworkFilter", name, rules=[{"action": "accept", "direction": "in", "tcp": {"dstPortStart": port}}]
    )


@pytest.mark.real
def test_what_the_groups_accept_comes_in_and_all_else_is_dropped(
    project: Project, connection: libvirt.virConnect, tiny: Guest
) -> None:
    def machine(*groups: str) -> dict[str, Any]:
        nic: dict[str, Any] = {"network": "lan", **({"securityGroups": [*groups]} if groups else {})}
        return tiny.machine("web", interfaces=[nic])  # type: ignore[no-any-return]

    def reached(port: int, seconds: int) -> bool:
        """Nobody listens in the guest, which says so itself for a packet that reaches it."""
        connects = f"import socket; socket.create_connection(('{address}', {port}), {seconds})"
        script = f'python3 -c "{connects}" 2>&1 | grep -q refused'
        return sandbox.execute(project.host, ["sh", "-c", script]) == 0

    project.write(LAN, group("ssh", 22), machine("ssh"))
    assert "+ nwfilter/web-lan-groups" in project.plan().out
    project.converge()
    # the lease came through
    address = tiny.says(r"nics=[^ ,]*=(192\.168\.98\.\d+) ")[1]
    number = connection.lookupByName("web").ID()
    assert reached(22, 20)
    assert not reached(80, 2)
    # its rules, and its groups, follow at once
    project.converge(LAN, group("ssh", 2222), group("http", 80), machine("ssh", "http"))
    assert reached(80, 20)
    assert not reached(22, 2)
    project.converge(LAN, machine(), options=ALL)
    assert reached(22, 20)
    assert "groups" not in str([each.name() for each in connection.listAllNWFilters()])
    assert connection.lookupByName("web").ID() == number


@pytest.mark.real
def test_the_filter_goes_with_the_machine(project: Project, connection: libvirt.virConnect) -> None:
    nics = [
        {"network": "lan", "securityGroups": ["ssh"]},
        {"name": "second", "network": "lan", "securityGroups": ["ssh"]},
    ]
    project.converge(LAN, group("ssh", 22), idle("web", interfaces=nics))
    own = {"web-lan-groups", "web-second-groups"}
    assert own <= {each.name() for each in connection.listAllNWFilters()}
    project.converge(LAN, group("ssh", 22), options=ALL)
    assert not own & {each.name() for each in connection.listAllNWFilters()}


def test_groups_and_a_filter_of_its_own_are_two_ways(tmp_path: Any) -> None:
    file = tmp_path / "web.yaml"
    head = (
        "apiVersion: kvmstate/v1\nkind: VirtualMachine\nmetadata: {name: web}\nspec:\n  memory: 64MiB\n  interfaces:\n"
    )
    for nic, told in (
        ("{network: lan, securityGroups: [ssh], filterref: {filter: ssh}}", "either filterref or securityGroups"),
        ("{type: user, securityGroups: [ssh]}", "network or bridge with securityGroups"),
    ):
        file.write_text(f"{head}    - {nic}\n")
        assert told in kvmstate("validate", str(file)).err
