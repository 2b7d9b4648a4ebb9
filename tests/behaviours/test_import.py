"""import takes over what exists: the next plan is empty, and what is lost is rebuilt as it was, to the last address."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from harness import Guest, Project, Run, from_yaml, kvmstate, resource
from lxml import etree

from kvmstate.host import open_host
from kvmstate.kinds import BY_WORD
from kvmstate.model.resource import ResourceId
from kvmstate.plan.planner import observe
from kvmstate.plan.takeover import Takeovers

CORPUS = Path(__file__).parents[1] / "corpus"
REFUSED = yaml.safe_load((CORPUS / "refused.yaml").read_text())
FLAGS = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM

pytestmark = pytest.mark.real


class Objects:
    """One kind of libvirt's objects: to define from XML, to look at, to undefine."""

    def __init__(self, connection: libvirt.virConnect, kind: str) -> None:
        self.kind = kind
        self.define: Callable[[str], Any] = {
            "domain": lambda text: connection.defineXMLFlags(text, 0),
            "network": connection.networkDefineXML,
            "nwfilter": connection.nwfilterDefineXML,
            "pool": lambda text: connection.storagePoolDefineXML(text, 0),
            "volume": lambda text: self.pool().createXML(text, 0),
        }[kind]
        self.find: Callable[[str], Any] = {
            "domain": connection.lookupByName,
            "network": connection.networkLookupByName,
            "nwfilter": connection.nwfilterLookupByName,
            "pool": connection.storagePoolLookupByName,
            "volume": lambda name: self.pool().storageVolLookupByName(name),
        }[kind]
        self.pool = lambda: connection.storagePoolLookupByName("corpus")

    def shown(self, name: str) -> str:
        """Canonical XML of the inactive configuration, without what changes on its own."""
        found = self.find(name)
        inactive = {"domain": libvirt.VIR_DOMAIN_XML_INACTIVE, "network": 1, "pool": 1}.get(self.kind, 0)
        node = etree.fromstring(found.XMLDesc(inactive), etree.XMLParser(remove_blank_text=True))
        volatile = {
            "pool": "capacity | allocation | available",
            "volume": "key | allocation | physical | .//timestamps",
        }
        for each in node.xpath(volatile.get(self.kind, "nothing")):
            each.getparent().remove(each)
        # whose it is
        for each in node.xpath("metadata[*[local-name() = 'resource']]"):
            each.remove(each.find("{*}resource"))
            if not len(each):
                node.remove(each)
        if (devices := node.find("devices")) is not None:
            # which libvirt orders by when it has read or added them: where each is, it says itself
            free = ("controller", "input")
            devices[:] = sorted(devices, key=lambda each: etree.tostring(each) if each.tag in free else b"")
        etree.indent(node)
        return etree.tostring(node, method="c14n").decode()

    def remove(self, name: str) -> None:
        found = self.find(name)
        if self.kind == "domain":
            found.undefineFlags(FLAGS)
        elif self.kind == "volume":
            found.delete(0)
        else:
            found.undefine()


