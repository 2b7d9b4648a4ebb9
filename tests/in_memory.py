"""A host in memory: libvirt's objects as their XML texts, without a daemon. What is asked of them and defined is what
tests of comparing and planning need; nothing runs, and libvirt's own checks are not here: tests on real hosts have
those.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterable
from typing import Any

import libvirt

from kvmstate.host import Host
from kvmstate.host.permit import Permit
from kvmstate.model.change import Change
from kvmstate.xmlbind import document

CAPABILITIES = """
<capabilities>
  <host><uuid>7b1f0c1e-0000-4000-8000-000000000001</uuid></host>
  <guest><arch name='x86_64'><machine>q35</machine><machine>pc</machine><domain type='qemu'/></arch></guest>
</capabilities>
"""
_NOT_THERE = {
    "domain": libvirt.VIR_ERR_NO_DOMAIN,
    "interface": libvirt.VIR_ERR_NO_INTERFACE,
    "network": libvirt.VIR_ERR_NO_NETWORK,
    "nwfilter": libvirt.VIR_ERR_NO_NWFILTER,
    "pool": libvirt.VIR_ERR_NO_STORAGE_POOL,
    "volume": libvirt.VIR_ERR_NO_STORAGE_VOL,
    "secret": libvirt.VIR_ERR_NO_SECRET,
}
_XML_INACTIVE = {
    "domain": libvirt.VIR_DOMAIN_XML_INACTIVE,
    "interface": libvirt.VIR_INTERFACE_XML_INACTIVE,
    "network": libvirt.VIR_NETWORK_XML_INACTIVE,
    "nwfilter": 0,
    "pool": libvirt.VIR_STORAGE_XML_INACTIVE,
    "volume": 0,
    "secret": 0,
}
_SAVED = libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE


class NotThere(libvirt.libvirtError):
    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name}")
        self.err = (_NOT_THERE[kind], libvirt.VIR_FROM_NONE, f"there is no {kind} {name}", 0, "", "", "", 0, 0)


class Malformed(libvirt.libvirtError):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.err = (libvirt.VIR_ERR_XML_ERROR, libvirt.VIR_FROM_INTERFACE, message, 0, "", "", "", 0, 0)


class Thing:
    """A domain, host interface, network, network filter, pool or volume, as its methods in libvirt-python have it."""

    def __init__(self, connection: Connection, text: str, active: str | None = None) -> None:
        self._connection = connection
        self._root = document(text)
        self.kind = {"filter": "nwfilter"}.get(self._root.tag, self._root.tag)
        self.text = text
        self.active = active
        self.starts_with_host = False
        self.persistent = True
        self.saved: str | None = None
        self.held: bytes | None = None

    # of a secret, whose value is what was set

    def usageType(self) -> int:
        usage = self._root.find("usage")
        return 0 if usage is None else 2

    def usageID(self) -> str:
        return self._root.findtext("usage/*") or ""

    def value(self, flags: int) -> bytes:
        if self._root.get("private") == "yes" or self.held is None:
            raise NotThere("secret", self.name())
        return self.held

    def name(self) -> str:
        if self.kind == "secret":
            return self.usageID()
        return self._root.findtext("name") or self._root.get("name") or ""

    def UUIDString(self) -> str:
        return self._root.findtext("uuid") or str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.kind}/{self.name()}"))

    def XMLDesc(self, flags: int) -> str:
        inactive = flags & _XML_INACTIVE[self.kind]
        return self.text if inactive or self.active is None else self.active

    def isActive(self) -> bool:
        return self.active is not None

    def isPersistent(self) -> bool:
        return self.persistent

    def autostart(self) -> bool:
        return self.starts_with_host

    def connect(self) -> Connection:
        return self._connection

    def state(self, flags: int) -> tuple[int, int]:
        return libvirt.VIR_DOMAIN_RUNNING, 0

    def hasManagedSaveImage(self, flags: int) -> bool:
        return self.saved is not None

    def managedSaveGetXMLDesc(self, flags: int) -> str | None:
        return self.saved

    def listAllPorts(self, flags: int) -> list[Any]:
        """No machine's interface has one here: they are found by what machines say."""
        return []

    # of an interface

    def create(self, flags: int) -> None:
        self.active = self.text

    def destroy(self, flags: int) -> None:
        self.active = None

    # of a volume

    def path(self) -> str:
        return self._root.findtext("target/path") or ""

    def key(self) -> str:
        return self.path()

    # of a pool

    def refresh(self, flags: int) -> None:
        """There is nothing that it has not seen."""

    def listAllVolumes(self, flags: int) -> list[Thing]:
        folder = self._root.findtext("target/path")
        return [each for each in self._connection.all("volume") if posixpath.dirname(each.path()) == folder]

    def storageVolLookupByName(self, name: str) -> Thing:
        for each in self.listAllVolumes(0):
            if each.name() == name:
                return each
        raise NotThere("volume", name)

    def createXML(self, text: str, flags: int) -> Thing:
        root = document(text)
        name, folder = root.findtext("name"), self._root.findtext("target/path")
        path = f"<path>{folder}/{name}</path>"
        if "<target>" in text:
            located = text.replace("<target>", f"<target>{path}", 1)
        else:
            located = text.replace("</name>", f"</name><target>{path}</target>", 1)
        return self._connection.define(located, told=text)


