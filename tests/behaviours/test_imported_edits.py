"""Every field of what was imported can be edited, taken out and put in again: it owns its place in the XML, together
with what depends on it there, whatever the remainder says beside it."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, Run, as_yaml, from_yaml, kvmstate
from lxml import etree

pytestmark = pytest.mark.real

DISK = "<disk type='file' device='{}'><driver name='qemu' type='raw'/>{}<target dev='{}' bus='{}'/>{}</disk>"
MACHINE = """
<domain type='qemu'>
  <name>rich</name>
  <title>old</title>
  <memory unit='MiB'>256</memory>
  <currentMemory unit='MiB'>192</currentMemory>
  <vcpu current='2'>4</vcpu>
  {vcpus}
  <cputune><vcpupin vcpu='3' cpuset='0'/></cputune>
  <os><type arch='x86_64' machine='pc'>hvm</type>{kernel}<boot dev='hd'/><boot dev='cdrom'/></os>
  <features><acpi/><apic/></features>
  {numa}
  <clock offset='localtime'/>
  <devices>
    {disks}
    <interface type='network'><mac address='52:54:00:33:c1:9b'/><source network='lan'/>{vlan}
      <model type='virtio'/><mtu size='1400'/></interface>
    <interface type='network'><mac address='52:54:00:33:c1:9c'/><source network='lan'/><model type='e1000'/>
      {bandwidth}</interface>
    <graphics type='vnc' listen='0.0.0.0' port='5910' keymap='de'/>
    <serial type='pty'><target port='0'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <rng model='virtio'><rate bytes='1000'/><backend model='random'>/dev/urandom</backend></rng>
    <input type='tablet' bus='usb'/>
    <watchdog model='i6300esb' action='reset'/>
    <video><model type='cirrus'/></video>
  </devices>
</domain>
"""
IOTUNE = "<iotune><total_bytes_sec>1048576</total_bytes_sec></iotune>"
SECOND = DISK.format(
    "disk", "<source file='/var/lib/libvirt/two.img'/>", "vda", "virtio", f"<serial>S1</serial>{IOTUNE}"
)
IDE = DISK.format("disk", "<source file='/var/lib/libvirt/one.img'/>", "hda", "ide", "") + DISK.format(
    "cdrom", "", "hdc", "ide", "<readonly/>"
)
VCPUS = "".join(
    f"<vcpu id='{n}' enabled='{'yes' if n < 2 else 'no'}' hotpluggable='{'yes' if n else 'no'}'/>" for n in range(4)
)
NUMA = """<cpu mode='custom'><model>qemu64</model><numa><cell id='0' cpus='0-1' memory='128' unit='MiB'/>
  <cell id='1' cpus='2-3' memory='128' unit='MiB'/></numa></cpu>"""
PLAIN = {
    "disks": IDE + SECOND,
    "vcpus": "",
    "numa": "",
    "kernel": "",
    "vlan": "<vlan><tag id='42'/></vlan>",
    "bandwidth": "<bandwidth><inbound average='1000'/></bandwidth>",
}
NETWORK = """
<network>
  <name>rich</name>
  <forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>
  <bridge name='kvmrich0' stp='on' delay='3' macTableManager='libvirt'/>
  <mtu size='1400'/>
  <domain name='rich.test' localOnly='yes'/>
  <dns forwardPlainNames='no'><txt name='t' value='v'/><host ip='192.168.95.7'><hostname>a</hostname></host></dns>
  <ip address='192.168.95.1' netmask='255.255.255.0' localPtr='yes'>
    <dhcp><range start='192.168.95.10' end='192.168.95.20'><lease expiry='1' unit='hours'/></range>
      <host mac='52:54:00:0E:00:05' name='five' ip='192.168.95.5'/><bootp file='pxelinux.0'/></dhcp>
  </ip>
  <route address='10.9.0.0' prefix='16' gateway='192.168.95.2'/>
