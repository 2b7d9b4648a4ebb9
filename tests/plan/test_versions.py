"""What the host's libvirt is too old for is said in the plan."""

from __future__ import annotations

from scene import host, inventory, resource

from kvmstate.plan import Options, make_plan


def test_extended_l2_entries_need_libvirt_8() -> None:
    wanted = [resource("pool/images"), resource("volume/images/web", extendedL2=True)]
    on = host("pool/images")
    for version, why in (((7, 10, 0), "extendedL2 needs libvirt 8.0 or newer on the host"), ((8, 0, 0), "")):
        on.library_version = version
        plan = make_plan(on, wanted, inventory(), Options())
        assert [change.blocked for change in plan.changes if change.id.kind == "volume"] == [why]
