"""A volume that moves to another pool while its guest writes, in runs that are killed at each of their moments: the
machine is always on an image that is whole, and the next run brings it to the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Guest, Project, await_answer, await_old, resource, until
from trouble import kill_daemon
from writing import Writing

from kvmstate.sandbox import Sandbox

pytestmark = pytest.mark.real

# Right before each of these, or after it
MOMENTS = {
    "an empty volume is there": "snapshots.copy",
    "QEMU copies": "snapshots.finish_copy",
    "the machine has changed over": "move.Move.switch",
    "all is done but not recorded": "after move.Move.switch",
}
OFF = {
    "all is copied": "move.Move.copy",
    "nobody has written meanwhile": "move.Move.switch",
    "all is done but not recorded": "after move.Move.switch",
}
HANG = """
import time
from kvmstate.host import snapshots
from kvmstate.kinds.volume import move
real = {name}
def hang(*args):
    if {after}: real(*args)
    print("HERE", flush=True)
    time.sleep(600)
{name} = hang
"""


@pytest.fixture
def tiny(guest: Any, tmp_path: Path) -> Guest:
    return Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, tmp_path / "console.log")


class Moving:
    """The machine of `writing`, with its volume in one of two pools."""

    def __init__(self, project: Project, folder: Path, tiny: Guest, running: bool) -> None:
        self.vm = Writing(project, folder, tiny, 1, "raw", running)
        self.vm.build()
        self.project, self.connection = project, self.vm.connection
        self.places = {"chains": folder, "other": folder.with_name("other")}
        self.places["other"].mkdir()
        self.documents = list(project_documents(project))
        self.at = "chains"

    def move(self) -> str:
        """Have the manifests say the other pool, where nothing of it is yet."""
        to = next(name for name in self.places if name != self.at)
        for place in self.connection.listAllStoragePools():
            if place.name() == to and (left := [v for v in place.listAllVolumes() if v.name() == "vda.raw"]):
                left[0].delete()
        self.says(to)
        self.project.converge(options=("--target", f"pool/{to}"))
        return to

    def says(self, to: str) -> None:
        pools = [resource("StoragePool", n, type="dir", target={"path": str(p)}) for n, p in self.places.items()]
        self.project.write(*pools, *(said(each, to) for each in self.documents if each["kind"] != "StoragePool"))

    def killed(self, moment: str) -> None:
        name = moment.removeprefix("after ")
        process = self.project.start_apply(first=HANG.format(name=name, after=moment != name))
        until(lambda: "HERE" in self.project.log.read_text() or process.poll() is not None, moment)
        process.kill()
        process.wait()
        assert "HERE" in self.project.log.read_text(), self.project.log.read_text()

    def arrived(self, to: str) -> None:
        self.project.converge()
        flags = (0, libvirt.VIR_DOMAIN_XML_INACTIVE)
        where = f"<source file='{self.places[to]}/vda.raw'"
        assert all(where in self.vm.domain.XMLDesc(flag) for flag in flags)
        self.vm.now()
        self.at = to


def project_documents(project: Project) -> Any:
    import yaml

    return yaml.safe_load_all((project.folder / "manifests.yaml").read_text())


def said(document: dict[str, Any], to: str) -> dict[str, Any]:
    if document["kind"] == "Volume":
        return {**document, "spec": {**document["spec"], "pool": to}}
    if document["kind"] == "VirtualMachine":
        disks = [{**disk, "volume": f"{to}/vda.raw"} for disk in document["spec"]["disks"]]
        return {**document, "spec": {**document["spec"], "disks": disks}}
    return document


def test_a_volume_moves_while_its_guest_writes_whatever_is_killed(
    host: Sandbox, project: Project, folder: Path, tiny: Guest
) -> None:
    moving = Moving(project, folder, tiny, True)
    boot = moving.vm.boot()
    for moment in MOMENTS.values():
        to = moving.move()
        moving.killed(moment)
        moving.vm.more()
        moving.vm.now()
        if moment in ("snapshots.finish_copy", "move.Move.switch"):
            # who has thought better of it does not lose what was written since
            moving.says(moving.at)
            said = project.plan("--prune").out
            assert "was interrupted" in said, said
            project.apply("--prune")
            moving.vm.now()
            moving.says(to)
        moving.arrived(to)
        moving.vm.more()
        assert moving.vm.boot() == boot
    # libvirt's daemon is killed as well
    to = moving.move()
    moving.killed("snapshots.finish_copy")
    await_old(host)
    kill_daemon(host)
    await_answer(host)
    moving.vm.connection = libvirt.open(project.uri)
    moving.vm.domain = moving.vm.connection.lookupByName("vm")
    moving.connection = moving.vm.connection
    moving.vm.more()
    moving.arrived(to)
    # somebody stops it while QEMU copies: what it wrote is on the old one, and is copied from there
    to = moving.move()
    moving.killed("snapshots.finish_copy")
    moving.vm.more()
    moving.vm.domain.destroy()
    moving.project.converge()
    moving.vm.went_on(boot)
    moving.vm.more()
    moving.arrived(to)


def test_a_volume_moves_while_its_machine_is_off_whatever_is_killed(
    project: Project, folder: Path, tiny: Guest
) -> None:
    moving = Moving(project, folder, tiny, False)
    for moment in OFF.values():
        to = moving.move()
        moving.killed(moment)
        # who writes to it meanwhile does so where the machine is
        moving.vm.more()
        moving.arrived(to)
