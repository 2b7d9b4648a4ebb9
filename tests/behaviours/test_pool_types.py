"""What is known of each type of pools is as libvirt has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import libvirt
import pytest
from in_memory import AnyPermit, MemoryHost
from scene import PROJECT, resource, seen

from kvmstate.errors import HostError
from kvmstate.kind import Context
from kvmstate.kinds import BY_WORD
from kvmstate.kinds.storage_pool.spec import MEMBERS, FileSystemType, NetFileSystemType, PoolSpec
from kvmstate.kinds.volume.spec import volume_images
from kvmstate.model.change import Action, Change
from kvmstate.model.pool_types import IMAGES, PARTITIONS, TYPES, Can, Volumes, pool_type
from kvmstate.model.reference import VolumeRef
from kvmstate.xmlbind import document, to_text

DOCS = Path(__file__).parents[2] / "docs" / "pools.md"
KNOWN_BY = {"inode": "inode and time of birth", "key": "the storage's own key", "path": "its path alone"}
VERBS = {"make": Can.CREATE, "fill": Can.UPLOAD, "grow": Can.RESIZE, "delete": Can.DELETE, "wipe": Can.WIPE}


def named(section: type[PoolSpec]) -> list[str]:
    return list(section.model_fields["type"].annotation.__args__)  # type: ignore[union-attr]


def test_every_type_has_one_section() -> None:
    assert sorted(name for section in MEMBERS for name in named(section)) == sorted(TYPES)
    assert all(named(section) == [section.xml_variant] for section in MEMBERS if section.xml_variant)


def table() -> Iterator[str]:
    """As the documentation has it."""
    typed = {section.xml_variant for section in MEMBERS}
    heads = ("type", "fields", "volumes", "formats", *VERBS, "sparse", "rounding", "known by")
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for name, row in sorted(TYPES.items()):
        formats = ", ".join(row.formats or ("raw",)) + (", layers" if Can.LAYER in row.can else "")
        unit = f"{row.unit >> 20} MiB" if row.unit >> 20 else f"{row.unit >> 10} KiB" if row.unit >> 10 else "512 bytes"
        flags = [name in typed, *(verb in row.can for verb in VERBS.values()), row.sparse]
        fields, *can = ["yes" if flag else "" for flag in flags]
        cells = (f"`{name}`", fields, row.volumes.value, formats, *can, unit, KNOWN_BY[row.identity])
        yield f"| {' | '.join(cells)} |"


def test_the_documentation_has_this_table(request: pytest.FixtureRequest) -> None:
    """`pytest --regenerate` on this file writes it again."""
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split("\n|", 1)
    after = rest[rest.rindex("|\n") + 2 :]
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
    for name, field in (("fs", FileSystemType), ("netfs", NetFileSystemType)):
        formats = listed.iterfind(f"pool[@type='{name}']/poolOptions/enum[@name='sourceFormatType']/value")
        assert {value.text for value in formats} == {*get_args(field)}
