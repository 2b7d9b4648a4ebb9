"""How much of what objects say has a field: `python tests/coverage/count.py [--names] [FOLDER…]` prints a table.

Of every document (tests/corpus/domain, or each FOLDER, and of machines what virt-install writes, see virt_install.py)
an object is defined on a throw-away host: a network of folders called network, a filter of those called nwfilter, else
a machine. A leaf (an attribute, a text, an element that says nothing more) is essential where
libvirt does not bring it back by itself: found by leaving it out and defining again. What is essential is typed where a
field says it, and left where the remainder of the imported manifest does. UUIDs count as all else.

That takes some minutes; which leaves are essential is kept in $XDG_CACHE_HOME, by host and document.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import libvirt
from lxml import etree

from kvmstate.errors import KvmstateError
from kvmstate.host import open_host
from kvmstate.kinds import BY_WORD
from kvmstate.model.resource import ResourceId
from kvmstate.plan.planner import observe
from kvmstate.plan.takeover import Takeovers
from kvmstate.sandbox import start, stop
from kvmstate.xmlbind import document, meaning, patch
from kvmstate.xmlbind.remainder import _paired, groups

HERE = Path(__file__).parent
NAME = "coverage"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kvmstate-coverage"
KEEP = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM


class Made(NamedTuple):
    """How an object is defined, shown and undefined again."""

    define: Callable[[libvirt.virConnect, str], Any]
    flags: int
    undefine: Callable[[Any], object]


KINDS = {
    "domain": Made(
        lambda connection, text: connection.defineXMLFlags(text, 0),
        libvirt.VIR_DOMAIN_XML_INACTIVE,
        lambda made: made.undefineFlags(KEEP),
    ),
    "network": Made(libvirt.virConnect.networkDefineXML, libvirt.VIR_NETWORK_XML_INACTIVE, libvirt.virNetwork.undefine),
    "nwfilter": Made(libvirt.virConnect.nwfilterDefineXML, 0, libvirt.virNWFilter.undefine),
}
# an element by the numbers of its children, and an attribute of it, or "" for what it says itself
Leaf = tuple[tuple[int, ...], str]


@dataclass
class Counted:
    objects: int = 0
    refused: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    typed: int = 0
    left: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    where: dict[str, list[str]] = field(default_factory=dict)

    def share(self) -> float:
        return 100 * self.typed / max(1, self.typed + self.left.total())


def documents(folders: list[Path]) -> Iterator[tuple[str, str, str]]:
    """Each as its group, its name and its text."""
    for folder in folders:
        for path in sorted(folder.glob("*.xml")):
            yield folder.name, path.stem, path.read_text()
    if all(folder.name in KINDS and folder.name != "domain" for folder in folders):
        return
    for node in etree.parse(HERE / "virt_install.xml").getroot():
        yield "virt-install", node.findtext("name", ""), etree.tostring(node, encoding="unicode")


def with_uuid(text: str) -> str:
    """One that is the same with every run."""
    node = document(text)
    if node.find("uuid") is None:
        etree.SubElement(node, "uuid").text = str(uuid.uuid5(uuid.NAMESPACE_DNS, text))
    return etree.tostring(node, encoding="unicode")


def leaves(node: etree._Element, at: tuple[int, ...] = ()) -> Iterator[Leaf]:
    if not isinstance(node.tag, str):
        return
    yield from ((at, str(name)) for name in node.attrib)
    if (node.text or "").strip() or not (len(node) or node.attrib):
        yield at, ""
    for number, child in enumerate(node):
        yield from leaves(child, (*at, number))


def place(root: etree._Element, leaf: Leaf) -> str:
    tags, node = [], root
    for number in leaf[0]:
        node = node[number]
        kind = node.get("type") if node.getparent().tag == "devices" else ""  # type: ignore[union-attr]
        tags.append(f"{etree.QName(node).localname}{f'[{kind}]' if kind else ''}")
    return "/".join([*tags, f"@{leaf[1]}"] if leaf[1] else tags)


class Trial:
    """Documents defined again and again on one host."""

    def __init__(self) -> None:
        # another Debian, whose libvirt is counted on (script/tree)
        tree = os.environ.get("KVMSTATE_TEST_TREE")
        self.sandbox = start(NAME, Path(tree) if tree else None)
        self.connection = libvirt.open(self.sandbox.uri)

    def revive(self) -> None:
        """A host anew, where some document has ended libvirtd."""
        if not self.connection.isAlive():
            stop(NAME)
            self.__init__()  # type: ignore[misc]

    def connect(self, text: str) -> None:
        """Stand-ins for the networks that a document names."""
        known = {each.name() for each in self.connection.listAllNetworks()}
        for source in document(text).iterfind("devices/interface/source[@network]"):
            if (name := source.get("network", "")) not in known:
                known.add(name)
                self.connection.networkDefineXML(f"<network><name>{name}</name></network>")

    def taken(self, kind: str, text: str) -> tuple[etree._Element, object]:
        """The document as libvirt has it, and what is imported of it; once more where that has ended libvirtd."""
        if kind == "domain":
            self.connect(text)
        how = KINDS[kind]
        made = how.define(self.connection, with_uuid(text))
        try:
            whole = document(made.XMLDesc(how.flags))
            id_ = ResourceId(kind, made.name())
            with open_host(self.sandbox.uri) as host:
                return whole, Takeovers(host, "coverage").resource(BY_WORD[kind], observe(host, [id_])[id_]).spec
        except KvmstateError:
            if self.connection.isAlive():
                raise
        finally:
            if self.connection.isAlive():
                how.undefine(made)
        self.revive()
        return self.taken(kind, text)

    def shown(self, kind: str, text: str) -> etree._Element:
        how = KINDS[kind]
        made = how.define(self.connection, text)
        try:
            return document(made.XMLDesc(how.flags))
        finally:
            how.undefine(made)

    def comes_back(self, kind: str, node: etree._Element, target: object) -> bool:
        try:
            return unordered(self.shown(kind, etree.tostring(node, encoding="unicode"))) == target
        except libvirt.libvirtError:
            self.revive()
            return False

    def essential(self, kind: str, whole: etree._Element) -> set[Leaf]:
        """What libvirt does not bring back by itself: whole elements are tried first, then what is in them."""
        target = unordered(whole)
        node = document(etree.tostring(whole, encoding="unicode"))
        at = dict(paths(node))

        def visit(parent: etree._Element) -> None:
            for child in reversed(list(parent)):
                number = parent.index(child)
                parent.remove(child)
                if not self.comes_back(kind, node, target):
                    parent.insert(number, child)
                    visit(child)
            for name, value in list(parent.attrib.items()):
                del parent.attrib[name]
                if not self.comes_back(kind, node, target):
                    parent.set(name, value)
            if (parent.text or "").strip():
                text, parent.text = parent.text, None
                if not self.comes_back(kind, node, target):
                    parent.text = text

        visit(node)
        kept = {(at[element], name) for element in node.iter(etree.Element) for name in (*element.attrib, "")}
        return {leaf for leaf in leaves(whole) if leaf in kept and leaf != ((), "") and leaf[0]} | {
            leaf for leaf in leaves(whole) if not leaf[0] and leaf in kept
        }


def paths(node: etree._Element, at: tuple[int, ...] = ()) -> Iterator[tuple[etree._Element, tuple[int, ...]]]:
    yield node, at
    for number, child in enumerate(node):
        yield from paths(child, (*at, number))


def unordered(node: etree._Element) -> object:
    """Its meaning, whatever the order of controllers and inputs."""
    node = document(etree.tostring(node, encoding="unicode"))
    if (devices := node.find("devices")) is not None:
        devices[:] = sorted(
            devices, key=lambda each: etree.tostring(each) if each.tag in ("controller", "input") else b""
        )
    return meaning(node)


def said(part: etree._Element, whole: etree._Element, at: tuple[int, ...] = ()) -> Iterator[Leaf]:
    """The leaves of a document that a part of it says."""
    yield from ((at, str(name)) for name, value in part.attrib.items() if whole.get(name) == value)
    if (part.text or "").strip() or not (len(part) or part.attrib):
        yield at, ""
    for wants, seens in groups(part, whole):
        for child, found in zip(wants, _paired(wants, seens), strict=True):
            if found is not None:
                yield from said(child, found, (*at, whole.index(found)))


def count(trial: Trial, folders: list[Path]) -> dict[str, Counted]:
    found: dict[str, Counted] = {}
    for group, name, text in documents(folders):
        counted = found.setdefault(group, Counted())
        kind = group if group in KINDS else "domain"
        try:
            taken = trial.taken(kind, text)
        except libvirt.libvirtError as error:
            counted.refused.append(f"{name}: {error}")
            trial.revive()
            continue
        whole, spec = taken
        add(counted, name, whole, spec, remembered(trial, kind, trial.connection.getLibVersion(), whole))
    return found


def remembered(trial: Trial, kind: str, version: int, whole: etree._Element) -> set[Leaf]:
    text = etree.tostring(whole)
    path = CACHE / f"{version}-{hashlib.sha256(text).hexdigest()}.json"
    if path.exists():
        return {(tuple(at), name) for at, name in json.loads(path.read_text())}
    essential = trial.essential(kind, whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sorted(essential)))
    return essential


def add(counted: Counted, name: str, whole: etree._Element, spec: object, essential: set[Leaf]) -> None:
    counted.objects += 1
    rest = spec.rest  # type: ignore[attr-defined]
    if rest is None:
        counted.bare.append(name)
    fields = set(said(patch(etree.Element(whole.tag), spec, Paths()), whole))
    left = (set(said(rest, whole)) if rest is not None else set()) - fields
    # its name is the manifest's
    essential = {leaf for leaf in essential if place(whole, leaf) not in ("name", "@name", "")}
    counted.typed += len(essential - left)
    names = [place(whole, leaf) for leaf in essential & left]
    counted.left.update(names)
    counted.documents.update(set(names))
    for each in set(names):
        counted.where.setdefault(each, []).append(name)


class Paths:
    """Volumes by their paths: of what was defined here, all are files."""

    def volume_source(self, ref: object) -> object:
        raise LookupError(ref)

    def volume_at(self, path: str) -> None:
        return None

    def original(self, path: str, format_: str = "") -> tuple[str, str]:
        return path, format_

    def path_of(self, pool: str, name: str) -> None:
        return None


def report(found: dict[str, Counted], names: bool) -> Iterator[str]:
    for group, counted in found.items():
        yield f"{group}: {counted.objects} objects ({len(counted.refused)} documents refused by the host)"
        yield from (f"    {each}" for each in counted.refused if names)
        yield f"  leaves that libvirt does not bring back: {counted.typed + counted.left.total()}"
        yield f"  typed: {counted.share():.1f}%"
        yield f"  without any remainder: {len(counted.bare)} of {counted.objects}"
    left, documents_ = Counter[str](), Counter[str]()
    for counted in found.values():
        left += counted.left
        documents_ += counted.documents
    yield "\nleft in remainders (documents, leaves, where):"
    for where, number in documents_.most_common():
        some = [name for counted in found.values() for name in counted.where.get(where, ())][:3]
        yield f"{number:5}{left[where]:6}  {where}{f'   {some}' if names else ''}"


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--names"]
    folders = [Path(word) for word in words] or [HERE.parent / "corpus" / "domain"]
    try:
        print("\n".join(report(count(Trial(), folders), "--names" in sys.argv)))
    finally:
        stop(NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main())