class Takeover:
    """The host of `project`, imported into a folder of its own."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.uri, self.folder = project.host.uri, folder

    def take(self, *options: str) -> Run:
        return kvmstate("import", "-c", self.uri, "-o", str(self.folder), *options)

    def plan(self) -> Run:
        return kvmstate("plan", str(self.folder), "--detailed-exitcode")

    def apply(self) -> Run:
        return kvmstate("apply", str(self.folder), "--auto-approve")

    def recreate(self, *addresses: str) -> Run:
        return kvmstate("recreate", *addresses, str(self.folder), "--auto-approve")

    def manifest(self, name: str) -> dict[str, Any]:
        """The document in a file, such as machines/web."""
        document: dict[str, Any] = from_yaml((self.folder / f"{name}.yaml").read_text())
        return document

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / f"{name}.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def taken(project: Project, tmp_path: Path) -> Takeover:
    return Takeover(project, tmp_path / "taken")


@pytest.fixture
def corpus_pool(connection: libvirt.virConnect, project: Project) -> Iterator[None]:
    folder = "/var/lib/libvirt/corpus"
    made = connection.storagePoolDefineXML(
        f"<pool type='dir'><name>corpus</name><target><path>{folder}</path></target></pool>", 0
    )
    made.build(0)
    made.create(0)
    yield
    for volume in made.listAllVolumes(0):
        volume.delete(0)


@pytest.mark.parametrize("kind", ["network", "nwfilter", "pool", "volume", "domain"])
def test_what_was_imported_is_rebuilt_as_it_was(
    kind: str, taken: Takeover, connection: libvirt.virConnect, corpus_pool: None
) -> None:
    objects = Objects(connection, kind)
    refused, made = [], []
    for path in sorted((CORPUS / kind).glob("*.xml")):
        try:
            made.append(objects.define(path.read_text()).name())
        except libvirt.libvirtError:
            refused.append(f"{kind}/{path.name}")
    version = connection.getLibVersion() // 1_000_000
    assert refused == [name for name in REFUSED[version] if name.startswith(f"{kind}/")]
    before = {name: objects.shown(name) for name in made}

    assert (imported := taken.take("--all")).code == 0, imported
    # what fields say is nowhere said twice
    assert [path for path in taken.folder.rglob("*.yaml") if "<currentMemory" in path.read_text()] == []
    assert (plan := taken.plan()).code == 0, plan
    for name in made:
        objects.remove(name)
    if kind == "volume":
        assert (again := taken.recreate("volume/*")).code == 0, again
    assert (applied := taken.apply()).code == 0, applied
    after = {name: objects.shown(name) for name in made}
    assert {name: (before[name], after[name]) for name in made if before[name] != after[name]} == {}
    assert (plan := taken.plan()).code == 0, plan


def test_a_disk_that_names_its_volume_is_rebuilt_so(
    taken: Takeover, connection: libvirt.virConnect, corpus_pool: None
) -> None:
    """Also where libvirt has the pool, and could say the path; and with another volume it goes on to name that."""
    objects, pool = Objects(connection, "domain"), connection.storagePoolLookupByName("corpus")
    for name in ("one.qcow2", "two.qcow2", "seed.iso"):
        format_ = "qcow2" if name.endswith("qcow2") else "raw"
        capacity = f"<capacity unit='MiB'>1</capacity><target><format type='{format_}'/></target>"
        pool.createXML(f"<volume><name>{name}</name>{capacity}</volume>", 0)
    disk = (
        "<disk type='volume' device='{device}'><driver name='qemu' type='{format}'/>"
        "<source pool='corpus' volume='{volume}'/><target dev='{target}' bus='{bus}'/></disk>"
    )
    named = disk.format(device="disk", format="qcow2", volume="one.qcow2", target="vda", bus="virtio")
    drive = disk.format(device="cdrom", format="raw", volume="seed.iso", target="sda", bus="sata")
    small(connection, devices=named + drive, more="")
    before = objects.shown("small")
    assert before.count('type="volume"') == 2

    assert (imported := taken.take("--all")).code == 0, imported
    said = taken.manifest("machines/small")["spec"]
    assert [(d["volumeByName"], d["volume"]["name"]) for d in said["disks"]] == [
        (True, "one.qcow2"),
        (True, "seed.iso"),
    ]
    assert "remainder" not in said
    assert (planned := taken.plan()).code == 0, planned
    objects.remove("small")
    assert (applied := taken.apply()).code == 0, applied
    assert objects.shown("small") == before
    assert (planned := taken.plan()).code == 0, planned

    machine = connection.lookupByName("small")
    machine.create()
    machine.destroy()
    taken.edit("machines/small", "name: one.qcow2", "name: two.qcow2")
    assert (applied := taken.apply()).code == 0, applied
    assert objects.shown("small") == before.replace("one.qcow2", "two.qcow2")
    # of both disks
    taken.edit("machines/small", "volumeByName: true", "volumeByName: false")
    assert (applied := taken.apply()).code == 0, applied
    shown = objects.shown("small")
    assert 'type="volume"' not in shown
    assert "/var/lib/libvirt/corpus/two.qcow2" in shown
    assert (planned := taken.plan()).code == 0, planned


def test_libvirts_own_filters_are_all_fields(taken: Takeover, connection: libvirt.virConnect) -> None:
    """Of each a copy, as nobody imports or rebuilds what comes with libvirt."""
    filters = Objects(connection, "nwfilter")
    for given in connection.listAllNWFilters():
        text = re.sub("<uuid>.*</uuid>", "", given.XMLDesc())
        filters.define(text.replace(f"name='{given.name()}'", f"name='my-{given.name()}'", 1))
    mine = [each.name() for each in connection.listAllNWFilters() if each.name().startswith("my-")]
    assert len(mine) >= 24
    before = {name: filters.shown(name) for name in mine}
    assert (imported := taken.take("--all")).code == 0, imported
    assert taken.plan().code == 0
    for name in mine:
        assert "remainder" not in taken.manifest(f"filters/{name}")["spec"]
        filters.remove(name)
    assert (applied := taken.apply()).code == 0, applied
    assert {name: filters.shown(name) for name in mine} == before
    assert taken.plan().code == 0


def twin(text: str) -> str:
    """The same machine once more: all that tells it from others is another."""
    node = etree.fromstring(text)
    name = node.find("name")
    name.text = f"{name.text}-twin"
    for uuid in node.findall("uuid"):
        node.remove(uuid)
    for mac in node.iterfind(".//mac"):
        mac.getparent().remove(mac)
    for source in node.iterfind("devices/disk/source[@file]"):
        source.set("file", f"{source.get('file')}-twin")
    return etree.tostring(node, encoding="unicode")


def test_each_of_many_is_imported_as_if_it_were_alone(project: Project, connection: libvirt.virConnect) -> None:
    # all take half a minute; each run has others
    some = random.sample(sorted((CORPUS / "domain").glob("*.xml")), 60)
    for path in some:
        for text in (path.read_text(), twin(path.read_text())):
            with suppress(libvirt.libvirtError):
                connection.defineXMLFlags(text, 0)
    kind = BY_WORD["domain"]
    with open_host(project.uri) as host:
        seen = observe(host, [ResourceId("domain", name) for name in kind.ops.names(host)])
        # twins come last, so that each has one before it; what is wrong with what one takes over is wrong with its twin
        first, second = ([id_ for id_ in seen if id_.name.endswith("-twin") is late] for late in (False, True))
        together = Takeovers(host, "alike")
        said = {id_: together.resource(kind, seen[id_]).written for id_ in (*first, *second)}
        alone = {id_: Takeovers(host, "alike").resource(kind, seen[id_]).written for id_ in second}
    assert len(alone) > 20
    assert {id_: said[id_] for id_ in second} == alone, some


def test_a_machine_reads_well(taken: Takeover, connection: libvirt.virConnect) -> None:
    """Fields first; left to the remainder is what none of them can say, and nothing that libvirt adds anyway."""
    Objects(connection, "domain").define((CORPUS / "domain" / "virt-install-i440fx.xml").read_text())
    assert (imported := taken.take("domain/virt-install-i440fx")).code == 0, imported
    document = taken.manifest("machines/virt-install-i440fx")
    assert document["metadata"] == {"name": "virt-install-i440fx"}
    spec = document["spec"]
    assert spec.pop("machine").startswith("pc-i440fx-")
    assert spec == {
        "state": "stopped",
        "type": "qemu",
        "cpus": 1,
        "memory": "512MiB",
        "uuid": connection.lookupByName("virt-install-i440fx").UUIDString(),
        "clock": {
            "offset": "utc",
            "timers": [
                {"name": "rtc", "tickpolicy": "catchup"},
                {"name": "pit", "tickpolicy": "delay"},
                {"name": "hpet", "present": False},
            ],
        },
        "features": {"acpi": True, "apic": True},
        "pm": {"suspendToMem": False, "suspendToDisk": False},
        "controllers": [
            {"name": "usb0", "model": "ich9-ehci1"},
            *({"name": f"usb0+{2 * n}", "model": f"ich9-uhci{n + 1}"} for n in range(3)),
        ],
        "disks": [
            {
                "name": "hda",
                "file": "/var/lib/libvirt/images/virt-install-i440fx.qcow2",
                "format": "qcow2",
                "bus": "ide",
                "target": "hda",
                "discard": "unmap",
            }
        ],
        "interfaces": [
            {"name": "nic-525400a9d477", "type": "user", "mac": "52:54:00:a9:d4:77", "model": "e1000"},
        ],
        "graphics": [{"type": "vnc", "listen": "0.0.0.0", "port": 5910}],
        "serials": [{}],
        "video": {"model": "vga"},
        "inputs": {"type": "tablet", "bus": "usb"},
    }


SMALL = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  {more}
  <devices>
    {devices}
    <memballoon model='none'/>
  </devices>
</domain>
"""


