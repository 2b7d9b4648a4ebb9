"""What a snapshot holds of what a guest has in memory only: with its agent, without one, and with one that hangs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest
from disks import qemu_img
from harness import Guest, Project, Run, kvmstate, resource, until, wipe

from kvmstate.sandbox import Sandbox
from kvmstate.xmlbind import document

pytestmark = pytest.mark.real

# The channel is there, and nothing in the guest has opened it
ABSENT = """<domain type='qemu'><name>absent</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>"""


class Noting:
    """A machine whose guest writes numbered notes that stay in its memory (see script/guest-init)."""

    def __init__(self, project: Project, folder: Path, tiny: Guest) -> None:
        self.project, self.folder, self.tiny = project, folder, tiny
        project.converge(
            resource("StoragePool", "chains", type="dir", target={"path": str(folder)}),
            resource("Volume", "vda.qcow2", pool="chains", format="qcow2", capacity="32MiB"),
            tiny.machine("vm", disks=[{"name": "vda", "volume": "chains/vda.qcow2"}], guestAgent=True),
        )
        self.domain: Any = libvirt.open(project.uri).lookupByName("vm")
        until(lambda: self.agent("guest-ping"), "the agent answers")
        # what is noted from now on counts
        self.domain.fsFreeze()
        self.domain.fsThaw()

    def agent(self, command: str, **arguments: Any) -> Any:
        text = json.dumps({"execute": command, "arguments": arguments})
        try:
            return libvirt_qemu.qemuAgentCommand(self.domain, text, 5, 0)
        except libvirt.libvirtError:
            return None

    def create(self, name: str, quiesce: str) -> Run:
        return create(self.project, "vm", name, quiesce)

    def noted(self) -> int:
        """The last note that the guest has told of; it goes on."""
        numbers = re.findall(r"guest: noted (\d+)\n", self.tiny.said())
        return int(numbers[-1]) if numbers else 0

    def more(self) -> int:
        before = self.noted()
        until(lambda: self.noted() >= before + 3, f"the guest goes on: {self.tiny.said()[-500:]}")
        return self.noted()

    def held(self, snapshot: str) -> int:
        """The last note that is in the snapshot's image."""
        xml = document(self.domain.snapshotLookupByName(snapshot).getXMLDesc())
        source = xml.find("domain/devices/disk/source")
        assert source is not None
        path = source.get("file")
        out = self.folder.parent / "read.raw"
        qemu_img("convert", "-U", "-O", "raw", path, out)
        return max(int(number) for number in re.findall(rb"note (\d+)\n", out.read_bytes()))


def create(project: Project, machine: str, name: str, quiesce: str) -> Run:
    return kvmstate("snapshot", "create", machine, "--name", name, "--quiesce", quiesce, "-c", project.uri)


@pytest.fixture
def vm(host: Sandbox, guest: Any, tmp_path: Path) -> Any:
    (tmp_path / "chains").mkdir()
    initrd = str(guest.initrd.with_name("initrd-agent"))
    tiny = Guest({"path": str(guest.vmlinuz), "initrd": initrd}, tmp_path / "console.log")
    try:
        yield Noting(Project(host, tmp_path / "shop"), tmp_path / "chains", tiny)
    finally:
        wipe(host.uri)


def test_what_a_guest_has_in_memory_is_in_a_snapshot_when_its_agent_freezes_it(vm: Noting) -> None:
    for quiesce in ("required", "preferred"):
        before = vm.more()
        assert vm.create(quiesce, quiesce).code == 0
        # it goes on: nothing is left frozen
        assert before <= vm.held(quiesce) <= vm.more()
    last = vm.held("preferred")
    assert vm.create("no", "no").code == 0
    assert vm.held("no") == last < vm.more()

    # the agent stops itself, as one does whose guest has no time for it
    vm.agent("guest-exec", path="/bin/killall", arg=["-STOP", "qemu-ga"])
    until(lambda: not vm.agent("guest-ping"), "the agent hangs")
    vm.domain.agentSetResponseTimeout(1, 0)
    files = {path.name for path in vm.folder.iterdir()}
    refused = vm.create("hanging", "required")
    assert refused.code == 1
    assert "agent" in refused.err
    assert {path.name for path in vm.folder.iterdir()} == files
    taken = vm.create("hanging", "preferred")
    assert taken.code == 0, taken
    assert "the snapshot is crash-consistent, as after a power cut" in taken.err
    assert vm.held("hanging") == last < vm.more()
    assert kvmstate("snapshot", "merge", "vm", "--auto-approve", "-c", vm.project.uri).code == 0


def test_without_an_agent_it_is_as_after_a_power_cut_or_not_taken(
    connection: libvirt.virConnect, folder: Path, host: Sandbox
) -> None:
    path = folder / "vda.qcow2"
    qemu_img("create", "-f", "qcow2", path, "1M")
    connection.defineXML(ABSENT.format(path=path)).create()

    def taken(quiesce: str) -> Run:
        return kvmstate("snapshot", "create", "absent", "--name", quiesce, "--quiesce", quiesce, "-c", host.uri)

    refused = taken("required")
    assert refused.code == 1
    assert "no guest agent answers in absent" in refused.err
    assert [file.name for file in folder.iterdir()] == ["vda.qcow2"]
    preferred = taken("preferred")
    assert preferred.code == 0, preferred
    assert "no guest agent answers in absent: the snapshot is crash-consistent, as after a power cut" in preferred.err
    assert taken("no").code == 0
