"""Which volumes are known, and as which formats: a volume's content tells nothing that counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scene import change, entry, host, inventory, resource, seen

from kvmstate.model.inventory import Entry
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Resource
from kvmstate.plan.known import alarms, known

VOL = "volume/images/root"
REST = "<volume><target><format type='{}'/></target></volume>"


def disks(*sources: dict[str, Any]) -> Resource:
    return resource("domain/web", disks=[{"name": f"d{n}", **source} for n, source in enumerate(sources)])


@pytest.mark.parametrize(
    ("wanted", "applied", "format_"),
    [
        ({}, None, "qcow2"),
        ({"format": "raw"}, None, "raw"),
        ({"format": "iso"}, None, "iso"),
        # as it was applied last: what the manifest says now is not made yet
        ({"format": "raw"}, {"format": "qcow2"}, "qcow2"),
        ({"format": "raw"}, {}, "qcow2"),
        # of an imported one, as its XML says; where that says none, it is raw
        ({"remainder": REST.format("qcow2")}, None, "qcow2"),
        ({"remainder": REST.format("raw")}, None, "raw"),
        ({"remainder": "<volume/>"}, None, "raw"),
        ({"remainder": "<volume/>"}, {"remainder": "<volume/>"}, "raw"),
        ({"remainder": REST.format("qcow2"), "format": "raw"}, None, "raw"),
    ],
)
def test_a_volume_has_the_format_that_is_said(
    wanted: dict[str, Any], applied: dict[str, Any] | None, format_: str
) -> None:
    record = inventory(*([] if applied is None else [resource(VOL, **applied)]))
    assert known({r.id: r for r in [resource(VOL, **wanted)]}, record) == {
        VolumeRef(pool="images", name="root"): format_
    }


def test_one_whose_making_was_cut_off_is_as_it_is_wanted() -> None:
    wanted, begun = resource(VOL, format="raw"), entry(resource(VOL), incomplete=True)
    assert [*known({wanted.id: wanted}, inventory(begun)).values()] == ["raw"]


@pytest.mark.parametrize("record", [False, True])
def test_what_is_only_named_is_known_without_a_format(record: bool) -> None:
    machine = disks({"volume": "images/a"}, {"file": "/b", "format": "raw"})
    layer = resource("volume/images/l", backing="images/base")
    owned: list[Entry | Resource] = [machine, layer]
    wanted = {} if record else {r.id: r for r in (machine, layer)}
    found = known(wanted, inventory(*owned) if record else inventory())
    expected: dict[Any, Any] = {VolumeRef(pool="images", name="a"): None, "/b": None}
    expected[VolumeRef(pool="images", name="l")] = "qcow2"
    assert found == expected | ({} if record else {VolumeRef(pool="images", name="base"): None})


@pytest.mark.parametrize(
    ("format_", "content", "alarmed"),
    [("raw", "qcow2", True), ("raw", "raw", False), ("raw", "iso", False), ("qcow2", "qcow2", False)],
)
def test_a_raw_volume_that_comes_to_look_like_an_image_is_told(format_: str, content: str, alarmed: bool) -> None:
    on = host("pool/images", VOL, root=f'<target><path>PATH</path><format type="{content}"/></target>')
    wanted = resource(VOL, format=format_)
    on.know(known({wanted.id: wanted}, inventory()))
    told = list(alarms(on, [change(VOL, observed=seen(on, VOL))]))
    assert bool(told) is alarmed
    assert list(alarms(on, [replace(change(VOL), observed=None)])) == []
