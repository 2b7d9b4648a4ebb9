"""What libvirt's schema lets machines say and no field does: `python tests/coverage/schema.py [--host] [FOLDER]`.

FOLDER has libvirt's RELAX NG files. Of every attribute, text and empty element that the schema of a domain allows, and
of every value that it lists, a document is made that says little else. The fields read it, and write it again: what is
then missing is printed, by where it is. With --host only what a throw-away host takes and keeps, with KVM's or QEMU's
own type: what Xen, bhyve or VMware have is left out so.
"""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import libvirt
from count import KEEP, Leaf, leaves, said
from lxml import etree

from kvmstate.errors import HostError
from kvmstate.kinds import BY_NAME
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.reference import Unlocated
from kvmstate.plan.takeover import _Takeover
from kvmstate.sandbox import start, stop
from kvmstate.xmlbind import document, parse, patch, to_text

FOLDER = Path("/usr/share/libvirt/schemas")
NAME = "schema"
# what fits a pattern: the first of these
EXAMPLES = """
1 2 4 8 64 512 4096 0x1 0x01 0x0001 0x00000001 0x1234 0.1 0-3 1-1 a abc org.a.0 ab:cd /tmp/a /a //a vda sda hda fda eth0
ua-a iqn.2013-07.com.example:a 52:54:00:00:00:01 10.0.0.0 fe80:: 4dea22b3-1d52-d8f3-2516-782e98ab3fa0 0123456789abcdef
4dea22b31d52d8f32516782e98ab3fa0 0000:00:00.0 fe.0.0000 fe.0.1234 00:00:00.0 http://a/b naa.5000000000000001
5000000000000001 1234567890123456 ffff 80 4000000001 2024-01-01 01/01/2024 x:y a.b a,b label +0:+0 0.0 1.2.3.4
10.0.0.0/8
-1 0 1.0 1-1.2 0xf KiB none vepa ipv4 sync_pt
"""
DATA = {"string": "abc", "dateTime": "2024-01-01T00:00:00Z", "anyURI": "http://a/b", "double": "1.5", "NCName": "a"}
_FILES = (
    *("basictypes", "cputypes", "domaincommon", "storagecommon", "networkcommon", "nwfilter_params", "privatedata"),
)
NS = "{http://relaxng.org/ns/structure/1.0}"


class Schema:
    def __init__(self, folder: Path) -> None:
        self.defines: dict[str, list[etree._Element]] = {}
        for name in _FILES:
            for define in etree.parse(folder / f"{name}.rng").iter(f"{NS}define"):
                self.defines[define.get("name", "")] = self.children(define)

    def children(self, node: etree._Element) -> list[etree._Element]:
        return [each for each in node if isinstance(each.tag, str) and each.tag != f"{NS}name"]

    def values(self, nodes: list[etree._Element]) -> list[str]:
        """What a text may be: each that is listed, or an example; nothing where there is no text."""
        found: list[str] = []
        for node in nodes:
            tag = node.tag.removeprefix(NS)
            if tag == "value":
                found.append(node.text or "")
            elif tag == "data":
                found.append(self.example(node))
            elif tag == "text":
                found.append("abc")
            elif tag == "ref":
                found += self.values(self.defines[node.get("name", "")])
            elif tag in ("choice", "optional", "group", "list", "oneOrMore", "zeroOrMore", "interleave"):
                found += self.values(self.children(node))
        return [*dict.fromkeys(found)]

    def example(self, node: etree._Element) -> str:
        limits = {each.get("name"): each.text or "" for each in node.iter(f"{NS}param")}
        pattern = limits.get("pattern")
        if pattern is None:
            return DATA.get(node.get("type", "")) or str(max(1, int(limits.get("minInclusive", "1"))))
        python = pattern.replace("\\c", "[-.:\\w]").replace("\\i", "[:A-Za-z_]")
        for text in EXAMPLES.split():
            if re.fullmatch(python, text):
                return text
        return "1"

    def minimal(self, nodes: Iterable[etree._Element], stack: tuple[str, ...] = ()) -> list[object]:
        """What has to be there: (name, value) of attributes, texts, and elements."""
        found: list[object] = []
        for node in nodes:
            tag = node.tag.removeprefix(NS)
            if tag == "element":
                if name := name_of(node):
                    found.append(built(name, self.minimal(self.children(node), stack)))
            elif tag == "attribute":
                if name := name_of(node):
                    values = self.values(self.children(node)) or ["abc"]
                    found.append((name, "mount" if "mount" in values else values[0]))
            elif tag in ("value", "data", "text"):
                found += self.values([node])[:1]
            elif tag == "ref":
                name = node.get("name", "")
                if name not in stack:
                    found += self.minimal(self.defines[name], (*stack, name))
            elif tag == "choice":
                found += min((self.minimal([each], stack) for each in self.children(node)), key=weight)
            elif tag in ("group", "interleave", "oneOrMore", "list"):
                found += self.minimal(self.children(node), stack)
        return found

    def samples(self, node: etree._Element, stack: tuple[str, ...] = ()) -> Iterator[tuple[list[object], Leaf]]:
        """Each way to say one thing here: the items, and where among them it is."""
        tag = node.tag.removeprefix(NS)
        if tag == "element":
            if not (name := name_of(node)):
                return
            inner = self.children(node)
            for items, (path, attribute) in self.several(inner, stack):
                yield [built(name, items)], ((0, *path), attribute)
            if not self.minimal(inner):
                yield [built(name, self.minimal(inner, stack))], ((0,), "")
        elif tag == "attribute":
            if name := name_of(node):
                for value in self.values(self.children(node)) or ["abc"]:
                    yield [(name, value)], ((), name)
        elif tag in ("value", "data", "text"):
            for value in self.values([node]):
                yield [value], ((), "")
        elif tag == "ref":
            name = node.get("name", "")
            if name not in stack:
                yield from self.several(self.defines[name], (*stack, name))
        elif tag in ("choice",):
            for each in self.children(node):
                yield from self.samples(each, stack)
        else:
            yield from self.several(self.children(node), stack)

    def several(self, nodes: list[etree._Element], stack: tuple[str, ...]) -> Iterator[tuple[list[object], Leaf]]:
        least = [self.minimal([node], stack) for node in nodes]
        for number, node in enumerate(nodes):
            before = [copied(each) for some in least[:number] for each in some]
            after = [copied(each) for some in least[number + 1 :] for each in some]
            shift = sum(1 for each in before if isinstance(each, etree._Element))
            for items, (path, attribute) in self.samples(node, stack):
                at = (path[0] + shift, *path[1:]) if path else path
                yield [*map(copied, before), *items, *map(copied, after)], (at, attribute)


