"""What is known of each type of pools is as libvirt has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import libvirt
import pytest
from harness import Project, kvmstate
from harness import resource as document_of
from in_memory import AnyPermit, MemoryHost
from scene import PROJECT, resource, seen

from kvmstate.errors import HostError
from kvmstate.host import open_host
from kvmstate.kind import Context, Scene
from kvmstate.kinds import BY_WORD
from kvmstate.kinds.storage_pool.spec import MEMBERS, SECTIONS
from kvmstate.kinds.storage_pool.types.disk import LabelType
from kvmstate.kinds.storage_pool.types.fs import FileSystemType
from kvmstate.kinds.storage_pool.types.netfs import NetFileSystemType
from kvmstate.kinds.volume.spec import volume_images
from kvmstate.model.change import Action, Change
from kvmstate.model.inventory import Inventory
from kvmstate.model.pool_types import IMAGES, PARTITIONS, TYPES, Can, Volumes, pool_type
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Metadata, Resource, ResourceId
from kvmstate.xmlbind import document, parse, to_text

DOCS = Path(__file__).parents[2] / "docs" / "pools.md"
KNOWN_BY = {
    "inode": "inode and time of birth",
    "key": "the storage's own key",
    "extent": "where on its disk it is",
    "own": "its id, by the storage's own tool",
    "path": "its path alone",
}
VERBS = {
    "make": Can.CREATE,
    "fill": Can.UPLOAD,
    "copy": Can.COPY,
    "grow": Can.RESIZE,
    "delete": Can.DELETE,
    "wipe": Can.WIPE,
}


def named(section: Any) -> list[str]:
    return list(section.model_fields["type"].annotation.__args__)  # type: ignore[union-attr]


def test_every_type_has_one_section() -> None:
    assert sorted(name for section in MEMBERS for name in named(section)) == sorted(TYPES)
    assert all(named(MEMBERS.named(name)) == [name] for name in SECTIONS)


def table() -> Iterator[str]:
    """As the documentation has it."""
    heads = ("type", "fields", "volumes", "formats", *VERBS, "sparse", "rounding", "known by")
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for name, row in sorted(TYPES.items()):
        formats = ", ".join(row.formats or ("raw",)) + (", layers" if row.can & (Can.LAYER | Can.CHILD) else "")
        unit = f"{row.unit >> 20} MiB" if row.unit >> 20 else f"{row.unit >> 10} KiB" if row.unit >> 10 else "512 bytes"
        flags = [name in SECTIONS, *(verb in row.can for verb in VERBS.values()), row.sparse]
        fields, *can = ["yes" if flag else "" for flag in flags]
        cells = (f"`{name}`", fields, row.volumes.value, formats, *can, unit, KNOWN_BY[row.identity])
        yield f"| {' | '.join(cells)} |"


def test_the_documentation_has_this_table(request: pytest.FixtureRequest) -> None:
    """`pytest --regenerate` on this file writes it again."""
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split("\n|", 1)
    after = rest[rest.index("|\n\n") + 2 :]
    wanted = "\n".join([before, *table(), ""]) + after
    if request.config.getoption("--regenerate"):
        DOCS.write_text(wanted, encoding="utf-8")
    assert text == wanted


def test_a_start_makes_but_folders() -> None:
    """libvirt's build writes labels, volume groups and the like for all others."""
    assert {name for name, row in TYPES.items() if row.makes_folder} == {"dir", "fs", "netfs"}


def test_only_files_are_known_by_their_inodes_and_have_layers() -> None:
    for row in TYPES.values():
        files = row.volumes is Volumes.FILES
        assert (row.identity == "inode") is files, row.name
        assert (Can.LAYER in row.can) is files, row.name
        # what cannot be made is never sparse
        assert Can.CREATE in row.can or not row.sparse, row.name


def test_of_a_type_that_nobody_knows_nothing_is_ruled_out() -> None:
    assert pool_type("new").can is Can.ALL
    assert all(pool_type("new").knows(format_) for format_ in IMAGES)


