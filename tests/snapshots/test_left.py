"""Whose the snapshots are that a policy has left, however many machines have some, and whatever goes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from kvmstate.host import Host, domains, open_host, snapshots
from kvmstate.snapshots.of_policies import of_policies
from kvmstate.snapshots.record import Record

MACHINES = [f"m{number}" for number in range(20)]
AT = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Machines with two snapshots each, on a host of libvirt's test driver."""
    node = tmp_path / "node.xml"
    node.write_text("<node/>")
    with open_host(f"test://{node}") as host:
        for machine in MACHINES:
            domain = host.connection.defineXML(
                f"<domain type='test'><name>{machine}</name><memory>32768</memory><os><type>hvm</type></os></domain>"
            )
            for name in ("one", "two"):
                record = Record("shop", "daily", AT)
                domain.snapshotCreateXML(
                    f"<domainsnapshot><name>{machine}-{name}</name><description>{record}</description></domainsnapshot>"
                )
        yield host


def test_each_machines_snapshots_are_told_as_its_own(host: Host) -> None:
    assert of_policies(host, "shop") == {"daily": {m: [f"{m}-one", f"{m}-two"] for m in MACHINES}}


def test_one_that_goes_meanwhile_takes_no_other_along(host: Host) -> None:
    listed = snapshots.all_of

    def goes(domain: Any) -> list[Any]:
        found = listed(domain)
        if domain.name == "m3":
            domain.raw.snapshotLookupByName("m3-one").delete()
        return found

    with patch.object(snapshots, "all_of", goes):
        assert of_policies(host, "shop")["daily"]["m3"] == ["m3-two"]


def test_of_what_a_machine_keeps_only_what_has_gone_is_missing(host: Host) -> None:
    listed = host.raw.lookupByName("m3").listAllSnapshots(0)
    next(each for each in listed if each.getName() == "m3-one").delete()
    assert [what for what, _ in domains._texts("snapshot", listed)] == ["snapshot m3-two"]
