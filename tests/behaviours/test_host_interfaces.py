"""What a host has of network interfaces, and who uses them."""

from __future__ import annotations

import json

import pytest
from harness import Project, idle, kvmstate, resource
from lxml import etree
from trouble import inside

from kvmstate.host.interfaces import read
from kvmstate.host.kernel_links import Link


@pytest.mark.real
def test_the_interfaces_of_a_host_and_who_uses_them(project: Project) -> None:
    inside(project.host, "ip link add kvhost0 type bridge && ip addr add 10.74.0.1/24 dev kvhost0")
    inside(project.host, "ip link add kvup0 type veth peer name kvup1 && ip link set kvup0 master kvhost0 up")
    try:
        lan = resource("Network", "lan", bridge={"name": "kvlan0"})
        office = resource("Network", "office", forward={"mode": "bridge"}, bridge={"name": "kvhost0"})
        project.converge(lan, office, idle("one", interfaces=[{"network": "lan"}, {"bridge": "kvhost0"}]))
        found = kvmstate("host", "interfaces", "-c", project.uri, "--json")
        told = {each["name"]: each for each in json.loads(found.out)["interfaces"]}
        bridge = told["kvhost0"]
        assert (bridge["kind"], bridge["up"], bridge["addresses"][0]) == ("bridge", False, "10.74.0.1/24")
        assert bridge["users"] == ["network office", "virtual machine one"]
        assert (told["kvup0"]["kind"], told["kvup0"]["master"], told["kvup0"]["users"]) == ("veth", "kvhost0", [])
        taps = {each["master"]: each for name, each in told.items() if name.startswith("vnet")}
        assert taps["kvlan0"]["users"] == taps["kvhost0"]["users"] == ["virtual machine one"]
        text = kvmstate("host", "interfaces", "-c", project.uri).out
        assert text.startswith("NAME ")
        assert "network office, virtual machine one" in text
    finally:
        inside(project.host, "ip link delete kvhost0; ip link delete kvup0")


def test_what_libvirts_interface_driver_tells() -> None:
    found = kvmstate("host", "interfaces", "-c", "test:///default", "--json")
    told = {each["name"]: each for each in json.loads(found.out)["interfaces"]}
    assert (told["eth1"]["addresses"], told["eth1"]["mtu"], told["eth1"]["defined"]) == (["192.168.0.5/24"], 1492, True)
    text = """<interface type='vlan' name='eth0.7'><link state='down'/><vlan tag='7'><interface name='eth0'/></vlan>
    </interface>"""
    assert read(etree.fromstring(text)) == Link("eth0.7", "vlan", "", False, 0, over="eth0", vlan=7)