class Connection:
    """What a libvirt connection has of objects. `defined` is the text that was defined last."""

    def __init__(self) -> None:
        self._things: dict[tuple[str, str], Thing] = {}
        self.defined = ""

    def add(self, text: str, active: str | None = None) -> Thing:
        thing = Thing(self, text, active)
        self._things[thing.kind, thing.path() if thing.kind == "volume" else thing.name()] = thing
        return thing

    def define(self, text: str, told: str = "") -> Thing:
        self.defined = told or text
        return self.add(text)

    def all(self, kind: str) -> list[Thing]:
        return [each for (its, _), each in self._things.items() if its == kind]

    def find(self, kind: str, name: str) -> Thing:
        if (kind, name) not in self._things:
            raise NotThere(kind, name)
        return self._things[kind, name]

    def getURI(self) -> str:
        return "test:///memory"

    def getCapabilities(self) -> str:
        return CAPABILITIES

    def getStoragePoolCapabilities(self, flags: int) -> str:
        return "<storagepoolCapabilities/>"

    def numOfSecrets(self) -> int:
        return len(self.all("secret"))

    def listAllSecrets(self, flags: int) -> list[Thing]:
        return self.all("secret")

    def secretLookupByUsage(self, usage: int, name: str) -> Thing:
        return self.find("secret", name)

    def secretLookupByUUIDString(self, uuid: str) -> Thing:
        for each in self.all("secret"):
            if each.UUIDString() == uuid:
                return each
        raise NotThere("secret", uuid)

    def secretDefineXML(self, text: str, flags: int) -> Thing:
        return self.define(text)

    def listAllDomains(self, flags: int) -> list[Thing]:
        every = self.all("domain")
        if flags == libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE:
            return [each for each in every if each.isActive()]
        if flags == _SAVED:
            return [each for each in every if each.saved]
        # of snapshots and checkpoints there are none here
        return every if flags == 0 else []

    def lookupByName(self, name: str) -> Thing:
        return self.find("domain", name)

    def defineXMLFlags(self, text: str, flags: int) -> Thing:
        return self.define(text)

    def listAllNetworks(self, flags: int) -> list[Thing]:
        return self.all("network")

    def networkLookupByName(self, name: str) -> Thing:
        return self.find("network", name)

    def networkLookupByUUIDString(self, uuid: str) -> Thing:
        return next(each for each in self.all("network") if each.UUIDString() == uuid)

    def networkDefineXML(self, text: str) -> Thing:
        return self.define(text)

    def changeBegin(self, flags: int) -> None:
        """Nothing fails here that would be taken back."""

    changeCommit = changeBegin

    def listAllInterfaces(self, flags: int) -> list[Thing]:
        return self.all("interface")

    def interfaceLookupByName(self, name: str) -> Thing:
        return self.find("interface", name)

    def interfaceDefineXML(self, text: str, flags: int) -> Thing:
        if "type" not in document(text).attrib:
            raise Malformed("missing required attribute 'type'")
        return self.define(text)

    def numOfNWFilters(self) -> int:
        return len(self.all("nwfilter"))

    def listAllNWFilters(self, flags: int) -> list[Thing]:
        return self.all("nwfilter")

    def nwfilterLookupByName(self, name: str) -> Thing:
        return self.find("nwfilter", name)

    def nwfilterDefineXML(self, text: str) -> Thing:
        return self.define(text)

    def listAllStoragePools(self, flags: int) -> list[Thing]:
        return self.all("pool")

    def storagePoolLookupByName(self, name: str) -> Thing:
        return self.find("pool", name)

    def storagePoolDefineXML(self, text: str, flags: int) -> Thing:
        return self.define(text)


class MemoryHost(Host):
    """A host of these objects; those that are of use only when they run do: networks, pools and interfaces. Nobody can
    look at its files past libvirt."""

    def __init__(self, *texts: str) -> None:
        super().__init__(Connection(), "qemu+tls://memory/system")
        self.library_version = (9, 0, 0)
        for text in texts:
            self.add(text, text)

    def reach_again(self) -> None:
        """It is in this process."""

    def add(self, text: str, active: str | None = None) -> Thing:
        thing: Thing = self.connection.add(text, active)
        return thing


class AnyPermit:
    """The gate of steps that are not run against anything."""

    made_of: tuple[Change, str] | None = None

    def _permit(self, change: Change) -> Permit:
        return Permit(lambda thing: None)

    removal = renaming = filling = growing = shrinking = _permit

    def made(self, change: Change, identity: str) -> None:
        self.made_of = change, identity


def texts(folder: Any) -> Iterable[str]:
    """The XML texts in a folder, in the order of their names."""
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.xml"))]