# which no field says
NOTES = """<metadata>
  <app:one xmlns:app='https://example.org/app' by='me'/><bpp:two xmlns:bpp='https://example.org/bpp' by='me'/>
</metadata>"""


def small(
    connection: libvirt.virConnect, name: str = "small", devices: str = "", more: str = NOTES
) -> libvirt.virDomain:
    return connection.defineXMLFlags(SMALL.format(name=name, devices=devices, more=more), 0)


@pytest.mark.parametrize("name", ["all-virtio", "controllers-mixed-3", "controllers-mixed-4", "cpu-maximum"])
def test_the_order_of_controllers_is_no_reason_for_a_remainder(
    name: str, taken: Takeover, connection: libvirt.virConnect
) -> None:
    """Nor are those of its own that a machine has among libvirt's."""
    Objects(connection, "domain").define((CORPUS / "domain" / f"{name}.xml").read_text())
    assert (imported := taken.take(f"domain/{name}")).code == 0, imported
    assert "remainder" not in taken.manifest(f"machines/{name}")["spec"]
    assert (planned := taken.plan()).code == 0, planned


def test_a_place_that_libvirt_chooses_is_not_said_beside_one_that_it_does_not(
    taken: Takeover, connection: libvirt.virConnect
) -> None:
    place = "<address type='pci' domain='0' bus='0' slot='{}' function='0'/>"
    devices = (
        f"<controller type='usb' model='ich9-ehci1'>{place.format(9)}</controller><video><model type='vga'/></video>"
    )
    small(connection, devices=devices + "<rng model='virtio'><backend model='builtin'/></rng>", more="")
    assert (imported := taken.take("domain/small")).code == 0, imported
    spec = taken.manifest("machines/small")["spec"]
    assert spec["controllers"] == [{"name": "usb0", "model": "ich9-ehci1", "address": "pci:0000:00:09.0"}]
    assert spec["video"] == {"model": "vga"}
    assert spec["rng"] == {"model": "virtio", "backend": "builtin"}
    assert (planned := taken.plan()).code == 0, planned


