"""What one machine of a host names: files, folders, volumes, networks, filters and secrets, in all its documents."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from lxml import etree

from kvmstate.errors import NotFound
from kvmstate.host import domains, managed_secrets, objects
from kvmstate.host.faults import faults
from kvmstate.host.files import normal
from kvmstate.host.objects import Domain
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind import disk_source
from kvmstate.xmlbind.document import document

# What a machine reads and writes by path, beside its disks
_DATA = (
    "os/kernel",
    "os/initrd",
    "os/dtb",
    "os/nvram",
    "os/acpi/table",
    "devices/memory/source/path",
    "devices/tpm/backend/source",
)
# People's own words, and programs: no path in them is used as data
_WORDS = {"title", "description", "metadata", "emulator", "binary"}
# libxml2 looks for them: a machine has a hundred texts, and a few of them are paths
_SAYING = etree.XPath("descendant-or-self::*/@*[contains(., '/')] | descendant-or-self::*/text()[contains(., '/')]")
_IN_TEXT = re.compile(r"(?<![\w./-])/[^\s,;:'\"=]+")


class User(NamedTuple):
    """A machine, a volume that is a layer, or a filter that refers to others; `snapshot` names what of the machine it
    is: a snapshot, a saved state. Or a file in no pool, and in `snapshot` the machine that is to have it."""

    id: ResourceId
    snapshot: str = ""

    def __str__(self) -> str:
        if self.id.kind == "file":
            return f"file {self.id.name} of virtual machine {self.snapshot}"
        name = f"{objects.WORDS[self.id.kind]} {self.id.name}"
        return f"{self.snapshot} of {name}" if self.snapshot else name


@dataclass
class Named:
    """What one domain names: every path as it stands there, and with the format that it is used as those whose files
    count wherever they are and whatever lies below them."""

    name: str
    paths: dict[str, set[User]] = field(default_factory=lambda: defaultdict(set))
    data: dict[str, tuple[User, str | None]] = field(default_factory=dict)
    volumes: dict[tuple[str, str], User] = field(default_factory=dict)
    # all that is in these may be used
    folders: dict[str, set[User]] = field(default_factory=lambda: defaultdict(set))
    networks: set[str] = field(default_factory=set)
    # and other devices of the host's network
    bridges: set[str] = field(default_factory=set)
    filters: dict[str, set[User]] = field(default_factory=lambda: defaultdict(set))
    secrets: dict[str, set[User]] = field(default_factory=lambda: defaultdict(set))
    # all files that this comes to, and who uses them, see Uses
    used: set[tuple[str, User]] = field(default_factory=set)

    def add(self, root: etree._Element, user: User) -> None:
        for disk in root.iterfind(".//devices/disk"):
            for node in (disk, *disk.iter("mirror", "backingStore")):
                if (source := disk_source.read(node)) is None:
                    continue
                if source.pool:
                    self.volumes[source.pool, source.volume] = user
                if source.type == "dir":
                    self.folders[normal(source.path)].add(user)
                    continue
                use = node.find("driver") if node.tag == "disk" else node.find("format")
                self.add_file(source.path, user, use.get("type") if use is not None else None)
                if source.name:
                    self.paths[source.name].add(user)
        for path in _DATA:
            for each in root.iterfind(path):
                self.add_file((each.text or each.get("path") or "").strip(), user, "raw")
        for each in root.iterfind("devices/filesystem/source"):
            self.add_file(each.get("file") or each.get("dev") or "", user, "raw")
            if folder := each.get("dir"):
                self.folders[normal(folder)].add(user)
        for text in _strings(root):
            self.paths[normal(text)].add(user)
        for each in root.iterfind("devices/interface/source"):
            self.networks |= {each.get("network", "")} - {""}
            self.bridges |= {each.get("bridge", ""), each.get("dev", "")} - {""}
        for each in root.iterfind("devices/interface/filterref"):
            self.filters[each.get("filter", "")].add(user)
        for secret in managed_secrets.uses(root):
            self.secrets[secret].add(user)

    def add_file(self, path: str, user: User, format_: str | None) -> None:
        if path.startswith("/") and normal(path) not in self.data:
            self.data[normal(path)] = user, format_


def _strings(node: etree._Element) -> Iterator[str]:
    for said in cast("list[Any]", _SAYING(node)):
        place, text = said.getparent(), said.strip()
        if any(each.tag in _WORDS for each in (place, *place.iterancestors())):
            continue
        if text.startswith("/"):
            yield str(text)
        else:
            yield from _IN_TEXT.findall(text)


def names_of(
    domain: Domain, kept: dict[str, list[tuple[str, str]]], texts: tuple[str, str | None] | None = None
) -> Named:
    """What a domain names, by what was read of it, if it was. Raises NotFound when it has gone."""
    name = domain.name
    found, own = Named(name), User(ResourceId("domain", name))
    for text in filter(None, texts or _texts(domain)):
        found.add(document(text), own)
    for what, text in kept.get(domain.uuid, ()):
        root, user = document(text), User(own.id, what)
        # a snapshot needs what its domain had then; the overlays that it names hold what was written since
        then = [root] if root.tag == "domain" else [*root.iterfind("domain"), *root.iterfind("inactiveDomain")]
        for inner in then:
            for chain in [*inner.iter("backingStore", "mirror")]:
                # as it was then: what lies below a file by now, the file tells
                chain.getparent().remove(chain)  # type: ignore[union-attr]
            found.add(inner, user)
        for memory in root.iterfind("memory[@file]"):
            found.add_file(memory.get("file", ""), user, "raw")
    return found


def _texts(domain: Domain) -> Iterator[str]:
    yield domains.xml(domain)
    with faults():
        active = domain.active
    if active:
        with suppress(NotFound):
            yield domains.xml(domain, inactive=False)
