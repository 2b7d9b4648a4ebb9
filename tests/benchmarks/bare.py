"""The libvirt calls that a piece of work needs at least, on one connection, in one thread, and nothing around them:
`python bare.py URI WORK [COUNT]`. What the rows of thousand.py are compared with."""

from __future__ import annotations

import sys

import libvirt

POOL = "<pool type='dir'><name>images</name><target><path>/var/lib/libvirt/thousand</path></target></pool>"
NETWORK = "<network><name>lan</name><ip address='192.168.170.1' netmask='255.255.255.0'/></network>"
VOLUME = (
    "<volume><name>vm-{n:04}.raw</name><capacity>1048576</capacity><allocation>0</allocation>"
    "<target><format type='raw'/></target></volume>"
)
# as virt-install writes it
MACHINE = """
<domain type='qemu'>
  <name>vm-{n:04}</name>
  <memory unit='KiB'>131072</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/><apic/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/libvirt/thousand/vm-{n:04}.raw'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='qemu-xhci' ports='15'/>
    <interface type='network'><source network='lan'/><model type='virtio'/></interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>"""


def examine(connection: libvirt.virConnect, count: int) -> None:
    """A new host examines its QEMU when it is first asked about it, and keeps what it found."""
    connection.getCapabilities()


def read(connection: libvirt.virConnect, count: int) -> None:
    for domain in connection.listAllDomains():
        domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        if domain.ID() != -1:
            domain.XMLDesc(0)
    for network in connection.listAllNetworks():
        network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    for pool in connection.listAllStoragePools():
        pool.XMLDesc(0)
        for volume in pool.listAllVolumes():
            volume.XMLDesc(0)


def make(connection: libvirt.virConnect, count: int) -> None:
    """What others have on a host."""
    pool = connection.storagePoolDefineXML(POOL)
    pool.build(0)
    pool.create(0)
    connection.networkDefineXML(NETWORK)
    for n in range(count):
        pool.createXML(VOLUME.format(n=n), 0)
        connection.defineXML(MACHINE.format(n=n))


def change(connection: libvirt.virConnect, count: int) -> None:
    """One machine; what it is to be is known by reading all."""
    read(connection, count)
    domain = connection.lookupByName(f"vm-{count // 2:04}")
    connection.defineXML(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def remove(connection: libvirt.virConnect, count: int) -> None:
    """One machine and its volume are gone, which reading all tells."""
    read(connection, count)


def destroy(connection: libvirt.virConnect, count: int) -> None:
    """All of it, each looked at before."""
    for domain in connection.listAllDomains():
        domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        if domain.ID() != -1:
            domain.destroy()
        domain.undefine()
    for network in connection.listAllNetworks():
        network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
        if network.isActive():
            network.destroy()
        network.undefine()
    for pool in connection.listAllStoragePools():
        pool.XMLDesc(0)
        for volume in pool.listAllVolumes():
            volume.XMLDesc(0)
            volume.delete(0)
        pool.destroy()
        pool.undefine()


def wipe(connection: libvirt.virConnect, count: int) -> None:
    """The host as it was, without any project's record."""
    destroy(connection, count)
    for secret in connection.listAllSecrets():
        secret.undefine()


def create_again(connection: libvirt.virConnect, count: int) -> None:
    """The machines and volumes that there are, once more from libvirt's own XML of them: that alone is timed."""
    machines = [domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) for domain in connection.listAllDomains()]
    for domain in connection.listAllDomains():
        domain.undefine()
    pool = connection.storagePoolLookupByName("images")
    volumes = []
    for volume in pool.listAllVolumes():
        volumes.append(volume.XMLDesc(0))
        volume.delete(0)
    print("begun", flush=True)
    for text in volumes:
        pool.createXML(text, 0)
    for text in machines:
        connection.defineXML(text)


if __name__ == "__main__":
    globals()[sys.argv[2]](libvirt.open(sys.argv[1]), int(sys.argv[3]))