def test_fields_say_what_a_new_machine_has_and_an_imported_one_has_not(
    taken: Takeover, connection: libvirt.virConnect
) -> None:
    text = """<domain type='qemu'><name>plain</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
    <os><type machine='q35'>hvm</type></os><features><acpi/></features>
    <devices><graphics type='vnc' autoport='yes'/><watchdog model='i6300esb' action='none'/></devices></domain>"""
    objects = Objects(connection, "domain")
    objects.define(text)
    before = objects.shown("plain")
    assert (imported := taken.take("domain/plain")).code == 0, imported
    spec = taken.manifest("machines/plain")["spec"]
    assert "remainder" not in spec
    assert spec["features"] == {"acpi": True, "apic": False}
    objects.remove("plain")
    assert (made := taken.apply()).code == 0, made
    assert objects.shown("plain") == before


def test_only_an_interface_whose_network_is_gone_is_left_to_the_remainder(
    taken: Takeover, connection: libvirt.virConnect
) -> None:
    connection.networkDefineXML("<network><name>there</name></network>")
    devices = "".join(
        f"<interface type='network'><mac address='52:54:00:00:00:0{number}'/><source network='{name}'/>"
        "<model type='e1000'/></interface>"
        for number, name in enumerate(("there", "gone", "there"))
    )
    small(connection, devices=devices, more="")
    objects = Objects(connection, "domain")
    before = objects.shown("small")
    assert (imported := taken.take("domain/small", "network/there")).code == 0, imported
    spec = taken.manifest("machines/small")["spec"]
    first, second, third = spec["interfaces"]
    assert first["network"] == third["network"] == "there"
    assert "network" not in second
    assert re.findall("network='(.*?)'", spec["remainder"].replace('"', "'")) == ["gone"]
    assert (planned := taken.plan()).code == 0, planned
    objects.remove("small")
    assert (made := taken.apply()).code == 0, made
    assert objects.shown("small") == before


