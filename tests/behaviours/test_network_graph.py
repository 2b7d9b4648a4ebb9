"""The networks of a host as a picture: hosts, bridges, networks, machines."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import libvirt
import pytest
from harness import Project, idle, kvmstate, resource
from lxml import etree
from trouble import inside

from kvmstate.host.kernel_links import Link, read

OFFICE = "<network><name>office</name><forward mode='bridge'/><bridge name='kvhost0'/></network>"


@pytest.mark.real
def test_the_networks_of_a_host(project: Project, connection: libvirt.virConnect) -> None:
    inside(project.host, "ip link add kvhost0 type bridge && ip link set kvhost0 up")
    inside(project.host, "ip link add kvup0 type veth peer name kvup1 && ip link set kvup0 master kvhost0 up")
    try:
        lan = resource(
            "Network", "lan", bridge={"name": "kvlan0"}, forward={"mode": "nat"}, ips=[{"address": "192.168.90.1/24"}]
        )
        apart = resource("Network", "apart", bridge={"name": "kvapart0"}, active=False)
        web = idle("web", interfaces=[{"network": "lan"}, {"bridge": "kvhost0"}])
        off = idle("off", interfaces=[{"network": "apart"}], state="stopped")
        project.converge(lan, apart, web, off)
        connection.networkDefineXML(OFFICE).create()

        told = json.loads(project.kvmstate("graph --network --json").out)
        here = f"host {connection.getHostname()}"
        edges = {(*(f"{e[end]['kind']} {e[end]['name']}" for end in ("from", "to")), e["about"]) for e in told["edges"]}
        assert {(one, other, about.rstrip("0123456789")) for one, other, about in edges} == {
            ("machine web", "network lan", "vnet"),
            ("machine web", "bridge kvhost0", "vnet"),
            ("machine off", "network apart", ""),
            ("network lan", "bridge kvlan0", ""),
            ("bridge kvlan0", here, "NAT"),
            ("network apart", "bridge kvapart0", ""),
            ("network office", "bridge kvhost0", ""),
            ("bridge kvhost0", "device kvup0", ""),
            ("device kvup0", here, ""),
        }
        idle_ones = [each["name"] for each in told["nodes"] if not each["active"]]
        assert idle_ones == ["off", "apart"]

        drawn = project.kvmstate("graph --network").out
        assert '"network/lan" [label="network lan\\nnat" shape=ellipse]' in drawn
        assert '"machine/off" [label="machine off" shape=box style=dashed]' in drawn
        mermaid = project.kvmstate("graph --network --format mermaid").out
        assert mermaid.startswith("flowchart LR\n")
        assert '([("network lan: nat")])' in mermaid.replace('(["', '([("').replace('"])', '")])')
        assert project.kvmstate("graph --network --format text").out.count("machine/web -> ") == 2
        if shutil.which("dot"):
            root = etree.fromstring(project.kvmstate("graph --network --format svg").out.encode())
            assert "machine web" in [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    finally:
        inside(project.host, "ip link delete kvhost0; ip link delete kvup0")


def test_without_graphviz_the_other_formats_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = kvmstate("graph", "--network", "-c", "test:///default", "--format", "svg")
    assert done.code == 1
    assert "svg is drawn by Graphviz, which is not installed here" in done.err
    assert "--format dot" in done.err
    drawn = kvmstate("graph", "--network", "-c", "test:///default")
    assert f'"host/{socket.gethostname()}"' in drawn.out
    assert '"network/default" -> "bridge/virbr0"' in drawn.out


def test_what_the_kernel_tells_of_links() -> None:
    told = [
        {"ifindex": 1, "ifname": "lo", "link_type": "loopback", "flags": ["UP"], "mtu": 65536, "address": "00:00"},
        {"ifindex": 2, "ifname": "eth0", "flags": ["UP"], "mtu": 1500, "address": "52:54", "master": "bond0"},
        {"ifindex": 3, "ifname": "bond0", "flags": [], "mtu": 9000, "linkinfo": {"info_kind": "bond"}},
        {
            "ifindex": 4, "ifname": "bond0.7", "link": "bond0", "flags": ["UP"], "mtu": 1500, "address": "52:54",
            "linkinfo": {"info_kind": "vlan", "info_data": {"protocol": "802.1Q", "id": 7}},
            "addr_info": [{"family": "inet", "local": "10.0.0.1", "prefixlen": 24}],
        },
        {"ifindex": 5, "ifname": "veth0", "link": "veth1", "flags": [], "mtu": 1500, "linkinfo": {"info_kind": "veth"}},
        {},
    ]  # fmt: skip
    assert read(json.dumps(told).encode()) == [
        Link("lo", "loopback", "00:00", True, 65536),
        Link("eth0", "ethernet", "52:54", True, 1500, master="bond0"),
        Link("bond0", "bond", "", False, 9000),
        Link("bond0.7", "vlan", "52:54", True, 1500, ("10.0.0.1/24",), over="bond0", vlan=7),
        Link("veth0", "veth", "", False, 1500),
    ]
