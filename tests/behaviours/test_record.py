"""The host's record of what a project owns may be lost or damaged: nothing is touched, and adopt creates it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, pool, resource

from kvmstate.app import Writing, open_session
from kvmstate.plan import Options

pytestmark = pytest.mark.real

LAN = resource("Network", "lan", active=False)
MACHINE = resource("VirtualMachine", "web", memory="64MiB", state="stopped")
VOLUME = resource("Volume", "data", pool="images", capacity="1MiB")
ALL = (LAN, MACHINE, pool(), VOLUME)


def records(connection: libvirt.virConnect) -> dict[str, Any]:
    return {secret.usageID(): secret for secret in connection.listAllSecrets()}


def test_a_lost_record_is_noticed_and_adopt_makes_it_anew(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(*ALL, resource("Network", "gone", active=False))
    project.write(*ALL)
    records(connection)["kvmstate:shop:0"].undefine()
    planned = project.plan()
    assert planned.code == 2
    assert "blocked: it carries this project's stamp, but the host has no record" in planned.out
    assert "note: the host has no record of what project shop owns, but its stamp is on domain/web, " in planned.out
    assert "network/gone" in planned.out
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    assert project.plan().code == 0
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert [network.name() for network in connection.listAllNetworks()] == ["gone"], "nobody's, by the record"


def test_a_damaged_record_stops_everything_but_adopt_which_keeps_it_aside(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(*ALL)
    records(connection)["kvmstate:shop:0"].setValue(b"rubbish")
    for command in ("plan", "apply", "destroy", "drift", "status"):
        done = project.kvmstate(command)
        assert done.code == 1
        assert "error: the record of what project shop owns here is damaged" in done.err
        assert "hint: nothing was changed; `kvmstate adopt`" in done.err
    adopted = project.kvmstate("adopt", "--auto-approve")
    assert adopted.code == 0
    assert "note: part 0 of the record is damaged and will be kept as kvmstate:shop:damaged-0-" in adopted.out
    assert project.plan().code == 0
    aside = [secret for name, secret in records(connection).items() if ":damaged-0-" in name]
    assert [secret.value() for secret in aside] == [b"rubbish"]


def test_what_another_project_owns_is_named_and_never_adopted(
    project: Project, tmp_path: Path, connection: libvirt.virConnect
) -> None:
    other = Project(project.host, tmp_path / "other", "other")
    project.converge(*ALL)
    other.write(*ALL)
    planned = other.plan()
    assert planned.out.count("blocked: it is owned by project shop\n") == 4
    assert other.kvmstate("adopt", "--auto-approve").code == 1
    assert project.plan().code == 0
    kept = [{**document, "lifecycle": {"deletion": "orphan"}} for document in ALL]
    project.converge(*kept)
    project.write()
    project.converge(options=("--prune", "--allow-empty"))
    assert other.kvmstate("adopt", "--auto-approve").code == 0, "what shop has released is free"
    assert other.plan().code == 0


def test_what_could_not_be_deleted_stays_on_the_record(project: Project, connection: libvirt.virConnect) -> None:
    scratch = resource("Volume", "scratch", {"deletion": "delete"}, pool="images", format="raw", capacity="1MiB")
    project.converge(pool(), scratch)
    path = "/var/lib/libvirt/behaviours/images/scratch"
    disk = f"<disk type='file'><source file='{path}'/><target dev='vda'/></disk>"
    text = f"<name>theirs</name><memory>65536</memory><os><type>hvm</type></os><devices>{disk}</devices>"
    other = connection.defineXML(f"<domain type='qemu'>{text}</domain>")
    project.write(pool())
    failed = project.apply("--prune")
    assert failed.code == 1
    assert "in use by virtual machine theirs" in failed.out
    assert project.path("images/scratch").exists()
    other.undefine()
    project.converge(options=("--prune",))
    assert not project.path("images/scratch").exists()


def test_an_object_that_took_the_place_of_the_one_in_the_plan_is_not_deleted(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(LAN)
    options = Options(prune=True, allow_empty=True)
    with open_session(project.host.uri, project.name, [], writing=Writing("apply")) as session:
        plan = session.plan(options)
        connection.networkLookupByName("lan").undefine()
        connection.networkDefineXML("<network><name>lan</name></network>")
        result = session.apply(plan, options, lambda event: None)
    assert [str(error).split("\n")[0] for _, error in result.failed] == [
        "network/lan is not the object it was when the plan was made"
    ]
    assert [network.name() for network in connection.listAllNetworks()] == ["lan"]
    assert "another object of this name has taken its place" in project.kvmstate("destroy", "--auto-approve").out
    assert [network.name() for network in connection.listAllNetworks()] == ["lan"]
