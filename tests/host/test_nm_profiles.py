"""NetworkManager's profiles as libvirt's XML, and back. tests/lab has the real ones."""

from __future__ import annotations

import pytest
from lxml import etree

from kvmstate.host.nm_profiles import Profile, described, made_of, read, settings

# as nmcli 1.42 tells them, without most of what a profile does not say
TOLD = """\
connection.id:br0
connection.uuid:427cab0d-8236-4505-99cd-9528a110776c
connection.type:bridge
connection.interface-name:br0
connection.autoconnect:yes
connection.master:
connection.slave-type:
802-3-ethernet.cloned-mac-address:
802-3-ethernet.mtu:1400
ipv4.method:manual
ipv4.addresses:192.0.2.10/24, 192.0.2.11/24
ipv4.gateway:192.0.2.1
ipv4.ignore-auto-dns:no
ipv6.method:auto
ipv6.addresses:
ipv6.gateway:
ipv6.ignore-auto-dns:yes
bridge.mac-address:
bridge.stp:no
bridge.forward-delay:2

connection.id:br0 port bond0
connection.uuid:b07ecc87-7920-4ddc-9b61-b8e0564fc322
connection.type:bond
connection.interface-name:bond0
connection.autoconnect:yes
connection.master:427cab0d-8236-4505-99cd-9528a110776c
connection.slave-type:bridge
bond.options:mode=active-backup,miimon=100,updelay=200,use_carrier=1

connection.id:bond0 port eth1
connection.uuid:0af98115-31ea-4a82-84e9-f7c43de4052d
connection.type:802-3-ethernet
connection.interface-name:eth1
connection.master:bond0
connection.slave-type:bond

connection.id:Wired connection 1
connection.uuid:11111111-1111-4111-8111-111111111111
connection.type:802-3-ethernet
connection.interface-name:
"""
BRIDGE = """\
<interface type="bridge" name="br0">
  <start mode="onboot"/>
  <mtu size="1400"/>
  <protocol family="ipv4">
    <ip address="192.0.2.10" prefix="24"/>
    <ip address="192.0.2.11" prefix="24"/>
    <route gateway="192.0.2.1"/>
  </protocol>
  <protocol family="ipv6">
    <autoconf/>
    <dhcp peerdns="no"/>
  </protocol>
  <bridge stp="off" delay="2">
    <interface type="bond" name="bond0">
      <bond mode="active-backup">
        <miimon freq="100" updelay="200" carrier="netif"/>
        <interface type="ethernet" name="eth1"/>
      </bond>
    </interface>
  </bridge>
</interface>"""
UUID = "427cab0d-8236-4505-99cd-9528a110776c"


def profiles() -> list[Profile]:
    return read(TOLD, {UUID: "activated"})


def test_what_networkmanager_tells_is_libvirts_xml() -> None:
    found = profiles()
    assert [(each.interface, each.type, each.active) for each in found] == [
        ("br0", "bridge", True),
        ("bond0", "bond", False),
        ("eth1", "ethernet", False),
    ]
    assert described(found[0], found) == BRIDGE


def test_what_is_written_is_what_was_read() -> None:
    said = settings(etree.fromstring(BRIDGE))
    told = dict(zip(said[::2], said[1::2], strict=True))
    before = profiles()[0]
    for name in told.keys() & before.said.keys():
        assert told[name].replace(",", ", ") == before.said[name], name
    assert told["connection.autoconnect-slaves"] == "1"
    port = etree.fromstring(BRIDGE).find("bridge/interface")
    assert settings(port)[1] == "mode=active-backup,miimon=100,updelay=200,use_carrier=1"


@pytest.mark.parametrize(
    ("inner", "method"),
    [
        ("", "disabled"),
        ("<protocol family='ipv6'/>", "disabled"),
        ("<protocol family='ipv6'><autoconf/></protocol>", "auto"),
        ("<protocol family='ipv6'><dhcp/></protocol>", "dhcp"),
        ("<protocol family='ipv6'><autoconf/><dhcp/></protocol>", "auto"),
        ("<protocol family='ipv6'><ip address='fd00::1' prefix='64'/></protocol>", "manual"),
    ],
)
def test_how_addresses_come(inner: str, method: str) -> None:
    said = settings(etree.fromstring(f"<interface type='ethernet' name='eth1'>{inner}</interface>"))
    assert said[said.index("ipv6.method") + 1] == method


def test_a_vlan_is_made_on_its_device() -> None:
    vlan = etree.fromstring(
        "<interface type='vlan' name='v7'><vlan tag='7'><interface name='eth1'/></vlan></interface>"
    )
    assert made_of(vlan) == ["dev", "eth1", "id", "7"]
    assert settings(vlan)[settings(vlan).index("vlan.id") + 1] == "7"


def test_what_only_networkmanager_knows_stays() -> None:
    bond = profiles()[1]
    over = Profile({**bond.said, "bond.options": "mode=802.3ad,miimon=50,lacp_rate=1", "ipv4.method": "shared"}, True)
    node = etree.fromstring("<interface type='bond' name='bond0'><bond mode='802.3ad'/></interface>")
    said = settings(node, over)
    assert said[said.index("bond.options") + 1] == "lacp_rate=1,mode=802.3ad"
    assert "ipv4.method" not in said
    assert said[said.index("ipv6.method") + 1] == "disabled"
