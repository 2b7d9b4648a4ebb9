"""The host's record of what a project owns may be lost or damaged: nothing is touched, and adopt makes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, pool, resource

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
    assert project.kvmstate("adopt", "--auto-approve").code == 0
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
    assert other.kvmstate("adopt", "--auto-approve").code == 0, "what shop has let go is free"
    assert other.plan().code == 0
