"""netplan's files as libvirt's XML, and back. tests/lab has a real netplan."""

from __future__ import annotations

import pytest
import yaml
from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host.netplan_edits import edited, removed
from kvmstate.host.netplan_files import Config, File, Id, read, with_comments, without_comments
from kvmstate.host.netplan_xml import described

CLOUD = """\
# from the installer
network:
  version: 2
  ethernets:
    eth0:
      match: {macaddress: 52:54:00:12:34:56}  # the first
      set-name: eth0
      # a fixed one
      addresses:
        - 192.0.2.10/24
      routes: [{to: default, via: 192.0.2.1}]
      nameservers:
        addresses: [192.0.2.53]
    eth1: {dhcp4: true}
"""
BRIDGE = """\
<interface type="bridge" name="br0">
  <start mode="onboot"/>
  <mtu size="1400"/>
  <protocol family="ipv4">
    <ip address="192.0.2.10" prefix="24"/>
    <route gateway="192.0.2.1"/>
  </protocol>
  <protocol family="ipv6">
    <autoconf/>
    <dhcp peerdns="no"/>
  </protocol>
  <bridge stp="off" delay="2">
    <interface type="ethernet" name="eth0"/>
    <interface type="bond" name="bond0">
      <bond mode="active-backup">
        <miimon freq="100" updelay="200"/>
        <interface type="ethernet" name="eth1"/>
      </bond>
    </interface>
  </bridge>
</interface>
"""
VLAN = """\
<interface type="vlan" name="eth2.7">
  <start mode="none"/>
  <vlan tag="7">
    <interface name="eth2"/>
  </vlan>
</interface>
"""
OWN = "90-kvmstate-br0.yaml"


def config(**texts: str) -> Config:
    return Config({f"{name}.yaml": File("/etc/netplan", f"{name}.yaml", text) for name, text in texts.items()})


def test_an_interface_is_written_and_read_again() -> None:
    before = config(cloud=CLOUD)
    after = before.changed(edited(etree.fromstring(BRIDGE), before))
    assert described(after, Id("bridges", "br0")).strip() == BRIDGE.strip()
    # nothing to do the second time
    assert edited(etree.fromstring(BRIDGE), after) == {OWN: after.files[OWN].text}
    vlan = config().changed(edited(etree.fromstring(VLAN), config()))
    assert described(vlan, Id("vlans", "eth2.7")).strip() == VLAN.strip()


def test_what_a_port_cannot_have_is_a_comment_until_it_leaves() -> None:
    before = config(cloud=CLOUD)
    texts = edited(etree.fromstring(BRIDGE), before)
    cloud = texts["cloud.yaml"]
    assert cloud is not None
    assert yaml.safe_load(cloud)["network"]["ethernets"]["eth0"].keys() == {"match", "set-name"}
    assert "      # a fixed one\n#kvmstate port of br0:       addresses:\n" in cloud
    assert "#kvmstate port of br0:     eth1: {dhcp4: true}\n" in cloud
    after = before.changed(texts)
    # a port fewer
    fewer = etree.fromstring(BRIDGE)
    bridge = fewer.find("bridge")
    bridge.remove(bridge.find("interface[@name='bond0']"))
    assert "\n    eth1: {dhcp4: true}\n" in (edited(fewer, after)["cloud.yaml"] or "")
    assert removed(Id("bridges", "br0"), after) == {"cloud.yaml": CLOUD, OWN: None}


def test_what_others_define_is_taken_over_with_all_that_has_no_field() -> None:
    theirs = """\
network:
  bridges:
    br0:
      interfaces: [eth0]
      optional: true
      parameters: {stp: no, forward-delay: 2, priority: 7}
      dhcp4: yes
      routes: [{to: 10.0.0.0/8, via: 192.0.2.9}]
"""
    before = config(theirs=theirs)
    node = etree.fromstring(described(before, Id("bridges", "br0")))
    assert node.find("protocol[@family='ipv4']/dhcp") is not None
    node.find("bridge").set("delay", "0.5")
    texts = edited(node, before)
    assert yaml.safe_load(texts["theirs.yaml"] or "") == {"network": None}
    said = yaml.safe_load(texts[OWN] or "")["network"]["bridges"]["br0"]
    assert (said["optional"], said["parameters"]["priority"]) == (True, 7)
    assert said["parameters"]["forward-delay"] == "500ms"
    assert said["routes"] == [{"to": "10.0.0.0/8", "via": "192.0.2.9"}]
    after = before.changed(texts)
    assert not after.changed(removed(Id("bridges", "br0"), after)).section("br0")


def test_a_card_of_two_vlans_stays_until_both_have_gone() -> None:
    first, second = etree.fromstring(VLAN), etree.fromstring(VLAN.replace('"7"', '"8"').replace("eth2.7", "eth2.8"))
    both = config().changed(edited(first, config()))
    both = both.changed(edited(second, both))
    one = both.changed(removed(Id("vlans", "eth2.7"), both))
    assert one.all.keys() == {Id("vlans", "eth2.8"), Id("ethernets", "eth2")}
    assert one.changed(removed(Id("vlans", "eth2.8"), one)).all == {}


@pytest.mark.parametrize(
    "text",
    [
        "network: {ethernets: {eth0: {dhcp4: true}}, version: 2}\n",
        "a: &one {dhcp4: true, mtu: 1400}\nnetwork: {version: 2,\n  ethernets: {eth0: *one}}\n",
    ],
)
def test_what_stands_on_one_line_with_others_is_refused(text: str) -> None:
    with pytest.raises(HostError, match="on one line with other"):
        edited(etree.fromstring(BRIDGE), config(theirs=text))


def test_a_card_of_another_name_is_refused() -> None:
    text = "network:\n  ethernets:\n    lan:\n      match: {name: eth0}\n      dhcp4: true\n"
    with pytest.raises(HostError, match="netplan calls eth0 lan"):
        edited(etree.fromstring(BRIDGE), config(theirs=text))


def test_what_netplan_cannot_say_is_refused() -> None:
    with pytest.raises(HostError, match=r"bond\.miimon\.carrier"):
        edited(etree.fromstring(BRIDGE.replace("freq=", "carrier='ioctl' freq=")), config())


def test_files_of_one_name_are_read_from_the_last_folder() -> None:
    one, other = (f"network: {{ethernets: {{eth0: {{mtu: {mtu}}}}}}}" for mtu in (1400, 1500))
    found = read(f"/etc/netplan/a.yaml\0{one}\0/run/netplan/a.yaml\0{other}\0/lib/netplan/a.yaml\0{one}\0")
    assert found.all == {Id("ethernets", "eth0"): {"mtu": 1500}}
    # a MAC address is no number
    said = config(a=CLOUD).all[Id("ethernets", "eth0")]["match"]
    assert said == {"macaddress": "52:54:00:12:34:56"}


def test_comments_go_as_they_came() -> None:
    for keys in (None, ["addresses"], ["match", "set-name", "addresses", "routes", "nameservers"]):
        marked = with_comments(CLOUD, "#x: ", Id("ethernets", "eth0"), keys)
        assert marked != CLOUD
        assert without_comments(marked, "#x: ") == CLOUD
