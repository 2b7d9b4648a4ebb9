"""One resource that fails stops only what needs it; once mended, the next apply goes on from there."""

from __future__ import annotations

import libvirt
import pytest
from harness import Project, idle, pool, resource

pytestmark = pytest.mark.real


def network(name: str, address: str) -> dict:
    return resource("Network", name, ips=[{"address": address}])


def test_a_failure_skips_its_dependents_and_nothing_else(project: Project, connection: libvirt.virConnect) -> None:
    machines = [
        idle("web", interfaces=[{"network": "lan"}]),
        idle("db", interfaces=[{"network": "backend"}]),
    ]
    lan, backend = network("lan", "192.168.90.1/24"), network("backend", "192.168.91.1/24")
    # dnsmasq does not start with it
    lan["spec"]["dnsmasqOptions"] = ["no-such-option"]
    project.write(lan, backend, *machines)
    applied = project.apply()
    assert applied.code == 1
    assert "error: network/lan: " in applied.out
    assert "dnsmasq: bad option" in applied.out
    assert "skipped: domain/web: network/lan failed" in applied.out
    assert "Apply incomplete. Resources: 2 added, 0 changed, 0 destroyed, 1 failed, 1 skipped." in applied.out
    assert [domain.name() for domain in connection.listAllDomains()] == ["db"]
    project.converge(network("lan", "192.168.90.1/24"), backend, *machines)
    assert connection.lookupByName("web").isActive()


def test_a_machine_that_was_defined_and_not_started_is_started_next_time(
    project: Project, connection: libvirt.virConnect
) -> None:
    disk = project.folder / "disk.img"
    project.write(idle("web", disks=[{"name": "root", "file": str(disk), "format": "raw"}]))
    applied = project.apply()
    assert applied.code == 1
    assert "error: domain/web: Cannot access storage file" in applied.out
    assert f"{disk}" in applied.out
    assert not connection.lookupByName("web").isActive()
    disk.write_bytes(b"\0" * (1 << 20))
    project.converge()
    assert connection.lookupByName("web").isActive()


def test_what_has_gone_behind_its_back_is_made_again(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(
        pool(),
        resource("Volume", "data", pool="images", capacity="1MiB"),
        network("lan", "192.168.90.1/24"),
        resource("VirtualMachine", "web", state="stopped", memory="32MiB", interfaces=[{"network": "lan"}]),
    )
    project.path("images/data").unlink()
    connection.networkLookupByName("lan").destroy()
    connection.networkLookupByName("lan").undefine()
    connection.lookupByName("web").undefine()
    planned = project.plan()
    assert planned.out.count("it no longer exists on the host") == 2
    assert "blocked: it was there and is gone, with what it held" in planned.out
    assert project.apply().code == 1
    assert not project.path("images/data").exists(), "a disk that is gone is no reason for an empty one"
    assert project.kvmstate("recreate", "volume/images/data", "--auto-approve").code == 0
    project.converge()


def test_a_pool_that_somebody_stopped_is_started_and_its_volumes_seen(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), resource("Volume", "data", pool="images", capacity="1MiB"))
    connection.storagePoolLookupByName("images").destroy()
    planned = project.plan()
    assert planned.code == 2
    assert "its pool is not active" in planned.out
    project.converge()
