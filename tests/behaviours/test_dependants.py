"""What needs something that is blocked is blocked, too, and says so; all else is applied, and nothing fails."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Project, Run, idle, kvmstate, pool, resource

pytestmark = pytest.mark.real

FOLDER = "/var/lib/libvirt/behaviours"


def volume(name: str, lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, lifecycle, **{"pool": "images", "capacity": "1MiB", **spec})


def machine(name: str, *volumes: str, state: str = "stopped", **spec: Any) -> dict[str, Any]:
    disks = [{"name": each, "volume": f"images/{each}"} for each in volumes]
    return idle(name, state=state, disks=disks, **spec)


def lose(project: Project, connection: libvirt.virConnect, name: str = "data") -> None:
    project.path(f"images/{name}").unlink()
    connection.storagePoolLookupByName("images").refresh()


def replaced_by_somebody(project: Project, connection: libvirt.virConnect) -> None:
    images = connection.storagePoolLookupByName("images")
    images.storageVolLookupByName("data").delete()
    images.createXML("<volume><name>data</name><capacity>1048576</capacity></volume>")


def refused(project: Project, blocked: dict[str, str]) -> None:
    """The plan says what is blocked, and begins with why; the apply does all else, and fails nowhere."""
    planned = project.plan("--prune")
    assert planned.code == 2, planned
    told = told_blocked(planned)
    assert {address: why[: len(blocked.get(address, ""))] for address, why in told.items()} == blocked
    applied = project.apply("--prune")
    assert applied.code == 1, applied
    assert "failed" not in applied.out.lower() + applied.err.lower(), applied
    again = project.plan("--prune")
    assert told_blocked(again) == told
    assert "Plan: nothing can be done." in again.out, again


def told_blocked(planned: Run) -> dict[str, str]:
    lines = [line for line in planned.out.splitlines() if line.startswith("  ! ")]
    return {line.split()[1]: line.partition("blocked: ")[2] for line in lines}


GONE = "it was there and is gone, with what it held"
NEEDS_GONE = f"needs volume/images/data, which is blocked: {GONE}"
STRANGE = "it is not the object that this project made"


def test_a_new_machine_is_blocked_with_the_volume_that_it_needs(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume("data"))
    lose(project, connection)
    project.write(pool(), volume("data"), machine("web", "data"), machine("db"))
    refused(project, {"volume/images/data": GONE, "domain/web": NEEDS_GONE})
    assert [domain.name() for domain in connection.listAllDomains()] == ["db"]


def test_a_machine_is_not_started_without_its_volume(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume("data"), machine("web", "data"))
    lose(project, connection)
    project.write(pool(), volume("data"), machine("web", "data", state="running"))
    refused(project, {"volume/images/data": GONE, "domain/web": NEEDS_GONE})


def test_a_running_machine_is_not_restarted_without_its_volume(
    project: Project, connection: libvirt.virConnect
) -> None:
    kept = volume("data", format="raw")
    web = machine("web", "data", state="running")
    project.converge(pool(), kept, web)
    lose(project, connection)
    web["lifecycle"] |= {"restart": "now"}
    web["spec"] |= {"firmware": "bios", "cpus": 1, "memory": "16MiB"}
    web["spec"]["machine"] = "pc"
    web["spec"]["clock"] = "localtime"
    project.write(pool(), kept, web)
    refused(project, {"volume/images/data": GONE, "domain/web": NEEDS_GONE})
    assert connection.lookupByName("web").isActive()


def test_what_a_machine_has_otherwise_is_changed_while_its_volume_is_gone(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume("data"), machine("web", "data"))
    lose(project, connection)
    project.write(pool(), volume("data"), machine("web", "data", title="new"))
    refused(project, {"volume/images/data": GONE})
    assert connection.lookupByName("web").metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None) == "new"


def test_a_layer_and_its_machine_are_blocked_with_the_base(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume("data"))
    lose(project, connection)
    project.write(pool(), volume("data"), volume("top", backing="images/data"), machine("web", "top"))
    refused(
        project,
        {
            "volume/images/data": GONE,
            "volume/images/top": NEEDS_GONE,
            "domain/web": f"needs volume/images/top, which is blocked: {NEEDS_GONE}",
        },
    )


def test_what_somebody_else_made_is_given_to_no_machine(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume("data"))
    replaced_by_somebody(project, connection)
    project.write(pool(), volume("data"), machine("web", "data"))
    needs = "needs volume/images/data, which is blocked: it is not the object"
    refused(project, {"volume/images/data": STRANGE, "domain/web": needs})
    project.write(pool(), volume("data"), machine("web"))
    refused(project, {"volume/images/data": STRANGE})
    project.write(pool(), volume("data"), machine("web", "data"))
    refused(project, {"volume/images/data": STRANGE, "domain/web": needs})


def test_a_machine_goes_on_with_a_volume_that_somebody_has_restored(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), volume("data"), machine("web", "data"))
    replaced_by_somebody(project, connection)
    project.write(pool(), volume("data"), machine("web", "data", title="new"))
    refused(project, {"volume/images/data": STRANGE})
    assert connection.lookupByName("web").metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None) == "new"


def test_what_is_in_a_suspended_pool_that_is_not_there_waits_for_it(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.write(pool() | {"lifecycle": {"suspend": True}}, volume("data"), machine("web", "data"), machine("db"))
    refused(
        project,
        {
            "volume/images/data": "needs pool/images, which is suspended",
            "domain/web": "needs volume/images/data, which is blocked: needs pool/images, which is suspended",
        },
    )
    assert [domain.name() for domain in connection.listAllDomains()] == ["db"]


def test_what_is_in_a_pool_that_is_off_and_blocked_waits_for_it(
    project: Project, connection: libvirt.virConnect
) -> None:
    connection.storagePoolDefineXML(
        f"<pool type='dir'><name>images</name><target><path>{FOLDER}/images</path></target></pool>"
    )
    project.write(pool(), volume("data"), machine("web", "data"))
    why = "it exists on the host, and this project does not own it"
    needs = f"needs pool/images, which is blocked: {why}"
    refused(
        project,
        {
            "pool/images": why,
            "volume/images/data": needs,
            "domain/web": f"needs volume/images/data, which is blocked: {needs}",
        },
    )


def test_a_machine_is_not_started_on_a_network_that_is_off_and_blocked(
    project: Project, connection: libvirt.virConnect
) -> None:
    connection.networkDefineXML("<network><name>lan</name></network>")
    lan, why = resource("Network", "lan"), "it exists on the host, and this project does not own it"
    on = [{"network": "lan"}]
    project.write(lan, machine("off", interfaces=on), machine("web", state="running", interfaces=on))
    refused(project, {"network/lan": why, "domain/web": f"needs network/lan, which is blocked: {why}"})
    assert [domain.name() for domain in connection.listAllDomains()] == ["off"]


def test_what_a_blocked_machine_would_let_go_of_is_in_use(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume("data"), volume("old", {"deletion": "delete"}), machine("web", "old"))
    lose(project, connection)
    project.write(pool(), volume("data"), machine("web", "data"))
    refused(
        project,
        {
            "volume/images/data": GONE,
            "domain/web": NEEDS_GONE,
            "volume/images/old": "in use by virtual machine web",
        },
    )
    assert project.path("images/old").exists()


def test_a_saved_plan_says_and_does_the_same(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), volume("data"))
    lose(project, connection)
    project.write(pool(), volume("data"), machine("web", "data"), machine("db"))
    saved = str(project.folder / "plan.json")
    assert project.plan("--out", saved).code == 2
    applied = kvmstate("apply", saved)
    assert applied.code == 1, applied
    assert "stale" not in applied.err, applied
    assert [domain.name() for domain in connection.listAllDomains()] == ["db"]
