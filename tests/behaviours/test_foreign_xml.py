"""XML that kvmstate does not model survives every update, also what libvirt keeps for others."""

from __future__ import annotations

import libvirt
import pytest
from harness import Project, resource
from lxml import etree

pytestmark = pytest.mark.real

DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>old</name>
  <metadata><tool:note xmlns:tool='http://tool.example/1'>theirs</tool:note></metadata>
  <memory unit='MiB'>64</memory>
  <vcpu cpuset='0-1'>2</vcpu>
  <cputune><shares>512</shares></cputune>
  <os><type machine='pc'>hvm</type><bootmenu enable='yes' timeout='100'/></os>
  <features><acpi/><hyperv><relaxed state='on'/></hyperv></features>
  <clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock>
  <on_crash>preserve</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' io='threads'/>
      <source file='/var/lib/libvirt/old.img'/>
      <target dev='vda' bus='virtio'/>
      <iotune><total_bytes_sec>1048576</total_bytes_sec></iotune>
    </disk>
    <interface type='user'><mac address='52:54:00:00:00:0a'/><model type='virtio'/></interface>
    <sound model='ich6'/>
    <watchdog model='i6300esb' action='reset'/>
    <channel type='unix'><target type='virtio' name='org.example.port'/></channel>
  </devices>
  <qemu:commandline><qemu:env name='THEIRS' value='1'/></qemu:commandline>
</domain>
"""
NETWORK = """
<network ipv6='yes'>
  <name>old</name>
  <metadata><tool:note xmlns:tool='http://tool.example/1'>theirs</tool:note></metadata>
  <bridge name='kvmold0' macTableManager='libvirt'/>
  <bandwidth><inbound average='1000'/></bandwidth>
  <dns><srv service='ldap' protocol='tcp' target='ldap.example'/></dns>
  <ip address='192.168.90.1' prefix='24'><dhcp><bootp file='pxelinux.0'/></dhcp></ip>
  <route address='10.9.0.0' prefix='16' gateway='192.168.90.2'/>
  <portgroup name='slow'><bandwidth><outbound average='10'/></bandwidth></portgroup>
</network>
"""


def parts(xml: str) -> dict[str, str]:
    """Each element with its path: attributes and text, without the fields that are changed here."""
    root = etree.fromstring(xml)
    tree = root.getroottree()
    found = {tree.getpath(e): f"{sorted(e.attrib.items())} {(e.text or '').strip()}" for e in root.iter("*")}
    changed = ("vcpu", "memory", "currentMemory", "mtu", "/kvmstate:", "title")
    return {path: said for path, said in found.items() if not any(word in path for word in changed)}


def test_of_a_machine(project: Project, connection: libvirt.virConnect) -> None:
    before = parts(connection.defineXML(DOMAIN).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    assert any("qemu:commandline" in path for path in before)
    project.write(resource("VirtualMachine", "old", state="stopped", memory="64MiB"))
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    project.converge(resource("VirtualMachine", "old", state="stopped", memory="32MiB", cpus=1, title="ours"))
    text = connection.lookupByName("old").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert "<title>ours</title>" in text
    assert before.items() <= parts(text).items()
    assert etree.fromstring(text).find("vcpu").get("cpuset") == "0-1"


def test_of_a_network(project: Project, connection: libvirt.virConnect) -> None:
    before = parts(connection.networkDefineXML(NETWORK).XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE))
    project.write(resource("Network", "old", active=False))
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    project.converge(resource("Network", "old", active=False, mtu=1400))
    text = connection.networkLookupByName("old").XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    assert "<mtu size='1400'/>" in text
    assert before.items() <= parts(text).items()
