"""Internal snapshots, by libvirt's own calls: https://libvirt.org/html/libvirt-libvirt-domain-snapshot.html"""

from __future__ import annotations

from collections.abc import Sequence

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import domains
from kvmstate.host.connection import Host
from kvmstate.host.faults import faults
from kvmstate.xmlbind.document import document


class SnapshotCalls:
    """The snapshots of one host's domains."""

    def __init__(self, host: Host) -> None:
        self._connection = host.connection

    def descriptions(self, domain: str) -> dict[str, str]:
        """What each snapshot says of itself, by their names. Raises NotFound."""
        with faults():
            listed = domains.find(self._connection, domain).listAllSnapshots(0)
            return {found.getName(): document(found.getXMLDesc(0)).findtext("description") or "" for found in listed}

    def depth(self, domain: str) -> int:
        """How many files the longest backing chain of its disks has."""
        with faults():
            disks = document(domains.find(self._connection, domain).XMLDesc(0)).findall("devices/disk")
        return max((1 + len(disk.findall(".//backingStore/source")) for disk in disks), default=0)

    def create(
        self,
        domain: str,
        name: str,
        description: str,
        *,
        mode: str,
        disks: Sequence[str] | None,
        memory: bool,
        quiesce: str,
    ) -> None:
        """Of the disks with these target names, or of all that are writable."""
        if mode != "internal":
            raise HostError("external snapshots cannot be taken yet", "say mode: internal")
        root = etree.Element("domainsnapshot")
        for tag, text in (("name", name), ("description", description)):
            etree.SubElement(root, tag).text = text
        found = domains.find(self._connection, domain)
        if disks is not None:
            listed = etree.SubElement(root, "disks")
            for target in document(domains.xml(found)).findall("devices/disk/target"):
                device = target.get("dev", "")
                etree.SubElement(listed, "disk", name=device, snapshot=mode if device in disks else "no")
        with faults():
            found.snapshotCreateXML(etree.tostring(root, encoding="unicode"), 0)

    def delete(self, domain: str, name: str) -> None:
        """Raises NotFound."""
        with faults():
            domains.find(self._connection, domain).snapshotLookupByName(name, 0).delete(0)
