"""What a pool has is told, and what does not fit into it is told before anything is begun."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest
from harness import Project, resource
from trouble import inside

pytestmark = pytest.mark.real

HERE = "/var/lib/libvirt/behaviours"
MIB = 1 << 20


@pytest.fixture
def small(project: Project) -> Iterator[str]:
    """A folder with 16 MiB of space."""
    inside(project.host, f"mkdir -p {HERE}/small && mount -t tmpfs -o size=16m small {HERE}/small")
    yield f"{HERE}/small"
    # a pool in it may be active yet
    inside(project.host, f"umount -l {HERE}/small")


def volume(name: str, capacity: str, **spec: Any) -> dict[str, object]:
    return resource("Volume", name, {"deletion": "delete"}, pool="small", capacity=capacity, format="raw", **spec)


def test_a_pool_says_what_it_has_and_what_does_not_fit_is_not_begun(
    project: Project, connection: libvirt.virConnect, small: str
) -> None:
    pool = resource("StoragePool", "small", type="dir", target={"path": small})
    project.converge(pool)
    [row] = json.loads(project.kvmstate("status", "--json").out)["resources"]
    assert row["space"] == {"capacity": 16 * MIB, "allocation": 0, "available": 16 * MIB}
    assert "0 bytes of 16.0 MiB used, 16.0 MiB free" in project.kvmstate("status").out

    first, second = volume("first", "10MiB", allocation="10MiB"), volume("second", "10MiB", allocation="10MiB")
    project.write(pool, first, second)
    planned = project.plan()
    assert planned.out.count("blocked: it does not fit: it takes 10.0 MiB at once, and pool/small has 6.0 MiB") == 1
    assert project.apply().code == 1
    made = connection.storagePoolLookupByName("small")
    assert made.listVolumes() == ["first"]
    # what goes with the same plan makes room; and what libvirt has not seen yet counts
    project.write(pool, volume("second", "4MiB", allocation="4MiB"))
    project.converge(options=("--prune", "--max-deletes", "5"))
    assert made.listVolumes() == ["second"]

    # what takes its space as it is written may take more than there is
    project.write(pool, volume("second", "4MiB", allocation="4MiB"), volume("thin", "40MiB"))
    planned = project.plan()
    assert "pool/small is over-committed 2.8 times: its volumes may grow to 44.0 MiB in all" in planned.out, planned
    assert project.apply().code == 0
    assert "over-committed" not in project.plan().out


def test_a_file_that_does_not_fit_is_not_begun(project: Project, small: str) -> None:
    """What is in it, that is: holes take no room, and what is compressed nobody knows."""
    pool = resource("StoragePool", "small", type="dir", target={"path": small})
    (project.folder / "data.raw").write_bytes(b"data" * (20 * MIB // 4))
    with (project.folder / "holes.raw").open("wb") as file:
        file.write(b"data")
        file.truncate(20 * MIB)
    shared = subprocess.run(["stat", "-f", "-c", "%T", project.folder], capture_output=True, text=True, check=True)
    if shared.stdout.strip() not in ("ext2/ext3", "tmpfs"):
        pytest.skip("here a copy may share the blocks of the file")
    project.converge(pool)
    project.write(pool, volume("data", "20MiB", content={"file": "data.raw"}))
    assert "blocked: it does not fit: it takes 20.0 MiB at once, and pool/small has 16.0 MiB" in project.plan().out
    project.converge(pool, volume("holes", "20MiB", content={"file": "holes.raw"}))
