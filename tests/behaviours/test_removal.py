"""What leaves the manifests: pruned or kept as the lifecycle says, and never by accident."""

from __future__ import annotations

import libvirt
import pytest
from harness import Project, idle, pool, resource

pytestmark = pytest.mark.real


def network(name: str, **lifecycle: object) -> dict:
    return resource("Network", name, lifecycle)


def names(connection: libvirt.virConnect) -> set[str]:
    return {network.name() for network in connection.listAllNetworks()}


def test_without_prune_it_stays_and_the_plan_says_so(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(network("kept"), network("left"))
    project.write(network("kept"))
    planned = project.plan()
    assert planned.code == 0
    assert "network/left" in planned.out
    assert "removed from the manifests; --prune deletes it" in planned.out
    project.apply()
    assert names(connection) == {"kept", "left"}


def test_prune_deletes_what_left(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(network("kept"), network("left"))
    project.converge(network("kept"), options=("--prune",))
    assert names(connection) == {"kept"}


def test_prune_of_the_project_file_counts_as_the_option(project: Project, connection: libvirt.virConnect) -> None:
    with (project.folder / "kvmstate.yaml").open("a") as file:
        file.write("prune: true\n")
    project.converge(network("kept"), network("left"))
    project.converge(network("kept"))
    assert names(connection) == {"kept"}


def test_orphans_stay_and_are_forgotten(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(network("kept"), network("left", deletion="orphan"))
    project.write(network("kept"))
    assert "1 to release" in project.plan("--prune").out
    project.converge(options=("--prune",))
    assert names(connection) == {"kept", "left"}
    assert "network/left" not in project.plan("--prune").out


def test_volumes_are_orphaned_unless_their_manifest_says_delete(project: Project) -> None:
    project.converge(
        pool(),
        resource("Volume", "data", pool="images", capacity="1MiB"),
        resource("Volume", "scratch", {"deletion": "delete"}, pool="images", capacity="1MiB"),
    )
    project.converge(pool(), options=("--prune",))
    assert project.path("images/data").exists()
    assert not project.path("images/scratch").exists()


def test_deleting_a_pool_leaves_its_folder_and_what_is_in_it(project: Project) -> None:
    project.converge(pool(), resource("Volume", "data", pool="images", capacity="1MiB"), network("kept"))
    project.converge(network("kept"), options=("--prune",))
    assert project.path("images/data").exists()


def test_prevent_destroy_outlives_its_manifest(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(network("kept"), network("dear", preventDestroy=True), network("left"))
    project.write(network("kept"))
    applied = project.apply("--prune")
    assert applied.code == 1
    assert "blocked: preventDestroy forbids deleting it" in applied.out
    assert "hint: take preventDestroy out of its manifest and apply, then remove it" in applied.out
    assert names(connection) == {"kept", "dear"}
    project.kvmstate("destroy", "--auto-approve")
    assert names(connection) == {"dear"}
    project.converge(network("dear"))
    project.kvmstate("destroy", "--auto-approve")
    assert names(connection) == set()


def test_more_deletes_than_meant_are_refused(project: Project, connection: libvirt.virConnect) -> None:
    many = [resource("Network", f"n{i}", active=False) for i in range(4)]
    project.converge(*many)
    project.write(many[0])
    applied = project.apply("--prune", "--max-deletes", "2")
    assert applied.code == 1
    assert "error: 3 resources would be deleted, more than --max-deletes 2" in applied.err
    assert "hint: if that is meant, say --max-deletes 3" in applied.err
    assert len(names(connection)) == 4
    project.converge(options=("--prune", "--max-deletes", "3"))
    assert names(connection) == {"n0"}


def test_empty_manifests_delete_everything_only_when_told(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(network("one"))
    project.write()
    applied = project.apply("--prune")
    assert applied.code == 1
    assert "error: the manifests are empty, and 1 resources would be deleted" in applied.err
    assert names(connection) == {"one"}
    project.converge(options=("--prune", "--allow-empty"))
    assert names(connection) == set()


def test_ignored_changes_are_left_alone_by_other_changes_too(project: Project, connection: libvirt.virConnect) -> None:
    lifecycle = {"ignoreChanges": ["cpus", "interfaces[lan].link", "description"]}

    def machine(memory: str) -> dict:
        nic = {"network": "lan", "mac": "52:54:00:00:00:01", "link": "up"}
        spec = {"state": "stopped", "cpus": 2, "interfaces": [nic], "description": "as made"}
        return resource("VirtualMachine", "web", lifecycle, memory=memory, **spec)

    project.converge(network("lan"), machine("64MiB"))
    domain = connection.lookupByName("web")
    by_hand = domain.XMLDesc().replace("<vcpu placement='static'>2<", "<vcpu placement='static'>3<")
    by_hand = by_hand.replace("<link state='up'/>", "<link state='down'/>").replace("as made", "by hand")
    connection.defineXML(by_hand)
    assert project.plan().code == 0
    project.converge(network("lan"), machine("32MiB"))
    after = domain.XMLDesc()
    assert domain.maxMemory() == 32 * 1024
    assert domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG | libvirt.VIR_DOMAIN_VCPU_MAXIMUM) == 3
    assert "<link state='down'/>" in after
    assert "by hand" in after


def test_a_machine_that_will_not_stop_keeps_what_it_uses(project: Project, connection: libvirt.virConnect) -> None:
    volume = resource("Volume", "data", pool="images", capacity="1MiB")
    disks = [{"name": "root", "volume": "images/data"}]
    machine = idle("web", {"stop": {"timeout": "1s"}}, disks=disks, interfaces=[{"network": "lan"}])
    project.converge(pool(), volume, network("lan"), network("other"), machine)
    destroyed = project.kvmstate("destroy", "--auto-approve")
    assert destroyed.code == 1
    assert "error: domain/web: the guest did not shut down within 1 s" in destroyed.out
    assert "Resources: 0 added, 0 changed, 1 destroyed, 1 failed, 3 skipped." in destroyed.out
    assert names(connection) == {"lan"}
    assert [pool.name() for pool in connection.listAllStoragePools()] == ["images"]
    assert project.todo() == {"create": 1}
    # powered off by hand, all of it goes
    connection.lookupByName("web").destroy()
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert names(connection) == set()
    assert project.path("images/data").exists()