def test_a_guest_is_taken_over_while_it_runs(
    taken: Takeover, project: Project, connection: libvirt.virConnect, tiny: Guest
) -> None:
    project.converge(tiny.machine("web", interfaces=[]))
    boot = tiny.boot()
    for secret in connection.listAllSecrets():
        secret.undefine()
    connection.lookupByName("web").setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "kept", None, None, 3)

    assert (imported := taken.take("--all")).code == 0, imported
    assert "state" not in taken.manifest("machines/web")["spec"]
    assert (plan := taken.plan()).code == 0, plan
    taken.edit("machines/web", "title: kept", "title: changed")
    assert (applied := taken.apply()).code == 0, applied
    assert "<title>changed</title>" in connection.lookupByName("web").XMLDesc(0)
    assert tiny.boot() == boot


def test_a_change_by_hand_of_what_no_field_says_is_drift(taken: Takeover, connection: libvirt.virConnect) -> None:
    small(connection)
    assert taken.take("--all").code == 0
    text = connection.lookupByName("small").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    one = re.search("<app:one[^>]*>", text)
    assert one
    connection.defineXMLFlags(text.replace(one[0], "").replace('by="me"', 'by="you"'), 0)

    plan = taken.plan()
    assert plan.code == 2
    assert "remainder[metadata/one]" in plan.out
    assert "remainder[metadata/two/@by]" in plan.out
    assert (applied := taken.apply()).code == 0, applied
    text = connection.lookupByName("small").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert text.count('by="me"') == 2
    assert 'by="you"' not in text
    assert taken.plan().code == 0


def test_an_edit_of_the_remainder_is_applied_and_fields_count_more(
    taken: Takeover, connection: libvirt.virConnect
) -> None:
    small(connection)
    assert taken.take("--all").code == 0
    taken.edit("machines/small", 'app" by="me"', 'app" by="you"')
    taken.edit("machines/small", "  cpus:", "  title: from the field\n  cpus:")
    taken.edit("machines/small", "<metadata>", "<title>from the remainder</title><metadata>")
    plan = taken.plan()
    assert "remainder[metadata/one/@by]:  me -> you" in plan.out
    assert (applied := taken.apply()).code == 0, applied
    text = connection.lookupByName("small").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert 'by="you"' in text
    assert "<title>from the field</title>" in text
    assert taken.plan().code == 0


