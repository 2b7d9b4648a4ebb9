"""The rules that `validate` tells of are libvirt's: it refuses what they refuse, and takes what they let through."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from harness import Project, kvmstate, resource

from kvmstate.errors import HostError
from kvmstate.host.networks import define, start

pytestmark = pytest.mark.real

CASES = Path(__file__).parents[1] / "manifest" / "cases"
LEASE6 = {"ranges": [{"start": "fd00::10", "end": "fd00::20"}]}
IP4 = "<ip address='10.5.0.1' prefix='24'/>"
V4, V6 = {"address": "10.5.0.1/24"}, {"address": "fd00::1/64"}


def dhcp(address: str, *hosts: dict[str, str], ranges: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    spans = [{"start": start, "end": end} for start, end in ranges]
    return {"address": address, "dhcp": {"ranges": spans, "hosts": list(hosts)}}


# The spec, and the same as XML: libvirt refuses that when it is defined, or started.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two sections": (
        {
            "ips": [
                dhcp("10.5.0.1/24", {"ip": "10.5.0.9", "name": "a"}),
                dhcp("10.6.0.1/24", {"ip": "10.6.0.9", "name": "a"}),
            ]
        },
        "<ip address='10.5.0.1' prefix='24'><dhcp><host ip='10.5.0.9' name='a'/></dhcp></ip>"
        "<ip address='10.6.0.1' prefix='24'><dhcp><host ip='10.6.0.9' name='a'/></dhcp></ip>",
    ),
    "a lease of nobody": (
        {"ips": [dhcp("10.5.0.1/24", {"ip": "10.5.0.9"})]},
        "<ip address='10.5.0.1' prefix='24'><dhcp><host ip='10.5.0.9'/></dhcp></ip>",
    ),
    "a MAC for IPv6": (
        {"ips": [dhcp("fd00::1/64", {"ip": "fd00::9", "name": "a", "mac": "52:54:00:00:00:01"})]},
        "<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>"
        "<host mac='52:54:00:00:00:01' name='a' ip='fd00::9'/></dhcp></ip>",
    ),
    "a short prefix": (
        {"ips": [{"address": "fd00::1/48", "dhcp": LEASE6}]},
        "<ip family='ipv6' address='fd00::1' prefix='48'><dhcp><range start='fd00::10' end='fd00::20'/></dhcp></ip>",
    ),
    "a short prefix with leases only": (
        {"ips": [dhcp("fd00::1/48", {"ip": "fd00::9", "name": "a"})]},
        "<ip family='ipv6' address='fd00::1' prefix='48'><dhcp><host name='a' ip='fd00::9'/></dhcp></ip>",
    ),
    "broadcast": (
        {"ips": [dhcp("10.5.0.1/24", ranges=(("10.5.0.2", "10.5.0.255"),))]},
        "<ip address='10.5.0.1' prefix='24'><dhcp><range start='10.5.0.2' end='10.5.0.255'/></dhcp></ip>",
    ),
    "too many": (
        {"ips": [dhcp("10.5.0.1/8", ranges=(("10.5.0.2", "10.6.0.1"),))]},
        "<ip address='10.5.0.1' prefix='8'><dhcp><range start='10.5.0.2' end='10.6.0.1'/></dhcp></ip>",
    ),
    "nat without address": ({"forward": {"mode": "nat"}}, "<forward mode='nat'/>"),
    "open with dev": (
        {"forward": {"mode": "open", "dev": "lo"}, "ips": [V4]},
        "<forward mode='open' dev='lo'/><ip address='10.5.0.1' prefix='24'/>",
    ),
    "bridge with mtu": (
        {"forward": {"mode": "bridge"}, "bridge": {"name": "br0"}, "mtu": 1400},
        "<forward mode='bridge'/><bridge name='br0'/><mtu size='1400'/>",
    ),
    "bridge with stp": (
        {"forward": {"mode": "bridge"}, "bridge": {"name": "br0", "stp": True}},
        "<forward mode='bridge'/><bridge name='br0' stp='on'/>",
    ),
    "bridge with dev": (
        {"forward": {"mode": "bridge", "dev": "lo"}, "bridge": {"name": "br0"}},
        "<forward mode='bridge' dev='lo'/><bridge name='br0'/>",
    ),
    "no name of a device": ({"bridge": {"name": "br/0"}}, "<bridge name='br/0'/>"),
    "IPv6 in small packets": (
        {"mtu": 1279, "ips": [V6]},
        "<mtu size='1279'/><ip family='ipv6' address='fd00::1' prefix='64'/>",
    ),
    "a long label": (
        {"domain": {"name": "a" * 64}, "ips": [V4]},
        f"<domain name='{'a' * 64}'/><ip address='10.5.0.1' prefix='24'/>",
    ),
    "a DUID for IPv4": (
        {"ips": [dhcp("10.5.0.1/24", {"ip": "10.5.0.9", "id": "0:1:2"})]},
        "<ip address='10.5.0.1' prefix='24'><dhcp><host id='0:1:2' ip='10.5.0.9'/></dhcp></ip>",
    ),
    "an unreachable gateway": (
        {"ips": [V4], "routes": [{"to": "10.8.0.0/16", "gateway": "10.6.0.2"}]},
        f"{IP4}<route address='10.8.0.0' prefix='16' gateway='10.6.0.2'/>",
    ),
    "a route to a host": (
        {"ips": [V4], "routes": [{"to": "10.8.0.1/16", "gateway": "10.5.0.2"}]},
        f"{IP4}<route address='10.8.0.1' prefix='16' gateway='10.5.0.2'/>",
    ),
    "two defaults": (
        {"portGroups": [{"name": "a", "default": True}, {"name": "b", "default": True}]},
        "<portgroup name='a' default='yes'/><portgroup name='b' default='yes'/>",
    ),
    "a port of nobody": (
        {"ips": [V4], "dns": {"srv": [{"service": "a", "protocol": "tcp", "port": 5}]}},
        f"<dns><srv service='a' protocol='tcp' port='5'/></dns>{IP4}",
    ),
    "several tags and no trunk": (
        {
            "forward": {"mode": "bridge"},
            "bridge": {"name": "b"},
            "virtualPort": {"type": "openvswitch"},
            "vlan": {"trunk": False, "tags": [{"id": 1}, {"id": 2}]},
        },
        "<forward mode='bridge'/><bridge name='b'/><virtualport type='openvswitch'/>"
        "<vlan trunk='no'><tag id='1'/><tag id='2'/></vlan>",
    ),
    "VLANs behind NAT": (
        {"forward": {"mode": "nat"}, "ips": [V4], "vlan": {"tags": [{"id": 1}]}},
        f"<forward mode='nat'/><vlan><tag id='1'/></vlan>{IP4}",
    ),
    "VLANs of a group behind NAT": (
        {"forward": {"mode": "nat"}, "ips": [V4], "portGroups": [{"name": "a", "vlan": {"tags": [{"id": 1}]}}]},
        f"<forward mode='nat'/><portgroup name='a'><vlan><tag id='1'/></vlan></portgroup>{IP4}",
    ),
    "limits of macvtap": (
        {"forward": {"mode": "private", "interfaces": [{"dev": "x"}]}, "bandwidth": {"inbound": {"average": 1}}},
        "<forward mode='private'><interface dev='x'/></forward><bandwidth><inbound average='1'/></bandwidth>",
    ),
    "a MAC address of the host's bridge": (
        {"forward": {"mode": "bridge"}, "bridge": {"name": "b"}, "mac": "52:54:00:00:00:01"},
        "<forward mode='bridge'/><bridge name='b'/><mac address='52:54:00:00:00:01'/>",
    ),
    "several ways out": (
        {"forward": {"mode": "nat", "interfaces": [{"dev": "x"}, {"dev": "y"}]}, "ips": [V4]},
        f"<forward mode='nat'><interface dev='x'/><interface dev='y'/></forward>{IP4}",
    ),
    "ports turned around": (
        {"forward": {"mode": "nat", "nat": {"address": {"start": "10.0.0.5", "end": "10.0.0.1"}}}, "ips": [V4]},
        f"<forward mode='nat'><nat><address start='10.0.0.5' end='10.0.0.1'/></nat></forward>{IP4}",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_libvirt_refuses_is_told_before(name: str, project: Project, connection: libvirt.virConnect) -> None:
    spec, xml = REFUSED[name]
    # which newer ones take; a manifest is for older ones, too
    refused = name != "too many" or connection.getLibVersion() < 11_000_000
    with pytest.raises(HostError) if refused else nullcontext():
        start(define(connection, f"<network><name>lan</name>{xml}</network>"))
    project.write(resource("Network", "lan", **spec))
    told = project.kvmstate("validate")
    assert told.code == 1
    assert f"{project.folder}/manifests.yaml:" in told.err.replace("\n", " ")
    assert "hint:" in told.err


def test_what_libvirt_forgets_is_told_before(project: Project, connection: libvirt.virConnect) -> None:
    """It takes a boot file without leases, and has none then."""
    text = "<ip address='10.5.0.1' prefix='24'><dhcp><bootp file='x'/></dhcp></ip>"
    assert "bootp" not in define(connection, f"<network><name>lan</name>{text}</network>").raw.XMLDesc()
    ip = {"address": "10.5.0.1/24", "dhcp": {"boot": {"file": "x"}}}
    project.write(resource("Network", "lan", ips=[ip]))
    assert "boot needs ranges or hosts" in project.kvmstate("validate").err


def test_what_passes_is_taken_and_kept(project: Project) -> None:
    documents = yaml.safe_load_all((CASES / "ok-networks" / "manifest.yaml").read_text())
    project.converge(*documents)


def test_what_two_networks_cannot_both_have_is_refused_by_libvirt(connection: libvirt.virConnect) -> None:
    start(define(connection, "<network><name>a</name><bridge name='br-a'/><ip address='10.5.0.1'/></network>"))
    with pytest.raises(HostError, match="already in use"):
        start(define(connection, "<network><name>b</name><ip address='10.5.0.2'/></network>"))
    with pytest.raises(HostError, match="already in use"):
        define(connection, "<network><name>c</name><bridge name='br-a'/></network>")


def test_what_libvirt_has_taken_is_imported_as_it_is(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    odd = """<network><name>odd</name><bridge name='br-odd'/><domain name='a b'/>
<ip address='10.5.0.1' prefix='24'><dhcp>
<host mac='52:54:00:00:00:01' ip='10.5.0.1'/><host mac='52:54:00:00:00:01' ip='10.5.0.255'/>
</dhcp></ip><ip address='10.5.0.2' prefix='24'/><ip address='10.7.0.0' prefix='24'/></network>"""
    never = """<network><name>never</name><bridge name='br/0'/><ip address='10.5.0.9' prefix='24'/>
<ip family='ipv6' address='fd00::1' prefix='48'><dhcp><host name='a' ip='fd00::9'/></dhcp></ip></network>"""
    connection.networkDefineXML(odd).create()
    connection.networkDefineXML(never)
    folder = tmp_path / "taken"
    taken = kvmstate("import", "--all", "--output", str(folder), "-c", project.uri)
    assert taken.code == 0, taken
    planned = kvmstate("plan", str(folder), "--detailed-exitcode")
    assert planned.code == 0, planned


def test_title_and_description_need_a_libvirt_that_knows_them(project: Project, connection: libvirt.virConnect) -> None:
    said = resource("Network", "lan", title="Office", description="For\neverybody.")
    if connection.getLibVersion() < 9_007_000:
        project.write(said)
        assert "knows no title and description of networks; from 9.7 on it does" in project.plan().out
        return
    project.converge(said)
    assert connection.networkLookupByName("lan").XMLDesc().count("Office") == 1
    # also of one that runs, whose guests notice nothing
    project.converge(resource("Network", "lan", title="Lab"))
    assert "restart" not in project.plan().out