def name_of(node: etree._Element) -> str:
    """Empty where any name will do."""
    if name := node.get("name"):
        return name
    found = node.find(f"{NS}name")
    return (found.text or "").strip() if found is not None else ""


def weight(items: list[object]) -> int:
    return sum(1 + (len(list(each.iter())) if isinstance(each, etree._Element) else 0) for each in items)


def copied(item: object) -> object:
    return copy.deepcopy(item) if isinstance(item, etree._Element) else item


def built(name: str, items: Iterable[object]) -> etree._Element:
    node = etree.Element(name)
    for item in items:
        if isinstance(item, tuple):
            node.set(*item)
        elif isinstance(item, etree._Element):
            node.append(item)
        else:
            node.text = str(item)
    return node


_TOLD_BY = ("type", "device", "mode", "model", "protocol", "bus", "name")


def place(root: etree._Element, leaf: Leaf) -> str:
    """By the path, and by what says which kind of thing each element on it is."""
    words, node = [], root
    for number in leaf[0]:
        node = node[number]
        told = [
            f"{key}={node.get(key)}" for key in _TOLD_BY if key in node.attrib and len(words) >= 1 and key != leaf[1]
        ]
        words.append(f"{node.tag}{f'[{chr(44).join(told)}]' if told else ''}")
    return "/".join([*words, f"@{leaf[1]}"] if leaf[1] else words)


def general(where: str) -> str:
    return re.sub(r"\[.*?\]", "", where)


UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
CELL = "<numa><cell id='0' cpus='0-3' memory='1048576'/></numa>"
# what goes with an element, where it does not say so itself: (path, where, what), added in this order
_WITH = [
    (".", "name", "<name>schema</name>"),
    (".", "memory", "<memory>1048576</memory>"),
    (".", "currentMemory", "<currentMemory>1048576</currentMemory>"),
    (".", "vcpu", "<vcpu>4</vcpu>"),
    (".", "iothreads", "<iothreads>2</iothreads>"),
    (".", "os", "<os/>"),
    ("os", "type", "<type>hvm</type>"),
    ("os/nvram", "../loader", "<loader readonly='yes' type='pflash'>/tmp/a</loader>"),
    (".", "features", "<features/>"),
    ("features", "acpi", "<acpi/>"),
    (".", "devices", "<devices/>"),
    ("cpu[feature]", "model", "<model>qemu64</model>"),
    ("cpu[vendor]", "model", "<model>qemu64</model>"),
    ("devices/memory/..", "maxMemory", "<maxMemory slots='4'>4194304</maxMemory>"),
    ("devices/disk[@device='floppy']", "target", "<target dev='fda' bus='fdc'/>"),
    ("devices/disk[@device='cdrom']", "target", "<target dev='sda' bus='sata'/>"),
    ("devices/disk[@device='lun']", "target", "<target dev='sda' bus='scsi'/>"),
    ("devices/disk", "target", "<target dev='vda' bus='virtio'/>"),
    ("devices/disk[@type='file' or not(@type)]", "source", "<source file='/tmp/a'/>"),
    ("devices/disk[@type='block']", "source", "<source dev='/tmp/a'/>"),
    ("devices/disk[@type='network']", "source", "<source protocol='nbd' name='abc'><host name='a'/></source>"),
    ("devices/disk[@type='volume']", "source", "<source pool='a' volume='b'/>"),
    ("devices//encryption[contains(@format, 'luks')]", "secret", f"<secret type='passphrase' uuid='{UUID}'/>"),
    (".[devices/disk[@type='vhostuser']]|.[devices/filesystem/driver]", "memoryBacking", SHARED),
    (".[numatune/memnode]|.[devices/memory]", "cpu", "<cpu/>"),
    (".[numatune/memnode]/cpu|.[devices/memory]/cpu", "numa", CELL),
    ("devices/interface[@type='bridge']", "source", "<source bridge='br0'/>"),
    ("devices/interface[@type='network']", "source", "<source network='default'/>"),
    ("devices/interface[@type='direct']", "source", "<source dev='eth0'/>"),
    ("devices/interface[@type='vhostuser']", "source", "<source type='unix' path='/tmp/a' mode='client'/>"),
    ("devices/interface[driver]|devices/interface[@type='vhostuser']", "model", "<model type='virtio'/>"),
    ("devices/shmem", "model", "<model type='ivshmem-plain'/>"),
    ("devices/shmem[msi]", "server", "<server path='/tmp/a'/>"),
    ("devices/memory", "target", "<target><size>131072</size></target>"),
]  # fmt: skip
_ATTRIBUTES = {
    "devices//address[@type='pci']": {"slot": "0x10", "bus": "0", "function": "0"},
    "devices//bandwidth/inbound|devices//bandwidth/outbound": {"average": "8"},
    "devices//encryption[@format='luks']": {"engine": "qemu"},
    "devices//reservations": {"managed": "yes"},
    "devices/tpm/backend[@type='emulator']": {"version": "2.0"},
    "cputune//*[starts-with(@scheduler, 'r') or starts-with(@scheduler, 'f')]": {"priority": "1"},
    "numatune/memory": {"nodeset": "0"},
    "devices//virtualport": {"type": "openvswitch"},
    "devices//virtualport[@type='802.1Qbg']/parameters": {"managerid": "1", "typeid": "1", "typeidversion": "1"},
    "devices//source[../@type='unix' and not(self::*/../self::interface)]": {"path": "/tmp/a", "mode": "bind"},
    "devices//source[../@type='spiceport']|devices//source[../@type='dbus']": {"channel": "org.a.0"},
    "devices//source[../@type='tcp']": {"host": "10.0.0.1", "service": "8", "mode": "bind"},
    "devices//source[../@type='udp']": {"host": "10.0.0.1", "service": "8"},
    "devices//source[../@type='nmdm']": {"master": "/tmp/a", "slave": "/tmp/b"},
    "devices//target[@type='guestfwd']": {"address": "10.0.0.1", "port": "8"},
}
_CHARACTER = ("dev", "file", "pipe", "unix", "spiceport", "dbus", "tcp", "udp", "nmdm")
_ENDS = ("serial", "console", "parallel", "channel", "redirdev", "smartcard")
_NAMED = ("rbd", "iscsi", "gluster", "vxhs", "sheepdog", "nbd", "http", "https", "ftp", "ftps", "tftp", "nfs", "ssh")