</network>
"""


EARLIER = (Path(__file__).parent / "earlier_import.yaml").read_text()
PLAIN_EARLIER = re.sub(r"(?s) *<numa>.*</numa>\n", "", EARLIER).replace('"allow"', '"forbid"')


class Imported:
    """One object, imported into a folder of its own, and its manifest to edit."""

    def __init__(self, project: Project, connection: libvirt.virConnect, kind: str, earlier: str = "") -> None:
        """With an `earlier` spec, as it was imported when there were fewer fields."""
        self._uri, self._connection, self.kind = project.uri, connection, kind
        self.folder = project.folder.parent / "taken"
        way = ("-c", self._uri, "-o", str(self.folder), *(["--no-adopt"] if earlier else []))
        assert (taken := kvmstate("import", f"{kind}/rich", *way)).code == 0, taken
        self.file = next(path for path in self.folder.rglob("rich.yaml"))
        self.document: dict[str, Any] = from_yaml(self.file.read_text())
        if earlier:
            found = etree.fromstring(connection.lookupByName("rich").XMLDesc())
            here = earlier.replace("UUID", found.findtext("uuid")).replace(
                "MACHINE", found.find("os/type").get("machine")
            )
            self.document["spec"] = from_yaml(here)
            self.write(self.spec)
            assert (taken := kvmstate("adopt", str(self.folder), "--auto-approve")).code == 0, taken
        assert (planned := self.run("plan")).code == 0, planned

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = copy.deepcopy(self.document["spec"])
        return spec

    def run(self, command: str) -> Run:
        extra = ["--auto-approve"] if command == "apply" else ["--detailed-exitcode"]
        return kvmstate(command, str(self.folder), *extra)

    def write(self, spec: dict[str, Any]) -> None:
        self.file.write_text(as_yaml({**self.document, "spec": spec}))

    def converge(self, spec: dict[str, Any], edited: str = "") -> str:
        """With an `edited` field, another one that does not go with it may be told: it is taken out then."""
        self.write(spec)
        applied = self.run("apply")
        if applied.code and edited:
            self.write(self._agreeing(spec, edited, applied.err))
            applied = self.run("apply")
        assert applied.code == 0, applied
        planned = self.run("plan")
        assert planned.code == 0, f"{applied}\n{planned}"
        return planned.out

    def _agreeing(self, spec: dict[str, Any], edited: str, told: str) -> dict[str, Any]:
        """`spec` without what does not go with its edit: all of that is told, at its line, and the edited line beside
        it."""
        lines = self.file.read_text().splitlines()
        found = re.findall(rf"{self.file.name}:(\d+):\d+: spec\.(\S+): .*\n +hint: .*{self.file.name}:(\d+):\d+", told)
        assert found, told
        spec = copy.deepcopy(spec)
        for line, place, beside in sorted(found, key=lambda each: each[1], reverse=True):
            steps = re.findall(r"[^.\[\]]+", place)
            assert edited.split(".")[0] == steps[0] or edited.split(".")[-1] in lines[int(beside) - 1] or "cpus" in told
            assert steps[-2 if steps[-1].isdigit() else -1] in lines[int(line) - 1] or steps[-1] in lines[int(line) - 2]
            # an item goes as a whole
            while len(steps) > 1 and not steps[-1].isdigit():
                steps.pop()
            holder, last = at(spec, ".".join(steps))
            del holder[last]
        return spec

    def pieces(self) -> Counter[str]:
        """Each part of its configuration, without the names that devices have been given."""
        if self.kind == "domain":
            text = self._connection.lookupByName("rich").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        else:
            text = self._connection.networkLookupByName("rich").XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
        root = etree.fromstring(text, etree.XMLParser(remove_blank_text=True))
        for each in root.xpath("metadata | devices/*/alias | .//nothing"):
            each.getparent().remove(each)
        parts = [*(each for each in root if each.tag != "devices"), *root.iterfind("devices/*")]
        return Counter(etree.tostring(each, method="c14n").decode() for each in parts)


def tags(pieces: Counter[str]) -> set[str]:
    return {re.findall(r"<([\w:]+)", text)[0] for text in pieces}


def at(spec: dict[str, Any], path: str) -> tuple[Any, Any]:
    """The mapping or list that has the last step of a path, and that step."""
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        spec = spec[step]
    return spec, last


GONE = object()
REQUIRED = ("memory", "cpu.model", "forward.mode", "domain.name")
# what is edited (disks: hda, hdc, vda), its new value, and which elements that may touch
FIELDS: list[tuple[str, Any, str]] = [
    ("title", "new", "title"),
    ("clock", "utc", "clock"),
    ("cpus", 3, "vcpu"),
    ("maxCpus", 6, "vcpu cputune"),
    ("maxCpus", 3, "vcpu cputune"),
    ("memory", "128MiB", "currentMemory"),
    ("maxMemory", "512MiB", "memory"),
    ("cpu", {"mode": "custom", "model": "Nehalem"}, "cpu"),
    (
        "disks.0",
        {"name": "hda", "file": "/var/lib/libvirt/one.img", "format": "raw", "bus": "sata", "target": "sda"},
        "disk controller",
    ),
    ("disks.0.bootOrder", 1, "disk os"),
    ("disks.1.file", "/var/lib/libvirt/medium.iso", "disk"),
    ("disks.2.target", "vdc", "disk"),
    ("disks.2.serial", "S2", "disk"),
    ("disks.2.cache", "none", "disk"),
    ("disks.2", GONE, "disk"),
    ("disks", [], "disk"),
    ("interfaces.0.mac", "52:54:00:33:c1:01", "interface"),
    ("interfaces.1.mac", "52:54:00:33:c1:02", "interface"),
    ("interfaces.0.mtu", 1300, "interface"),
    ("interfaces.1.model", "virtio", "interface"),
    ("interfaces.1.bootOrder", 1, "interface os"),
    ("interfaces.0", GONE, "interface"),
    ("interfaces", [], "interface"),
    ("graphics.0.listen", "127.0.0.2", "graphics"),
    ("graphics.0.port", 5911, "graphics"),
    ("graphics", [], "graphics"),
    ("serials", [], "serial console"),
    ("rng.source", "/dev/random", "rng"),
    ("rng", {}, "rng"),
    ("guestAgent", False, "channel"),
]


@pytest.mark.parametrize(("path", "value", "touched"), FIELDS, ids=[f"{p}-{n}" for n, (p, *_) in enumerate(FIELDS)])
def test_of_a_machine(path: str, value: Any, touched: str, project: Project, connection: libvirt.virConnect) -> None:
    _edited(MACHINE.format(**PLAIN), "domain", path, value, touched, project, connection)


KERNEL = "<kernel>/boot/vmlinuz</kernel><initrd>/boot/initrd</initrd><cmdline>quiet</cmdline><dtb>/boot/dtb</dtb>"


@pytest.mark.parametrize(
    ("path", "value", "touched", "parts"),
    [
        ("kernel.cmdline", "single", "os", {"kernel": KERNEL}),
        ("kernel.initrd", "/boot/other", "os", {"kernel": KERNEL}),
        ("kernel", {"path": "/boot/other"}, "os", {"kernel": KERNEL}),
        ("firmware", "efi", "os features", {}),
        ("cpu", {"mode": "custom", "model": "Nehalem"}, "cpu", {"numa": NUMA}),
        ("cpu.model", "Nehalem", "cpu", {"numa": NUMA}),
    ],
)
def test_of_a_machine_with_more(
    path: str, value: Any, touched: str, parts: dict[str, str], project: Project, connection: libvirt.virConnect
) -> None:
    _edited(MACHINE.format(**{**PLAIN, **parts}), "domain", path, value, touched, project, connection)


@pytest.mark.parametrize(
    ("path", "value", "touched"),
    [
        ("maxCpus", 6, "vcpu cputune"),
        ("maxCpus", 3, "vcpu cputune"),
        ("cpu", {"mode": "custom", "model": "Nehalem"}, "cpu"),
        (
            "disks.0",
            {"name": "hda", "file": "/var/lib/libvirt/one.img", "format": "raw", "bus": "sata", "target": "sda"},
            "disk controller",
        ),
        ("disks.0.bootOrder", 1, "disk os"),
        ("disks.2", GONE, "disk"),
        ("interfaces.0.mac", "52:54:00:33:c1:01", "interface"),
        ("graphics", [], "graphics"),
        ("serials", [], "serial console"),
        ("rng", {}, "rng"),
        ("guestAgent", False, "channel"),
    ],
)
def test_of_a_machine_that_was_imported_earlier(
    path: str, value: Any, touched: str, project: Project, connection: libvirt.virConnect
) -> None:
    """What no field said then is in the remainder, and follows the fields."""
    _edited(MACHINE.format(**PLAIN), "domain", path, value, touched, project, connection, earlier=True)


# what was imported before remainders said of which fields they have parts
@pytest.mark.parametrize("path", ["cpu", "disks", "interfaces", "graphics", "serials", "rng", "guestAgent", "title"])
def test_without_a_note_a_field_that_left_settles(path: str, rich: Callable[..., Imported]) -> None:
    taken = rich(EARLIER, numa=NUMA)
    taken.document["spec"]["remainder"] = re.sub(r"<\?kvmstate.*?\?>", "", taken.spec["remainder"])
    taken.converge(taken.spec)
    before, spec = taken.pieces(), taken.spec
    del spec[path]
    taken.converge(spec)
    taken.converge(taken.spec)
    assert taken.pieces() == before


POOL = """<pool type='dir'><name>rich</name><target><path>/var/lib/libvirt/rich</path>
  <permissions><mode>0711</mode><owner>0</owner><group>0</group></permissions></target></pool>"""
IMAGE = """<volume><name>rich.img</name><capacity unit='MiB'>8</capacity><allocation unit='MiB'>1</allocation>
  <target><format type='raw'/><permissions><mode>0640</mode></permissions></target></volume>"""


def test_of_a_pool_and_its_volume(project: Project, connection: libvirt.virConnect) -> None:
    images = connection.storagePoolDefineXML(POOL)
    images.build()
    images.create()
    images.createXML(IMAGE)
    folder = str(project.folder.parent / "taken")
    assert (taken := kvmstate("import", "--all", "-c", project.uri, "-o", folder)).code == 0, taken
    files = {each["kind"]: (path, each) for path in Path(folder).rglob("rich*.yaml")
             for each in [from_yaml(path.read_text())]}  # fmt: skip

    def converge(kind: str, **spec: Any) -> None:
        path, document = files[kind]
        said = {key: value for key, value in {**document["spec"], **spec}.items() if value is not GONE}
        path.write_text(as_yaml({**document, "spec": said}))
        assert (applied := kvmstate("apply", folder, "--auto-approve")).code == 0, applied
        assert (plan := kvmstate("plan", folder, "--detailed-exitcode")).code == 0, f"{applied}\n{plan}"

    for active, autostart in ((False, True), (True, GONE), (GONE, False), (GONE, GONE)):
        converge("StoragePool", active=active, autostart=autostart)
    target = files["StoragePool"][1]["spec"]["target"]
    for mode in ("0755", None, "0711"):
        changed = {"permissions": {**target.get("permissions", {}), "mode": mode}} if mode else {}
        plain = {key: value for key, value in target.items() if key != "permissions"}
        converge("StoragePool", target={**plain, **changed})
    converge("StoragePool")
    for capacity, allocation in (("16MiB", "1MiB"), ("16MiB", GONE), ("32MiB", GONE)):
        converge("Volume", capacity=capacity, allocation=allocation)
    assert images.storageVolLookupByName("rich.img").info()[1] == 32 << 20


@pytest.mark.parametrize(
    ("path", "value", "touched"),
    [
        ("forward", {"mode": "route"}, "forward"),
        ("forward", None, "forward"),
        ("bridge.stp", False, "bridge"),
        ("mtu", 1300, "mtu"),
        ("domain.name", "other.test", "domain"),
        ("domain", None, "domain"),
        ("dns.hosts", [{"ip": "192.168.95.8", "hostnames": ["b"]}], "dns"),
        ("dns", None, "dns"),
        ("ips.0.dhcp.ranges", [{"start": "192.168.95.30", "end": "192.168.95.40"}], "ip"),
        ("ips.0.dhcp.hosts.0.name", "cinq", "ip"),
        ("ips.0.dhcp.hosts", [], "ip"),
        ("ips.0.dhcp", {"ranges": [{"start": "192.168.95.30", "end": "192.168.95.40"}]}, "ip"),
        ("ips", [], "ip"),
    ],
)
def test_of_a_network(path: str, value: Any, touched: str, project: Project, connection: libvirt.virConnect) -> None:
    text = NETWORK
    if path == "ips":
        # nothing that needs an address
        text = re.sub("<route.*/>|<forward.*</forward>", "", text)
    _edited(text, "network", path, value, touched, project, connection)


def _edited(
    text: str,
    kind: str,
    path: str,
    value: Any,
    touched: str,
    project: Project,
    connection: libvirt.virConnect,
    earlier: bool = False,
) -> None:
    _define(connection, text, kind)
    taken = Imported(project, connection, kind, PLAIN_EARLIER if earlier else "")
    before, said = taken.pieces(), at(taken.spec, path)
    written = said[0][said[1]] if isinstance(said[0], list) else said[0].get(said[1], GONE)

    def with_(new: Any) -> dict[str, Any]:
        spec = taken.spec
        holder, last = at(spec, path)
        if new is not GONE:
            holder[last] = new
        elif isinstance(holder, list) or last in holder:
            del holder[last]
        return spec

    # from each of the three to each other, once
    rounds = [each for each in (value, GONE, written, GONE, value, written) if each is not GONE or path not in REQUIRED]
    for new, _ in groupby(rounds):
        taken.converge(with_(new), path)
        now = taken.pieces()
        changed = tags(before - now) | tags(now - before)
        assert changed <= {*touched.split(), "controller"}, (new, before - now, now - before)
        # of several of a kind, the others are as they were
        alone = "." in path and path.split(".")[0] in ("disks", "interfaces")
        assert not alone or len(list((before - now).elements())) <= len(touched.split()) + 1, (
            before - now,
            now - before,
        )
        if new is value and value is not GONE and isinstance(value, str | int) and not isinstance(value, bool):
            assert now != before


def _define(connection: libvirt.virConnect, text: str, kind: str = "domain") -> None:
    if kind == "network":
        connection.networkDefineXML(text)
        return
    connection.networkDefineXML("<network><name>lan</name></network>")
    connection.defineXML(text)


@pytest.fixture
def rich(project: Project, connection: libvirt.virConnect) -> Callable[..., Imported]:
    def define(earlier: str = "", **parts: str) -> Imported:
        _define(connection, MACHINE.format(**{**PLAIN, **parts}))
        return Imported(project, connection, "domain", earlier)

    return define


def test_cpus_that_are_listed_one_by_one(rich: Callable[..., Imported]) -> None:
    taken = rich(vcpus=f"<vcpus>{VCPUS}</vcpus>")
    for cpus, most in ((3, 4), (4, 4), (1, 4), (2, 3), (2, 6), (2, 4)):
        spec = {**taken.spec, "cpus": cpus, "maxCpus": most, "cputune": {}}
        taken.write(spec)
        assert ("individualVcpus" in taken.run("plan").err) is ((cpus, most) != (2, 4))
        spec["individualVcpus"] = [
            {"id": number, "enabled": number < cpus, "hotpluggable": number > 0} for number in range(most)
        ]
        taken.converge(spec)
        listed = next(text for text in taken.pieces() if text.startswith("<vcpus>"))
        assert (listed.count("enabled"), listed.count('enabled="yes"')) == (most, cpus)
    # or none of them
    taken.converge({**taken.spec, "cpus": 3, "individualVcpus": []})
    assert not any(text.startswith("<vcpus>") for text in taken.pieces())


@pytest.mark.parametrize(
    ("edit", "at_key", "beside", "told"),
    [
        ({"maxMemory": "512MiB"}, "cells", "maxMemory", "have 256 MiB together, and maxMemory is 512 MiB"),
        ({"maxMemory": "64MiB", "memory": "64MiB"}, "cells", "maxMemory", "and maxMemory is 64 MiB"),
        ({"maxCpus": 6}, "cells", "maxCpus", "no NUMA node has CPU 4, and maxCpus is 6"),
        ({"maxCpus": 3}, "cpus", "maxCpus", "there is no CPU 3: maxCpus is 3"),
        ({"boot": ["hd"], "bootOf": 1}, "boot", "bootOrder", "boot does not go with bootOrder"),
        ({"machine": "q35"}, "bus", "", "disks[hda].bus is ide, which a q35 machine does not have"),
    ],
)
def test_what_cannot_be_is_an_error(
    edit: dict[str, Any], at_key: str, beside: str, told: str, rich: Callable[..., Imported]
) -> None:
    taken = rich(numa=NUMA)
    before, spec = taken.pieces(), {**taken.spec, **edit}
    if order := spec.pop("bootOf", None):
        spec["disks"][0]["bootOrder"] = order
    taken.write(spec)
    lines = taken.file.read_text().splitlines()
    for command in ("plan", "apply"):
        refused = taken.run(command)
        assert refused.code == 1
        place = re.search(
            rf"{taken.file.name}:(\d+):\d+: spec[^ ]*: [^\n]*{re.escape(told)}.*\n +hint: (.*)", refused.err
        )
        assert place, refused
        # the line that is to be edited, and the one that it does not go with
        assert at_key in " ".join(lines[int(place[1]) - 3 : int(place[1])]), refused
        if beside:
            other = re.search(rf"{beside} is at \S*{taken.file.name}:(\d+):", place[2])
            assert other is not None, refused
            assert beside in lines[int(other[1]) - 1], refused
    assert taken.pieces() == before


def test_fields_and_numa_cells_change_together(rich: Callable[..., Imported]) -> None:
    taken = rich(numa=NUMA)
    spec = {**taken.spec, "maxMemory": "512MiB"}
    for cell in spec["cpu"]["numa"]["cells"]:
        cell["memory"] = "256MiB"
    taken.converge(spec)
    assert any(text.startswith('<memory unit="KiB">524288') for text in taken.pieces())


def test_another_chipset(rich: Callable[..., Imported]) -> None:
    taken = rich(disks=SECOND)
    taken.converge({**taken.spec, "machine": "q35"})
    assert any("pcie-root" in text for text in taken.pieces())
    taken.converge(taken.spec)
    assert not any("pcie-root" in text for text in taken.pieces())
    assert any("<watchdog" in text for text in taken.pieces())


def test_two_interfaces_on_one_network(rich: Callable[..., Imported]) -> None:
    taken = rich()

    def macs() -> list[str]:
        return sorted(re.findall(r'<mac address="([^"]*)"', " ".join(taken.pieces())))

    spec = taken.spec
    spec["interfaces"].append({"network": "lan"})
    taken.converge(spec)
    third = next(mac for mac in macs() if not mac.startswith("52:54:00:33:c1"))
    spec["interfaces"][0]["mac"] = "52:54:00:33:c1:01"
    taken.converge(spec)
    assert macs() == sorted(["52:54:00:33:c1:01", "52:54:00:33:c1:9c", third])
    assert sum("<vlan>" in text for text in taken.pieces()) == 1
    # also without their names
    for each in spec["interfaces"]:
        each.pop("name", None)
    taken.converge(spec)
    spec["interfaces"][1]["mac"] = "52:54:00:33:c1:02"
    taken.converge(spec)
    assert macs() == sorted(["52:54:00:33:c1:01", "52:54:00:33:c1:02", third])
    assert sum("<bandwidth>" in text for text in taken.pieces()) == 1


def test_while_it_runs(rich: Callable[..., Imported], connection: libvirt.virConnect) -> None:
    """What it is told apart by changes with the next start; until then nothing is unplugged."""
    disks = DISK.format("cdrom", "", "hdc", "ide", "<readonly/>")
    taken = rich(disks=disks, vlan="", bandwidth="")
    connection.networkLookupByName("lan").create()
    connection.lookupByName("rich").create()
    before = connection.lookupByName("rich").XMLDesc()
    spec = {**taken.spec, "state": "running"}
    spec["interfaces"][0]["mac"] = "52:54:00:33:c1:01"
    spec["disks"][0] |= {"bus": "sata", "target": "sda"}
    waiting = taken.converge(spec)
    for place in ("interfaces[nic-52540033c19b].mac", "disks[hdc].bus", "disks[hdc].target"):
        assert place in waiting
    assert "1 restart pending" in waiting
    now = connection.lookupByName("rich").XMLDesc()
    for tag in ("interface", "disk"):
        pattern = rf"<{tag} .*?</{tag}>"
        assert re.findall(pattern, now, re.DOTALL) == re.findall(pattern, before, re.DOTALL)


def test_a_machine_that_is_lost_is_as_its_manifest_says(
    rich: Callable[..., Imported], connection: libvirt.virConnect
) -> None:
    taken = rich()
    spec = taken.spec
    for gone in ("guestAgent", "serials", "graphics", "rng"):
        del spec[gone]
    spec["interfaces"][0]["mac"] = "52:54:00:33:c1:01"
    spec["disks"][2]["target"] = "vdc"
    taken.converge(spec)
    before = taken.pieces()
    connection.lookupByName("rich").undefine()
    taken.converge(spec)

    def placeless(pieces: Counter[str]) -> Counter[str]:
        # there are no gaps where devices were that have left
        return Counter(re.sub(r"<address [^>]*type=\"pci\"></address>", "", text) for text in pieces.elements())

    assert tags(placeless(before) - placeless(taken.pieces())) <= {"controller"}


def test_an_earlier_manifest_without_names(project: Project, connection: libvirt.virConnect, tmp_path: Path) -> None:
    _define(connection, MACHINE.format(**PLAIN))
    taken = Imported(project, connection, "domain", PLAIN_EARLIER)
    spec = taken.spec
    spec["remainder"] = re.sub(r"<\?kvmstate.*?\?>", "", spec["remainder"])
    for each in spec["interfaces"]:
        del each["name"]
    before = taken.pieces()
    taken.converge(spec)
    assert taken.pieces() == before