@pytest.mark.parametrize("said", ["none", "linux", "linux-lvm"])
def test_the_type_of_a_partition_is_no_format_of_an_image(said: str) -> None:
    partition = f"<volume><target><format type='{said}'/></target></volume>"
    assert [*volume_images("hdd/sdz1", {"remainder": partition})] == [(VolumeRef(pool="hdd", name="sdz1"), "raw")]


def test_where_a_disk_has_room_is_not_imported() -> None:
    room = "<freeExtent start='1' end='2'/><freeExtent start='3' end='4'/>"
    source = f"<source><device path='/dev/sdz'>{room}</device><format type='gpt'/></source>"
    host = MemoryHost(f"<pool type='disk'><name>hdd</name>{source}<target><path>/dev</path></target></pool>")
    _, node = BY_WORD["pool"].ops.portable(seen(host, "pool/hdd"), host)
    assert to_text(node).count("freeExtent") == 0
    assert node.find("source/device") is not None


def test_what_cannot_be_made_in_a_pool_that_the_plan_did_not_know_is_told_in_words() -> None:
    host = MemoryHost("<pool type='iscsi'><name>luns</name><target><path>/dev/disk/by-path</path></target></pool>")
    wanted = resource("volume/luns/one", format="raw")
    made = Change(wanted.id, Action.CREATE, desired=wanted, spec=wanted.spec)
    [create] = BY_WORD["volume"].ops.steps(made, Context(host, PROJECT, AnyPermit()))
    with pytest.raises(HostError, match="libvirt makes no volume in a pool of type iscsi"):
        create.run(lambda done, total: None)


@pytest.mark.parametrize("declared", [False, True])
def test_a_machine_says_where_an_image_of_a_server_is(declared: bool) -> None:
    """libvirt: "using 'rbd' pools for backing 'volume' disks isn't yet supported"."""
    text = "<pool type='rbd'><name>vms</name><source><name>rbd</name></source></pool>"
    host = MemoryHost(*([] if declared else [text]))
    spec = BY_WORD["pool"].adapter.validate_python({"type": "rbd", "source": {"name": "rbd"}})
    pool = Resource(ResourceId("pool", "vms"), spec, Metadata(name="vms"))
    machine = resource("domain/web", memory="64MiB", disks=[{"name": "root", "volume": "vms/web-1"}])
    changes = {machine.id: Change(machine.id, Action.CREATE, desired=machine, spec=machine.spec)}
    desired = {each.id: each for each in (machine, *([pool] if declared else []))}
    BY_WORD["domain"].ops.judge(Scene(host, changes, desired, Inventory(PROJECT)))
    assert "disk root: libvirt finds no volume of a pool of type rbd" in changes[machine.id].blocked
    assert "{protocol: rbd, name: CEPH-POOL/web-1, hosts: [{name: MONITOR}]}" in changes[machine.id].hint


CHAP = {"username": "host", "secret": {"usage": "nas"}}
SAMPLES: dict[str, dict[str, object]] = {
    "logical": {"source": {"name": "vg0", "format": "lvm2"}},
    "disk": {
        "source": {"device": "/dev/sdz", "partSeparator": True, "format": "gpt"},
        "target": {"path": "/dev"},
    },
    "iscsi": {
        "source": {
            "host": "nas.example",
            "port": 3261,
            "device": "iqn.2026-01.example.nas:images",
            "initiator": "iqn.2026-01.example.host:one",
            "auth": CHAP,
        },
        "target": {"path": "/dev/disk/by-path"},
    },
    "iscsi-direct": {
        "source": {
            "host": "nas.example",
            "device": "iqn.2026-01.example.nas:images",
            "initiator": "iqn.2026-01.example.host:one",
            "auth": {"username": "host", "secret": {"uuid": "11111111-2222-3333-4444-555555555555"}},
        }
    },
    "scsi": {
        "source": {"adapter": {"type": "scsi_host", "name": "scsi_host1"}},
        "target": {"path": "/dev/disk/by-path"},
    },
    "mpath": {"target": {"path": "/dev/mapper"}},
    "gluster": {"source": {"host": "nas.example", "name": "vms", "dir": "/images"}},
    "rbd": {
        "source": {
            "name": "vms",
            "hosts": [{"name": "mon-1.example"}, {"name": "mon-2.example", "port": 6789}],
            "auth": {"username": "libvirt", "secret": {"usage": "ceph"}},
        }
    },
    "zfs": {"source": {"name": "tank/vms"}},
    "sheepdog": {"remainder": "<pool type='sheepdog'><source><host name='h'/><name>n</name></source></pool>"},
}
FOLDERS = {"dir", "fs", "netfs", "vstorage"}


