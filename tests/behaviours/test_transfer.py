"""What one project owns is handed over to another, and has one owner at every moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import libvirt
import pytest
from harness import ROOT, Project, Run, idle, kvmstate, pool, resource

from kvmstate.kind.stamps import stamped_by

pytestmark = pytest.mark.real
YES = "--auto-approve"
LAN = resource("Network", "lan")
VM = idle("vm", interfaces=[{"network": "lan"}], state="running")


@pytest.fixture
def lab(project: Project, tmp_path: Path) -> Project:
    """Another project on the same host."""
    return Project(project.host, tmp_path / "lab", "lab")


def transfer(project: Project, *words: str) -> Run:
    return kvmstate("transfer", *words, "-C", str(project.folder), YES)


def stamps(connection: libvirt.virConnect) -> set[str]:
    """Those that say in their configuration that they are lab's."""
    found = [(d.name(), d.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)) for d in connection.listAllDomains()]
    found += [(n.name(), n.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)) for n in connection.listAllNetworks()]
    return {name for name, xml in found if stamped_by(xml) == "lab"}


def test_it_is_the_other_projects(project: Project, lab: Project, connection: libvirt.virConnect) -> None:
    project.converge(LAN, VM, pool(), resource("Volume", "v", pool="images", format="raw", capacity="1MiB"))
    number = connection.lookupByName("vm").ID()
    lab.write(VM)
    # the way there is named
    hint = "choose another name, or hand it over: `kvmstate transfer domain/vm --to lab` in the folder of project shop"
    assert f"hint: {hint}" in lab.plan().out
    done = transfer(project, "VirtualMachine/*", "network/lan", "--to", "lab")
    assert done.code == 0, done
    assert "domain/vm: shop -> lab" in done.out
    assert stamps(connection) == {"vm", "lan"}
    lab.converge(LAN, VM)
    planned = project.plan("--prune")
    for address in ("domain/vm", "network/lan"):
        assert f"{address} " in planned.out
    assert "it is owned by project lab" in planned.out
    # what is owned by lab is not deleted with shop
    project.write()
    assert project.kvmstate("destroy", YES).code == 0
    assert connection.lookupByName("vm").ID() == number
    assert lab.plan().code == 0
    # and back
    assert transfer(lab, "--all", "--to", "shop").code == 0
    assert stamps(connection) == set()
    project.converge(LAN, VM)
    assert connection.lookupByName("vm").ID() == number


def test_a_project_is_renamed(project: Project, connection: libvirt.virConnect) -> None:
    file = project.folder / "kvmstate.yaml"
    file.write_text(file.read_text() + "id: mine\n")
    project.converge(LAN, VM)
    file.write_text(file.read_text().replace("project: shop", "project: store"))
    assert "it is owned by project shop" in project.plan().out
    done = kvmstate("transfer", "--all", "--from", "shop", "--to", "store", "-C", str(project.folder), YES)
    assert done.code == 0, done
    assert project.plan().code == 0
    # the id has moved too
    file.write_text(file.read_text().replace("id: mine", "id: other"))
    assert "belongs to another project of this name: its id is mine" in project.plan().err
    assert not [s for s in connection.listAllSecrets() if s.usageID().startswith("kvmstate:shop:")]


def test_what_a_renamed_project_has_let_go_is_taken_up_by_its_new_name(
    project: Project, lab: Project, connection: libvirt.virConnect
) -> None:
    kept = resource("Volume", "kept", pool="images", format="raw", capacity="1MiB")
    project.converge(pool(), kept, LAN)
    project.converge(pool(), LAN, options=("--prune",))
    done = transfer(project, "--all", "--to", "lab")
    assert done.code == 0, done
    assert "volume/images/kept: shop -> lab   (released before; it stays on the host)" in done.out
    lab.write(pool(), kept, LAN)
    assert "it was left on the host, and is this project's again" in lab.plan().out
    lab.converge()
    project.write(pool(), kept, LAN)
    assert "it is owned by project lab" in project.plan().out


def test_a_project_with_nothing_but_what_it_has_let_go_is_renamed(
    project: Project, lab: Project, connection: libvirt.virConnect
) -> None:
    kept = resource("Volume", "kept", pool="images", format="raw", capacity="1MiB")
    project.converge(pool() | {"lifecycle": {"deletion": "orphan"}}, kept)
    project.write()
    assert project.kvmstate("destroy", YES).code == 0
    assert transfer(project, "--all", "--to", "lab").code == 0
    lab.converge(pool(), kept)
    assert transfer(project, "--all", "--to", "lab").code == 1


def test_what_is_refused(project: Project, lab: Project, tmp_path: Path) -> None:
    project.converge(LAN)
    file = lab.folder / "kvmstate.yaml"
    file.write_text(file.read_text() + "id: lab\n")
    (project.folder / "kvmstate.yaml").write_text((project.folder / "kvmstate.yaml").read_text() + "id: mine\n")
    project.converge()
    (tmp_path / "none" / ".git").mkdir(parents=True)
    for done, said in (
        (transfer(project, "--to", "lab"), "say what to hand over"),
        (transfer(project, "network/lan", "--all", "--to", "lab"), "say what to hand over"),
        (transfer(project, "network/lan", "--to", "shop"), "project shop is where they are already"),
        (transfer(project, "network/lann", "--to", "lab"), "did you mean network/lan?"),
        (transfer(project, "network/lan", "--to", "a b"), "letters, digits"),
        (transfer(lab, "--all", "--to", "shop"), "project lab owns nothing on this host"),
        # nobody takes what is not his by naming its owner
        (transfer(lab, "--all", "--from", "shop", "--to", "lab"), "belongs to another project of this name"),
        (
            kvmstate("transfer", "--all", "--to", "lab", "-c", project.uri, "-C", str(tmp_path / "none"), YES),
            "nothing says which project owns them",
        ),
    ):
        assert done.code == 1, done
        assert said in done.err, done
    assert project.plan().code == 0


KILLED = """
import os
from kvmstate.host import secrets
write, count = secrets.write, {count}
def counted(*args):
    global count
    if count == 0:
        os._exit(9)
    count -= 1
    write(*args)
secrets.write = counted
from kvmstate.cli import main
main()
"""


@pytest.mark.parametrize("count", range(5))
def test_a_kill_at_any_write(count: int, project: Project, lab: Project, connection: libvirt.virConnect) -> None:
    project.converge(LAN, VM)
    words = ["transfer", "--all", "--to", "lab", "-C", str(project.folder), YES]
    done = subprocess.run(
        [sys.executable, "-c", KILLED.replace("{count}", str(count)), *words],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == (9 if count < 4 else 0), done
    lab.write(LAN, VM)
    owners = [p for p in (project, lab) if p.plan().code == 0]
    assert owners == [project if count < 3 else lab]
    again = transfer(project, "domain/vm", "network/lan", "--to", "lab")
    assert again.code == 0, again
    assert stamps(connection) == {"vm", "lan"}
    lab.converge()
    assert "it is owned by project lab" in project.plan().out