def completed(root: etree._Element) -> etree._Element:
    """With what has to go with that."""
    root.set("type", "qemu") if root.get("type") not in ("kvm", "qemu") else None
    for path, missing, text in _WITH:
        for node in found_by(root, path):
            if node.find(missing) is None:
                (node.getparent() if missing.startswith("..") else node).append(etree.fromstring(text))
    for node in root.iterfind("devices/*"):
        if node.tag in _ENDS and node.get("type") in _CHARACTER and node.find("source") is None:
            source = etree.SubElement(node, "source")
            if node.get("type") in ("dev", "file", "pipe"):
                source.set("path", "/tmp/a")
    for path, attributes in _ATTRIBUTES.items():
        for node in found_by(root, path):
            for name, value in attributes.items():
                if name not in node.attrib:
                    node.set(name, value)
    for node in root.iter("source"):
        if node.get("protocol") in _NAMED:
            if node.get("name") in (None, "abc"):
                node.set("name", "abc/1")
            if node.find("host") is None:
                etree.SubElement(node, "host").set("name", "example.org")
    for node in root.iterfind("cputune/*"):
        if node.text == "1" and node.tag.endswith(("period", "quota")):
            node.text = "10000"
    loader = root.find("os/loader")
    if loader is not None and not loader.text:
        loader.text = "/tmp/a"
    return root


def found_by(root: etree._Element, path: str) -> list[etree._Element]:
    return list(root.xpath(path.replace(".[", "self::*[")))


def machines(schema: Schema) -> Iterator[tuple[str, str, etree._Element, Leaf]]:
    """Each with the place and the value of what it says, once."""
    known: set[tuple[str, str]] = set()
    [domain] = schema.defines["domain"]
    for items, leaf in schema.samples(domain, ("domain",)):
        root = items[0]
        assert isinstance(root, etree._Element)
        leaf = (leaf[0][1:], leaf[1])
        where = place(root, leaf)
        value = value_of(root, leaf)
        if (where, value) not in known:
            known.add((where, value))
            yield where, value, completed(root), leaf


def value_of(root: etree._Element, leaf: Leaf) -> str:
    node = root
    for number in leaf[0]:
        node = node[number]
    return str(node.get(leaf[1], "")) if leaf[1] else node.text or ""


KIND = BY_NAME["VirtualMachine"]


def typed(root: etree._Element, leaf: Leaf) -> bool:
    """Whether a field says it."""
    seen = parse(VirtualMachineSpec, root, Unlocated())
    taken = _Takeover.__new__(_Takeover)
    taken.kind, taken.__dict__["whole"] = KIND, to_text(root)
    spec = taken._valid(seen.model_dump(exclude_unset=True, exclude={"remainder"}, warnings=False))
    written = patch(etree.Element("domain"), spec, Unlocated())
    return leaf in set(said(written, root))


class Host:
    """A throw-away host, and what it makes of documents."""

    def __init__(self) -> None:
        # another Debian, whose libvirt is asked (script/tree)
        tree = os.environ.get("KVMSTATE_TEST_TREE")
        self.sandbox = start(NAME, Path(tree) if tree else None)
        self.connection = libvirt.open(self.sandbox.uri)

    def keeps(self, root: etree._Element) -> etree._Element | None:
        """The document as libvirt keeps it, with the first machine type that it takes; None where it refuses it."""
        for machine in ("", "q35"):
            if machine:
                root.find("os/type").set("machine", machine)
            try:
                made = self.connection.defineXMLFlags(etree.tostring(root, encoding="unicode"), 0)
                break
            except libvirt.libvirtError:
                if not self.connection.isAlive():
                    stop(NAME)
                    self.__init__()  # type: ignore[misc]
        else:
            return None
        try:
            return document(made.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        finally:
            made.undefineFlags(KEEP)


def same_place(root: etree._Element, where: str, value: str) -> Leaf | None:
    """The leaf of a document that is there and says this; or, where libvirt writes values its own way, is there."""
    there = [leaf for leaf in leaves(root) if place(root, leaf) == where]
    alike = [leaf for leaf in there if value_of(root, leaf) == value]
    return (alike or there or [None])[-1]


def untyped(found: Iterable[tuple[str, str, etree._Element, Leaf]], host: Host | None) -> Iterator[tuple[str, str]]:
    """The places and values that no field says; with a host, of those that it keeps."""
    for where, value, root, at in found:
        leaf: Leaf | None = at
        if host is not None:
            if (kept := host.keeps(root)) is None:
                continue
            root, leaf = kept, same_place(kept, where, value)
        try:
            if leaf is not None and not typed(root, leaf):
                yield where, value
        except (HostError, ValueError) as error:
            yield where, f"{value} ({error})"


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--host"]
    schema, host = Schema(Path(words[0]) if words else FOLDER), Host() if "--host" in sys.argv else None
    values: dict[str, list[str]] = {}
    try:
        for where, value in untyped(machines(schema), host):
            values.setdefault(where, []).append(value)
    finally:
        if host is not None:
            stop(NAME)
    for where, several in sorted(values.items()):
        print(f"{where}  {', '.join(several[:12])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