def without_defaults(said: dict[str, Any]) -> dict[str, Any]:
    """The way of logging in is filled in."""
    said.get("source", {}).get("auth", {}).pop("type", None)
    return said


def test_every_type_has_a_sample() -> None:
    assert SAMPLES.keys() | FOLDERS == TYPES.keys()


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - {"sheepdog"}))
def test_what_fields_say_of_a_type_is_read_again(name: str) -> None:
    """What is written is parsed as it was said, and import has no remainder to write."""
    spec = BY_WORD["pool"].adapter.validate_python({"type": name, **SAMPLES[name]})
    wanted = Resource(ResourceId("pool", "shop"), spec, Metadata(name="shop"))
    host = MemoryHost()
    [define, *_] = BY_WORD["pool"].ops.steps(
        Change(wanted.id, Action.CREATE, desired=wanted, spec=wanted.spec), Context(host, PROJECT, AnyPermit())
    )
    define.run(lambda done, total: None)
    read = parse(type(wanted.spec), document(host.raw.defined))
    assert without_defaults(read.model_dump(mode="json", exclude_unset=True)) == wanted.written


@pytest.mark.real
def test_a_host_takes_every_type_that_its_libvirt_has(project: Project, tmp_path: Path) -> None:
    with open_host(project.uri) as host:
        there = host.pool_types
    assert there > {"dir", "logical", "disk", "iscsi", "scsi", "mpath"}
    samples = {name: SAMPLES[name] for name in SAMPLES if name in there}
    documents = [document_of("StoragePool", f"a-{name}", type=name, active=False, **samples[name]) for name in samples]
    project.converge(*documents)
    # as somebody else's: imported, all of them are fields
    with open_host(project.uri) as host:
        texts = [pool.XMLDesc(0) for pool in host.raw.listAllStoragePools()]
        assert project.kvmstate("destroy", "--auto-approve").code == 0
        for text in texts:
            host.raw.storagePoolDefineXML(text, 0)
    folder = tmp_path / "taken"
    assert (taken := kvmstate("import", "-c", project.uri, "-o", str(folder), "--all")).code == 0, taken
    written = {path.stem: path.read_text() for path in (folder / "pools").glob("a-*.yaml")}
    assert written.keys() == {f"a-{name}" for name in samples}
    assert [name for name, text in written.items() if "<source" in text or "<target" in text] == []
    assert kvmstate("plan", str(folder), "--detailed-exitcode").code == 0


@pytest.mark.real
def test_a_type_that_libvirt_has_no_driver_for_is_an_error_of_the_plan(project: Project) -> None:
    project.write(document_of("StoragePool", "sheep", type="sheepdog", active=False, **SAMPLES["sheepdog"]))
    plan = project.plan()
    assert "this host's libvirt has no pools of type sheepdog" in str(plan)
    assert "libvirt 8.8 removed it" in str(plan)


@pytest.mark.real
def test_libvirt_has_these_types_and_formats(connection: libvirt.virConnect) -> None:
    listed = document(connection.getStoragePoolCapabilities())
    assert {node.get("type") for node in listed.iterfind("pool")} <= {*TYPES}
    for node in listed.iterfind("pool"):
        row = TYPES[node.get("type", "")]
        if node.get("type") == "disk":
            assert {value.text for value in node.iterfind("volOptions//value")} == {*PARTITIONS}
        if formats := {value.text for value in node.iterfind("volOptions//value")}:
            assert {*row.formats} == {*IMAGES} & formats, row.name
        else:
            # it has none, or one that it does not list
            assert row.formats in ((), ("raw",)), row.name
    for name, field in (("fs", FileSystemType), ("netfs", NetFileSystemType), ("disk", LabelType)):
        formats = listed.iterfind(f"pool[@type='{name}']/poolOptions/enum[@name='sourceFormatType']/value")
        assert {value.text for value in formats} == {*get_args(field)}
