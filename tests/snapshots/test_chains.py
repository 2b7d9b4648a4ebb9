"""What others have on a machine's files, and what this libvirt cannot do, is seen before anything is touched."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import libvirt_qemu
import pytest
from disks import DISK, MACHINE, qemu_img
from harness import await_answer, await_old, kvmstate

from kvmstate.doctor.chains import snapshots
from kvmstate.errors import HostError
from kvmstate.host import open_host
from kvmstate.host.objects import Domain
from kvmstate.sandbox import Sandbox
from kvmstate.snapshots import dropped, merge

if TYPE_CHECKING:
    from disks import Machine

pytestmark = pytest.mark.real


def test_a_snapshots_memory_comes_back_with_it(make: Callable[..., Machine]) -> None:
    vm = make(running=True)
    vm.write(10, 1)
    vm.done("create", "--name", "warm", "--memory")
    before = vm.contents()
    vm.write(20, 2)
    vm.domain.destroy()
    vm.done("revert", "warm", "--auto-approve")
    assert vm.domain.isActive()
    assert vm.contents() == before
    vm.done("delete", "warm", "--auto-approve")
    assert vm.contents() == before
    assert vm.files() == {"vda.qcow2"}


def test_what_a_killed_libvirtd_left_in_qemu_stands_in_no_snapshots_way(make: Callable[..., Machine]) -> None:
    vm = make(running=True)

    def qemu(command: str, **arguments: Any) -> Any:
        said = libvirt_qemu.qemuMonitorCommand(vm.domain, json.dumps({"execute": command, "arguments": arguments}), 0)
        return json.loads(said)["return"]

    nodes = [node["node-name"] for node in qemu("query-named-block-nodes")]
    last = max(int(found[1]) for node in nodes if (found := re.match(r"libvirt-(\d+)-", node)))
    for number in range(last + 1, last + 4):
        qemu("blockdev-add", **{"driver": "null-co", "node-name": f"libvirt-{number}-storage", "read-zeroes": True})
    vm.write(10, 1)
    before = vm.contents()
    vm.done("create", "--name", "one")
    assert vm.contents() == before
    vm.done("merge", "--auto-approve")
    assert vm.contents() == before


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_a_flattened_clone_needs_its_base_no_more(make: Callable[..., Machine], format_: str, running: bool) -> None:
    vm = make(format_=format_)
    base = vm.file("vda")
    vm.clone()
    if running:
        vm.domain.create()
    vm.write(30, 3)
    before = vm.contents()
    vm.done("flatten")
    assert vm.contents() == before
    assert "backing file:" not in qemu_img("info", "-U", vm.file("vda"))
    assert "no disk had layers" in vm.done("flatten").out
    assert Path(base).exists()


def test_no_overlay_is_readable_by_others(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    assert stat.S_IMODE((vm.folder / "vda.one.overlay").stat().st_mode) == 0o600


def test_a_clone_of_the_image_keeps_it_from_being_merged_into(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    qemu_img("create", "-f", "qcow2", "-b", vm.folder / "vda.qcow2", "-F", "qcow2", vm.folder / "clone.qcow2")
    files = vm.files()
    refused = vm.snapshot("delete", "one", "--auto-approve")
    assert refused.code == 1
    assert "volume chains/clone.qcow2 still needs" in refused.err
    assert vm.files() == files
    assert "clone.qcow2" in vm.done("tree").out


def test_another_machine_on_the_image_keeps_it_from_being_merged_into(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    disk = DISK.format(format="qcow2", path=vm.folder / "vda.qcow2", target="vda")
    vm.domain.connect().defineXML(MACHINE.format(name="other", disks=disk))
    refused = vm.snapshot("merge", "--auto-approve")
    assert refused.code == 1
    assert "virtual machine other still needs" in refused.err


def test_a_branch_is_deleted_before_what_it_grows_from(make: Callable[..., Machine]) -> None:
    vm = make()
    for number, name in enumerate(("one", "two"), 1):
        vm.write(number, number)
        vm.done("create", "--name", name)
    vm.done("revert", "one", "--auto-approve")
    before = vm.contents()
    refused = vm.snapshot("delete", "one", "--auto-approve")
    assert refused.code == 1
    assert "hint: delete two first" in refused.err
    vm.done("delete", "two", "one", "--auto-approve")
    assert vm.contents() == before
    assert vm.files() == {"vda.qcow2"}


@pytest.mark.parametrize("written", [False, True], ids=["empty", "written"])
def test_what_was_kept_for_a_branch_alone_goes_with_it(make: Callable[..., Machine], written: bool) -> None:
    vm = make()
    for name in ("one", "two", "three"):
        vm.done("create", "--name", name)
        if written:
            vm.write(len(name), len(name))
    vm.done("revert", "two", "--auto-approve")
    before = vm.contents()
    # what was written after it, which three needs, goes into the image for the others
    vm.done("delete", "one", "--auto-approve")
    assert "vda.one.overlay" in vm.files()
    vm.done("delete", "three", "--auto-approve")
    assert vm.contents() == before
    assert "vda.one.overlay" not in vm.files()
    vm.done("delete", "two", "--auto-approve")
    assert vm.contents() == before
    assert vm.files() == {"vda.qcow2"}
    assert dropped.read(Domain(vm.domain)) == frozenset()


def test_a_name_is_used_again_while_another_branch_has_the_file_that_had_it(make: Callable[..., Machine]) -> None:
    vm = make()
    for number, name in enumerate(("one", "two", "three"), 1):
        vm.write(number, number)
        vm.done("create", "--name", name)
    third = vm.contents()
    vm.done("revert", "two", "--auto-approve")
    vm.done("delete", "one", "--auto-approve")
    assert (vm.folder / "vda.one.overlay").exists()
    vm.done("create", "--name", "one")
    vm.done("revert", "three", "--auto-approve")
    assert vm.contents() == third
    vm.done("delete", "one", "three", "two", "--auto-approve")
    assert vm.contents() == third
    assert vm.files() == {"vda.qcow2"}


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
def test_an_overlay_whose_snapshot_was_never_noted_is_merged_with_the_next_one(
    make: Callable[..., Machine], running: bool
) -> None:
    """libvirtd was killed when QEMU had just laid it."""
    vm = make(running=running)
    vm.done("create", "--name", "one")
    vm.domain.snapshotLookupByName("one").delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    vm.write(20, 1)
    before = vm.contents()
    vm.done("create", "--name", "one")
    vm.write(30, 2)
    vm.done("revert", "one", "--auto-approve")
    assert vm.contents() == before
    vm.done("merge", "--auto-approve")
    assert vm.contents() == before
    assert vm.files() == {"vda.qcow2"}


def test_what_is_defined_follows_what_runs_when_libvirtd_died_between_both(make: Callable[..., Machine]) -> None:
    vm = make(running=True)
    vm.done("create", "--name", "one")
    vm.write(20, 1)
    overlay = vm.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    snapshot = vm.domain.snapshotLookupByName("one")
    described = snapshot.getXMLDesc()
    subprocess.run(["cp", vm.folder / "vda.one.overlay", vm.folder.parent / "kept"], check=True)
    vm.done("delete", "one", "--auto-approve")
    # as far as it had come
    subprocess.run(["cp", vm.folder.parent / "kept", vm.folder / "vda.one.overlay"], check=True)
    vm.domain.connect().defineXML(overlay)
    dropped.note(Domain(vm.domain), [str(vm.folder / "vda.one.overlay")])
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
    vm.domain.snapshotCreateXML(described, flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    vm.write(30, 1)
    latest = vm.contents()
    vm.done("delete", "one", "--auto-approve")
    assert vm.files() == {"vda.qcow2"}
    vm.domain.destroy()
    assert vm.contents() == latest


def test_a_block_job_of_somebody_else_is_left_alone(make: Callable[..., Machine]) -> None:
    vm = make(running=True)
    vm.write(5, 2)
    vm.done("create", "--name", "one")
    copy = f"<disk type='file'><source file='{vm.folder}/copy'/><driver type='qcow2'/></disk>"
    vm.domain.blockCopy("vda", copy, {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    refused = vm.snapshot("delete", "one", "--auto-approve")
    assert refused.code == 1
    assert "has a block job (copy) of somebody else" in refused.err
    assert vm.domain.blockJobInfo("vda", 0)
    vm.domain.blockJobAbort("vda", 0)
    vm.done("delete", "one", "--auto-approve")


def test_a_raw_image_that_looks_like_qcow2_is_raw(make: Callable[..., Machine]) -> None:
    """The guest wrote it, with the name of a file of the host as what lies below."""
    vm = make(format_="raw")
    secret = vm.folder / "secret.raw"
    secret.write_bytes(b"s" * 512)
    fake = vm.folder.parent / "fake"
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", fake, "1M")
    path = Path(vm.file("vda"))
    path.write_bytes(fake.read_bytes().ljust(1 << 20, b"\0"))
    vm.done("create", "--name", "one")
    chain = json.loads(vm.done("tree", "--json").out)["machines"][0]["disks"][0]["chain"]
    assert [image["path"] for image in chain] == [str(vm.folder / "vda.one.overlay"), str(path)]
    before = vm.contents()
    vm.done("merge", "--auto-approve")
    assert vm.contents() == before


def test_both_modes_on_one_machine_only_where_libvirt_loses_nothing(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    version = vm.domain.connect().getLibVersion()
    refused = vm.snapshot("create", "--mode", "internal", "--name", "two")
    assert refused.code == 1
    assert ("mixed" if version < 11_000_000 else "cannot revert internal") in refused.err


@pytest.mark.parametrize("running", [False, True], ids=["off", "running"])
def test_internal_snapshots_hold_qcow2_disks_where_libvirt_can_revert_them(
    make: Callable[..., Machine], running: bool
) -> None:
    vm = make(3, running=running)
    vm.write(10, 1)
    before = vm.contents()
    taken = vm.snapshot("create", "--mode", "internal", "--name", "one")
    if vm.domain.connect().getLibVersion() >= 11_002_000:
        assert "cannot revert internal snapshots" in taken.err
        return
    assert taken.code == 0, taken
    vm.write(20, 1)
    vm.done("revert", "one", "--auto-approve")
    assert vm.contents() == before
    vm.done("delete", "one", "--auto-approve")
    assert vm.contents() == before
    assert not vm.domain.listAllSnapshots()


def test_raw_disks_hold_no_internal_snapshots(make: Callable[..., Machine]) -> None:
    refused = make(format_="raw").snapshot("create", "--mode", "internal")
    assert refused.code == 1
    assert "disk vda of vm is raw" in refused.err


def test_what_the_configuration_has_gained_is_told_and_kept(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    nic = "<interface type='bridge'><mac address='52:54:00:00:00:07'/><source bridge='br0'/></interface>"
    vm.domain.attachDeviceFlags(nic, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    asked = vm.done("revert", "one", "--dry-run")
    assert "+ interface 52:54:00:00:00:07 br0" in asked.out
    vm.done("revert", "one", "--auto-approve")
    assert "52:54:00:00:00:07" in vm.domain.XMLDesc(0)


def test_a_snapshot_is_taken_of_some_disks(make: Callable[..., Machine]) -> None:
    vm = make(3)
    vm.done("create", "--name", "one", "--disk", "vdb")
    assert [Path(vm.file(target)).name for target in vm.targets] == ["vda.qcow2", "vdb.one.overlay", "vdc.qcow2"]
    vm.write(50, 5)
    before = vm.contents()
    vm.done("revert", "one", "--auto-approve")
    after = vm.contents()
    assert (after["vda"], after["vdc"]) == (before["vda"], before["vdc"])
    assert after["vdb"] != before["vdb"]


def test_a_chain_of_25_files_grows_no_more(make: Callable[..., Machine]) -> None:
    vm = make()
    below = vm.folder / "vda.qcow2"
    for number in range(24):
        path = vm.folder / f"vda.{number}.qcow2"
        qemu_img("create", "-f", "qcow2", "-b", below, "-F", "qcow2", path)
        below = path
    vm.switch(str(below))
    refused = vm.snapshot("create")
    assert refused.code == 1
    assert "has 25 files already" in refused.err
    assert "kvmstate snapshot merge vm" in refused.err


def test_a_missing_file_is_named_before_anything_is_done(make: Callable[..., Machine]) -> None:
    vm = make()
    for name in ("one", "two"):
        vm.done("create", "--name", name)
    vm.done("revert", "one", "--auto-approve")
    (vm.folder / "vda.one.overlay").unlink()
    refused = vm.snapshot("revert", "two", "--auto-approve")
    assert refused.code == 1
    assert "needs" in refused.err
    assert "vda.one.overlay, which is missing" in refused.err
    assert re.search(r"vda\.one\.overlay +missing", vm.done("tree").out)
    (found,) = diagnosed(vm)
    assert found.startswith("error: snapshot two of virtual machine vm needs ")
    vm.done("delete", "two", "--auto-approve")
    assert diagnosed(vm) == ["ok: virtual machine vm: 1 snapshots, no file is missing"]


def test_what_a_dead_run_has_left_is_found_and_goes_with_the_next_command(make: Callable[..., Machine]) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    left, other = vm.folder / "vda.one~2.overlay", vm.folder / "vda.mine.overlay"
    for path in (left, other):
        qemu_img("create", "-f", "qcow2", "-b", vm.folder / "vda.qcow2", "-F", "qcow2", path)
    subprocess.run(["qemu-io", "-c", "write -q -P 9 512k 64k", other], check=True)
    data = "warning: volume chains/vda.mine.overlay holds data that no disk uses: it lies on chains/vda.qcow2"
    left_over = "warning: volume chains/vda.one~2.overlay is left from a run on vm that was cut off"
    assert diagnosed(vm) == [left_over, data]
    vm.done("revert", "one", "--auto-approve")
    assert diagnosed(vm) == [data]
    assert other.exists(), "it may be somebody's data"


def diagnosed(vm: Machine) -> list[str]:
    with open_host(vm.uri) as opened:
        return [f"{found.severity.value}: {found.what}" for found in snapshots(opened)]


def test_a_libvirtd_killed_in_the_middle_of_a_merge_is_no_more_than_a_delay(
    host: Sandbox, make: Callable[..., Machine]
) -> None:
    vm = make()
    vm.write(10, 1)
    vm.done("create", "--name", "one")
    vm.write(20, 2)
    before = vm.contents()

    pid = await_old(host)
    with open_host(vm.uri) as opened, pytest.raises(HostError):
        merge.delete(opened, "vm", "one", progress=lambda *_: os.kill(pid, signal.SIGKILL))
    await_answer(host)
    vm.domain = libvirt.open(vm.uri).lookupByName("vm")
    assert vm.domain.isActive(), "libvirt has forgotten to end it"
    vm.done("delete", "one", "--auto-approve")
    assert not vm.domain.isActive()
    assert vm.contents() == before
    assert vm.files() == {"vda.qcow2"}


def test_a_machine_is_imported_without_its_snapshots_files(make: Callable[..., Machine], tmp_path: Path) -> None:
    vm = make()
    vm.done("create", "--name", "one")
    imported = kvmstate("import", "--all", "-c", vm.uri, "--output", str(tmp_path / "lab"))
    assert imported.code == 0, imported
    manifests = {path.name: path.read_text() for path in (tmp_path / "lab").rglob("*.yaml")}
    assert not [name for name in manifests if "overlay" in name]
    assert not [text for text in manifests.values() if ".overlay" in text]
    planned = kvmstate("plan", "--detailed-exitcode", str(tmp_path / "lab"), "-c", vm.uri)
    assert planned.code == 0, planned


@pytest.mark.parametrize(
    ("firmware", "loader"),
    [
        ("", "<loader readonly='yes' type='pflash'>{file}</loader><nvram>{file}.vars</nvram>"),
        ("", "<loader type='rom'>{file}</loader>"),
        (" firmware='efi'", ""),
    ],
    ids=["pflash", "rom", "efi"],
)
def test_internal_snapshots_of_uefi_machines_only_where_libvirt_keeps_their_variables(
    make: Callable[..., Machine], firmware: str, loader: str
) -> None:
    vm = make()
    version = vm.domain.connect().getLibVersion()
    file = vm.folder / "firmware.raw"
    file.write_bytes(bytes(1 << 20))
    os_ = f"<os{firmware}><type machine='q35'>hvm</type>{loader.format(file=file)}</os><features><acpi/></features>"
    disk = DISK.format(format="qcow2", path=vm.file("vda"), target="vda")
    text = MACHINE.format(name="vm", disks=disk).replace("<os><type>hvm</type></os>", os_)
    text = text.replace("<name>", f"<uuid>{vm.domain.UUIDString()}</uuid><name>", 1)
    vm.domain.connect().defineXML(text)
    refused = vm.snapshot("create", "--mode", "internal")
    if "rom" in loader and version < 11_002_000:
        assert refused.code == 0, refused
        return
    assert refused.code == 1
    assert ("boots by UEFI" if version < 10_009_000 else "cannot revert internal snapshots") in refused.err
    assert "take an external one (--mode external)" in refused.err
    vm.done("create", "--name", "outside")
    vm.done("revert", "outside", "--auto-approve")


def test_the_tree_has_what_follows_below_and_indents_branches_only(make: Callable[..., Machine]) -> None:
    vm = make()
    for name in ("a", "b"):
        vm.done("create", "--name", name)
    vm.done("revert", "a", "--auto-approve")
    for name in ("c", "d"):
        vm.done("create", "--name", name)
    drawn = re.sub(r" +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ| +qcow2, \d+ KiB of \d+ MiB", "", vm.done("tree").out)
    assert drawn.splitlines() == [
        "vm (stopped)",
        "  snapshots:",
        "    a",
        "    ├─ b",
        "    └─ c",
        "       d  <- current",
        f"  vda:  {vm.folder}, each file on the one above",
        "    vda.qcow2  = snapshot a",
        "    ├─ vda.a.overlay  = snapshot b",
        "    └─ vda.a~2.overlay  = snapshot c",
        "       vda.c.overlay  = snapshot d",
        "       vda.d.overlay  <- in use",
    ]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a"), ("c", "a", "b")])
def test_snapshots_are_deleted_in_whatever_order_they_are_named(
    make: Callable[..., Machine], names: tuple[str, ...]
) -> None:
    vm = make()
    for number, name in enumerate("abc"[: len(names)], 2):
        vm.done("create", "--name", name)
        vm.write(10 * number, number)
    vm.done("revert", "a", "--auto-approve")
    vm.write(90, 6)
    before = vm.contents()
    vm.done("delete", *names, "--auto-approve")
    assert vm.contents() == before
    assert vm.domain.snapshotNum() == 0
    assert vm.files() == {"vda.qcow2"}


@pytest.mark.parametrize(
    "device",
    [
        "<interface type='network'><source network='away'/></interface>",
        "<interface type='bridge'><source bridge='nobodys'/></interface>",
        "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0xee' slot='0' function='0'/></source>"
        "</hostdev>",
    ],
    ids=["network that is stopped", "bridge that is gone", "device that is gone"],
)
def test_a_machine_that_could_not_start_is_merged(device: str, make: Callable[..., Machine]) -> None:
    vm = make()
    connection = vm.domain.connect()
    connection.networkDefineXML("<network><name>away</name></network>")
    vm.done("create", "--name", "one")
    vm.write(10, 1)
    before = vm.contents()
    vm.domain.attachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    defined = vm.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    vm.done("merge", "--auto-approve")
    assert vm.contents() == before
    assert vm.files() == {"vda.qcow2"}
    # but for the file of its disk and empty elements
    after = vm.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    own = r"<source file='[^']*'[^>]*/>|\s*<metadata/>|\s*<backingStore/>"
    assert re.sub(own, "", after) == re.sub(own, "", defined)