def test_what_leaves_the_remainder_goes_and_what_fields_say_stays(
    taken: Takeover, connection: libvirt.virConnect
) -> None:
    disk = "<disk type='file'><source file='/a'/><target dev='hda'/></disk>"
    small(connection, devices=f"{disk}<input type='tablet' bus='usb'/>")
    assert taken.take("--all").code == 0
    document = taken.manifest("machines/small")
    rest = etree.fromstring(document["spec"]["remainder"])
    for path in ("metadata/{*}one", "devices/disk"):
        for each in rest.findall(path):
            each.getparent().remove(each)
    document["spec"]["remainder"] = etree.tostring(rest, encoding="unicode")
    (taken.folder / "machines" / "small.yaml").write_text(yaml.safe_dump(document))

    plan = taken.plan()
    assert plan.code == 2, plan
    assert re.search(r"remainder\[metadata/one\]: +- <app:one", plan.out), plan
    assert (applied := taken.apply()).code == 0, applied
    node = etree.fromstring(connection.lookupByName("small").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    assert node.find("metadata/{*}one") is None
    assert node.find("metadata/{*}two") is not None
    assert node.find("features/acpi") is not None
    assert node.find("devices/input[@type='tablet']") is not None
    assert [source.get("file") for source in node.iterfind("devices/disk/source")] == ["/a"]
    assert taken.plan().code == 0


def test_devices_come_and_go_by_their_fields_alone(taken: Takeover, connection: libvirt.virConnect) -> None:
    nic = "<interface type='bridge'><mac address='52:54:00:00:00:0{}'/><source bridge='br0'/></interface>"
    small(
        connection,
        devices=nic.format(1) + nic.format(2) + "<disk type='file'><source file='/a'/><target dev='hda'/></disk>",
    )
    assert taken.take("--all").code == 0
    document = taken.manifest("machines/small")
    del document["spec"]["interfaces"][0]
    document["spec"]["interfaces"].append({"bridge": "br1"})
    document["spec"]["disks"].append({"name": "data", "file": "/var/lib/libvirt/data.img", "format": "raw"})
    (taken.folder / "machines" / "small.yaml").write_text(yaml.safe_dump(document))
    assert (applied := taken.apply()).code == 0, applied
    node = etree.fromstring(connection.lookupByName("small").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    assert [mac.get("address") for mac in node.iterfind("devices/interface/mac")][:1] == ["52:54:00:00:00:02"]
    assert [model.get("type") for model in node.iterfind("devices/interface/model")] == ["rtl8139", "virtio"]
    assert [(t.get("dev"), t.get("bus")) for t in node.iterfind("devices/disk/target")] == [
        ("hda", "ide"),
        ("vda", "virtio"),
    ]
    assert (plan := taken.plan()).code == 0, plan


def test_no_password_is_written_and_what_had_one_is_not_left_without(
    taken: Takeover, connection: libvirt.virConnect
) -> None:
    def password() -> str | None:
        text = connection.lookupByName("small").XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
        return etree.fromstring(text).find("devices/graphics").get("passwd")

    small(connection, devices="<graphics type='vnc' passwd='hunter2'/>")
    assert taken.take("--all").code == 0
    assert not [path for path in taken.folder.rglob("*.yaml") if "hunter2" in path.read_text()]
    taken.edit("machines/small", "memory: 64MiB", "memory: 65MiB")
    assert taken.apply().code == 0
    assert password() == "hunter2"

    connection.lookupByName("small").undefine()
    assert (applied := taken.apply()).code == 0, applied
    assert len(password() or "") == 8
    assert taken.plan().code == 0


def test_what_only_those_see_who_may_see_secrets_is_named(taken: Takeover, connection: libvirt.virConnect) -> None:
    cookies = "<cookies><cookie name='session'>c00kie</cookie></cookies>"
    source = f"<source protocol='http' name='/x.iso'><host name='h.example' port='80'/>{cookies}</source>"
    disk = f"<disk type='network' device='cdrom'><driver name='qemu' type='raw'/>{source}<target dev='hdc'/></disk>"
    small(connection, devices=f"{disk}<graphics type='vnc' passwd='hunter2'/>")
    imported = taken.take("--all")
    assert imported.code == 0, imported
    assert "note: domain/small: devices/" in imported.out
    for place in ("cookies", "devices/graphics/@passwd"):
        assert place in imported.out
    said = [imported.out, imported.err, *(path.read_text() for path in taken.folder.rglob("*.yaml"))]
    assert not [text for text in said if "c00kie" in text or "hunter2" in text]
    small(connection, "plain")
    assert "note:" not in taken.take("domain/plain").out


def test_files_are_not_overwritten_unless_forced(taken: Takeover, connection: libvirt.virConnect) -> None:
    small(connection)
    assert taken.take("domain/small").code == 0
    mine = taken.folder / "machines" / "small.yaml"
    mine.write_text("# mine\n" + mine.read_text())
    refused = taken.take("domain/small")
    assert refused.code == 1
    assert f"domain/small is declared in {mine} already\nhint: " in refused.err
    assert mine.read_text().startswith("# mine")
    assert taken.take("domain/small", "--force").code == 0
    assert not mine.read_text().startswith("# mine")


def test_a_second_import_adds_what_is_new(taken: Takeover, connection: libvirt.virConnect) -> None:
    small(connection)
    assert taken.take("--all").code == 0
    small(connection, "other")
    imported = taken.take("--all")
    assert imported.code == 0, imported
    assert "1 imported" in imported.out
    assert taken.manifest("machines/other")["metadata"] == {"name": "other"}
    assert taken.plan().code == 0


def test_what_another_file_declares_is_not_declared_twice(taken: Takeover, connection: libvirt.virConnect) -> None:
    small(connection)
    assert taken.take("--all").code == 0
    (taken.folder / "machines" / "small.yaml").rename(taken.folder / "mine.yaml")
    again = taken.take("domain/small", "--force")
    assert again.code == 1
    assert f"domain/small is declared in {taken.folder / 'mine.yaml'} already\nhint:" in again.err
    assert "0 imported" in taken.take("--all").out
    assert taken.plan().code == 0


def test_nothing_is_owned_whose_manifest_its_project_does_not_read(
    taken: Takeover, connection: libvirt.virConnect
) -> None:
    small(connection)
    taken.folder.mkdir()
    (taken.folder / "manifests").mkdir()
    (taken.folder / "kvmstate.yaml").write_text("project: narrow\nmanifests: [manifests]\nprune: true\n")
    beside = taken.folder / "beside"
    imported = kvmstate("import", "-c", taken.uri, "-o", str(beside), "--all")
    assert imported.code == 1
    assert "is not among the manifests of project narrow: nothing is imported" in imported.err
    assert not beside.exists()
    assert [s.usageID() for s in connection.listAllSecrets() if "narrow" in s.usageID()] == []
    # in its own folder they go where its manifests are
    imported = taken.take("--all")
    assert imported.code == 0, imported
    assert (taken.folder / "manifests" / "machines" / "small.yaml").exists()
    assert kvmstate("plan", "-c", taken.uri, str(taken.folder), "--detailed-exitcode").code == 0


def test_without_adoption_only_files_are_written(taken: Takeover, connection: libvirt.virConnect) -> None:
    small(connection)
    assert taken.take("--all", "--no-adopt").code == 0
    assert connection.listAllSecrets() == []
    plan = taken.plan()
    assert "this project does not own it" in plan.out


def test_what_cannot_be_imported_is_named_and_the_rest_is_imported(
    taken: Takeover, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(resource("Network", "theirs", bridge={"name": "kvmimport"}))
    small(connection)
    connection.createXML(SMALL.format(name="passing", devices="", more=""), libvirt.VIR_DOMAIN_START_PAUSED)
    imported = taken.take("--all")
    assert imported.code == 1
    assert "domain/passing: it is transient" in imported.err
    assert "network/theirs: it is owned by project shop" in imported.err
    assert "Resources: 1 imported, 2 refused." in imported.out
    assert taken.plan().code == 0


def test_names_that_are_wrong_are_explained(taken: Takeover) -> None:
    assert "there is no domain/nowhere on the host\nhint:" in taken.take("domain/nowhere").err
    assert "'web' is not an address\nhint: write interface/NAME, network/NAME" in taken.take("web").err
    assert "say what to import\nhint: --all, or addresses" in taken.take().err
    assert not taken.folder.exists()
