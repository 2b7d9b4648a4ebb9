"""What reaches a machine whose interface has security groups: what they accept, and answers."""

from __future__ import annotations

import re
from typing import Any

import libvirt
import pytest
from harness import Guest, Project, idle, kvmstate, pool, resource

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


def test_a_name_that_libvirt_cannot_write_is_refused(tmp_path: Any) -> None:
    file = tmp_path / "web.yaml"
    head = "apiVersion: kvmstate/v1\n"
    for text, told in (
        ('kind: NetworkFilter\nmetadata: {name: "a<b"}\nspec: {}\n', "nwfilter/a<b cannot have < in its name"),
        (
            'kind: VirtualMachine\nmetadata: {name: "a&b"}\nspec: {memory: 64MiB, interfaces: '
            "[{name: lan, bridge: br0, securityGroups: []}]}\n",
            "nwfilter/a&b-lan-groups cannot have & in its name",
        ),
        (
            "kind: VirtualMachine\nmetadata: {name: web}\nspec: {memory: 64MiB, interfaces: "
            "[{bridge: br0, filterref: {filter: it's}}]}\n",
            "a network filter cannot have ' in its name",
        ),
    ):
        file.write_text(head + text)
        assert told in kvmstate("validate", str(file)).err


@pytest.mark.real
def test_an_empty_list_lets_in_nothing(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(LAN, idle("web", interfaces=[{"network": "lan", "securityGroups": []}]))
    text = connection.nwfilterLookupByName("web-lan-groups").XMLDesc()
    assert "<filterref" not in text
    assert "<rule action='drop' direction='in' priority='1000'>" in text


@pytest.mark.real
def test_a_kernel_that_filters_nothing_is_told(project: Project) -> None:
    names = [f"/proc/sys/net/bridge/bridge-nf-call-{each}" for each in ("iptables", "ip6tables")]
    rule = {"action": "accept", "direction": "in", "arp": {}}
    project.write(group("ssh", 22), resource("NetworkFilter", "arp", rules=[rule]))
    told = "its rules about IPv4 have no effect on this host: it needs net.bridge.bridge-nf-call-iptables=1"

    def switch(on: int) -> bool:
        words = "; ".join(f"echo {on} >{name}" for name in names)
        return sandbox.execute(project.host, ["sh", "-c", f"test -e {names[0]} && {words}"]) == 0

    try:
        switch(0)
        said = project.plan().out
        assert said.count(told) == 1
        project.converge()
        found = kvmstate("doctor", "-c", project.uri).out
        assert "do not filter IPv4: net.bridge.bridge-nf-call-iptables is not 1" in found
        assert "do not filter IPv6" in found
        if switch(1):
            assert "do not filter" not in kvmstate("doctor", "-c", project.uri).out
    finally:
        switch(1)
    project.converge(options=ALL)


@pytest.mark.real
def test_what_cannot_be_read_harms_only_itself(project: Project, connection: libvirt.virConnect) -> None:
    """libvirt writes the name of a filter as it is: neither the filter nor a machine that names it is XML then."""
    name = "a&lt;b"
    filters = connection.nwfilterDefineXML(f"<filter name='{name}' chain='root'/>")
    theirs = connection.defineXML(
        "<domain type='qemu'><name>theirs</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>"
        f"<interface type='bridge'><source bridge='br9'/><filterref filter='{name}'/></interface></devices></domain>"
    )
    try:
        project.converge(LAN, group("ssh", 22), idle("web"))
        project.write(LAN, idle("web"))
        applied = project.apply("--prune", "--max-delete-share", "100%")
        # whether that machine uses it, nobody can tell
        assert (
            "it cannot be told who uses it: virtual machine theirs: what libvirt tells of it is not XML" in applied.out
        )
        assert connection.nwfilterLookupByName("ssh")
        refused = kvmstate(
            "import", "domain/theirs", "--output", str(project.folder.parent / "theirs"), "-c", project.uri
        )
        assert "domain/theirs: what libvirt tells of it is not XML" in refused.err
    finally:
        theirs.undefine()
        filters.undefine()
    project.converge(LAN, idle("web"), options=ALL)


@pytest.mark.real
def test_a_revert_keeps_the_groups_and_says_so(project: Project, connection: libvirt.virConnect) -> None:
    """An old snapshot's memory ran with an old filter."""
    root = resource("Volume", "root.qcow2", pool="images", format="qcow2", capacity="8MiB")

    def machine(**nic: Any) -> dict[str, Any]:
        disks = [{"name": "root", "volume": "images/root.qcow2"}]
        return idle("web", disks=disks, interfaces=[{"network": "lan", **nic}])

    def filters() -> set[str]:
        texts = [connection.lookupByName("web").XMLDesc(flags) for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)]
        return {found for text in texts for found in re.findall("<filterref filter='(.*?)'", text)}

    def snapshot(*words: str) -> str:
        done = kvmstate("snapshot", words[0], "web", *words[1:], "-c", project.uri)
        assert done.code == 0, done
        return done.out

    rest = (pool(), root, LAN, group("ssh", 22), group("old", 23))
    project.converge(*rest, machine(filterref={"filter": "old"}))
    snapshot("create", "--name", "one", "--memory")
    project.converge(*rest, machine(securityGroups=["ssh"]))
    said = snapshot("revert", "one", "--auto-approve")
    assert re.search(r"- interface \S+ lan, network filter old  \(.*; it stays as it is now\)", said)
    assert filters() == {"web-lan-groups"}
    assert project.plan().code == 0
    # with its configuration it is as it was, until the next apply
    said = snapshot("revert", "one", "--configuration", "--auto-approve")
    assert re.search(r"\+ interface \S+ lan, network filter web-lan-groups  \(.*; it will be as it was then\)", said)
    assert filters() == {"old"}
    project.converge()
    assert filters() == {"web-lan-groups"}
