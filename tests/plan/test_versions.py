"""What the host's libvirt is too old for, and what it cannot do in a pool, is said in the plan."""

from __future__ import annotations

import pytest
from scene import host, inventory, resource

from kvmstate.kinds.volume.base import unlayered
from kvmstate.kinds.volume.refusals import unwiped
from kvmstate.model.pool_types import pool_type
from kvmstate.plan import Options, make_plan


def test_extended_l2_entries_need_libvirt_8() -> None:
    wanted = [resource("pool/images"), resource("volume/images/web", extendedL2=True)]
    on = host("pool/images")
    for version, why in (((7, 10, 0), "extendedL2 needs libvirt 8.0 or newer on the host"), ((8, 0, 0), "")):
        on.library_version = version
        plan = make_plan(on, wanted, inventory(), Options())
        assert [change.blocked for change in plan.changes if change.id.kind == "volume"] == [why]


@pytest.mark.parametrize(
    ("type_", "algorithm", "why"),
    [
        ("dir", "dod", ""),
        ("rbd", "trim", ""),
        ("zfs", "zero", "libvirt wipes no volume in a pool of type zfs"),
        ("rbd", "dod", "in a pool of type rbd libvirt wipes with zero and trim only"),
        ("iscsi-direct", "zero", ""),
        ("iscsi-direct", "dod", "in a pool of type iscsi-direct libvirt wipes with zero only"),
        ("iscsi-direct", "trim", "libvirt trims no volume in a pool of type iscsi-direct"),
        ("logical", "trim", "libvirt trims no volume in a pool of type logical"),
        ("dir", "trim", "libvirt trims no volume in a pool of type dir"),
    ],
)
def test_what_wipes_where(type_: str, algorithm: str, why: str) -> None:
    assert unwiped(algorithm, pool_type(type_)) == why


def test_on_what_a_layer_lies() -> None:
    assert unlayered(pool_type("dir")) == unlayered(pool_type("logical")) == ""
    assert unlayered(pool_type("rbd")).endswith("a pool of type rbd has neither")
