"""What is known of each type of pools is as libvirt has it."""

from __future__ import annotations

import libvirt
import pytest

from kvmstate.kinds.storage_pool.spec import MEMBERS, PoolSpec
from kvmstate.model.pool_types import IMAGES, TYPES, Can, Volumes, pool_type
from kvmstate.xmlbind import document


def named(section: type[PoolSpec]) -> list[str]:
    return list(section.model_fields["type"].annotation.__args__)  # type: ignore[union-attr]


def test_every_type_has_one_section() -> None:
    assert sorted(name for section in MEMBERS for name in named(section)) == sorted(TYPES)
    assert all(named(section) == [section.xml_variant] for section in MEMBERS if section.xml_variant)


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


@pytest.mark.real
def test_libvirt_has_these_types_and_formats(connection: libvirt.virConnect) -> None:
    listed = document(connection.getStoragePoolCapabilities())
    assert {node.get("type") for node in listed.iterfind("pool")} <= {*TYPES}
    for node in listed.iterfind("pool"):
        row = TYPES[node.get("type", "")]
        if formats := {value.text for value in node.iterfind("volOptions//value")}:
            assert {*row.formats} == {*IMAGES} & formats, row.name
        else:
            # it has none, or one that it does not list
            assert row.formats in ((), ("raw",)), row.name
