"""A machine moves to another host with its project, while it counts, and back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import libvirt
import pytest
from conftest import DOCUMENTED, Pair
from harness import await_old, idle, kvmstate, resource, until

from kvmstate.errors import HostError
from kvmstate.host import migrations
from kvmstate.host.faults import faults
from kvmstate.host.migrations import Place
from kvmstate.host.objects import Domain
from kvmstate.model.resource import ResourceId

pytestmark = pytest.mark.real

assert [" ".join(line.split()[5:]) for line in DOCUMENTED] == ["", "--copy-storage", "--check", "--undo"]
LAN = resource("Network", "lan")
WEB = ResourceId("domain", "web")


def test_a_running_machine_moves_to_a_host_that_sees_its_disks_and_back(pair: Pair) -> None:
    project = pair.project
    machine = pair.machine(
        "shared",
        autostart=True,
        interfaces=[{"name": "one", "network": "lan"}],
        # each host's record has a hash of its own
        graphics=[{"type": "vnc", "password": {"clear": "secret"}}],
        cloudInit={"userData": {"password": "secret"}},
    )
    pair.stage(pair.pool("shared"))
    project.converge(LAN, pair.pool("shared"), *machine)
    until(pair.counts, "it counts")

    checked = pair.typed("--check")
    assert checked.code == 1, checked
    assert "there is no network lan" in checked.out
    refused = pair.migrate()
    assert "there is no network lan" in refused.err, refused
    assert pair.states == ("running", "")
    pair.stage(pair.pool("shared"), LAN)

    boot = pair.guest.boot()
    # by the names that the hosts call themselves, which nobody resolves here
    unreached = kvmstate("vm", "migrate", "web", pair.there, "-C", str(project.folder))
    assert unreached.code == 1, unreached
    assert "Unable to resolve address" in unreached.err
    assert "--migrate-uri tcp://ADDRESS" in unreached.err
    done = pair.typed()
    assert done.code == 0, done
    assert "stood still for" in done.out
    assert "moves it back" in pair.typed("--check").err
    assert "it had moved by then" in pair.typed("--undo").out
    assert pair.states == ("", "running")
    by_now = pair.counts()
    until(lambda: pair.counts() > by_now, "it goes on there")
    assert pair.guest.boot() == boot

    # what it left does not make it once more, and the other host's project has it
    assert "has been moved to" in project.plan().out
    assert project.apply().code == 0
    assert pair.states == ("", "running")
    there = project.kvmstate("status", "-c", pair.there, "--json")
    assert '"domain/web"' in there.out
    assert project.plan("-c", pair.there, "--target", "domain/web", "--exclude", "pool/*").code == 0
    drift = kvmstate("drift", "-c", pair.there, "--project", "shop")
    assert drift.code == 0, drift
    connection = libvirt.open(pair.there)
    assert connection.lookupByName("web").autostart()
    connection.close()
    again = pair.migrate()
    assert again.code == 0, again

    # another name does not make it once more, empty
    (project.folder / "kvmstate.yaml").write_text(
        (said := (project.folder / "kvmstate.yaml").read_text()) + "moved: [{from: domain/web, to: domain/shop}]\n"
    )
    renamed = {**machine[0], "metadata": {"name": "shop"}}
    project.write(LAN, pair.pool("shared"), renamed)
    planned = project.plan().out
    assert planned.count("domain/web, which it is by its new name, is on another host") == 3, planned
    (project.folder / "kvmstate.yaml").write_text(said)
    project.write(LAN, pair.pool("shared"), *machine)

    back = pair.migrate(back=True)
    assert back.code == 0, back
    assert pair.states == ("running", "")
    assert project.plan().code == 0
    assert not list(pair.shared.glob(".kvmstate*"))
    by_now = pair.counts()
    until(lambda: pair.counts() > by_now, "it goes on here")


def test_disks_are_copied_while_it_runs_and_while_it_is_off(pair: Pair, tmp_path: Path) -> None:
    project = pair.project
    data, iso = random.Random(7).randbytes(3_000_000), random.Random(8).randbytes(400_000)
    (tmp_path / "data").write_bytes(data + bytes(1 << 20))
    (tmp_path / "iso").write_bytes(iso)
    disks = [
        {"name": "root", "create": {"pool": "images", "capacity": "32MiB", "format": "qcow2"}},
        {"name": "data", "create": {"pool": "images", "format": "qcow2", "content": {"file": str(tmp_path / "data")}}},
        {"name": "iso", "readOnly": True, "create": {"pool": "images", "content": {"file": str(tmp_path / "iso")}}},
    ]
    disks[1]["create"]["format"] = disks[2]["create"]["format"] = "raw"  # type: ignore[index]
    # the same name, and another place
    elsewhere = resource("StoragePool", "images", type="dir", target={"path": "/var/lib/libvirt/behaviours/elsewhere"})
    pair.stage(elsewhere)
    project.converge(pair.pool("images"), *pair.machine("images", disks=disks, options=""))
    pair.guest.says("disks=vda")

    assert "not on storage that both hosts see" in pair.migrate().err
    # cancelled while its memory is sent: nothing is left there
    process = pair.start("--copy-storage", "--bandwidth=8")
    until(lambda: "moving domain/web" in pair.log.read_text(), "it is being moved")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, pair.log.read_text()
    assert pair.states == ("running", "")
    here, there = (host.directory / "lib" / "behaviours" for host in (project.host, pair.other))
    assert list((there / "elsewhere").iterdir()) == []
    assert pair.entries(pair.there) == {}
    assert project.plan().code == 0

    done = pair.typed("--copy-storage")
    assert done.code == 0, done
    assert pair.states == ("", "running")
    assert "volume/images/web-data is left on" in done.out
    for volume, content in (("web-data", data), ("web-iso", iso)):
        for folder in (here / "images", there / "elsewhere"):
            assert (folder / volume).read_bytes()[: len(content)] == content, volume
    assert project.apply().code == 0
    # never two: what is left is older
    stands = pair.migrate("--copy-storage", back=True).err
    assert "not the same one" in stands
    assert "a move has left it there" in stands
    for path in (here / "images").iterdir():
        path.unlink()
    connection = libvirt.open(pair.there)
    connection.lookupByName("web").destroy()
    connection.close()
    back = pair.migrate("--copy-storage", back=True)
    assert back.code == 0, back
    assert pair.states == ("off", "")
    assert (here / "images" / "web-data").read_bytes()[: len(data)] == data
    subprocess.run(["qemu-img", "check", "-q", here / "images" / "web-root.qcow2"], check=True)
    project.converge()


def test_all_that_would_not_work_is_told_at_once(pair: Pair, connection: libvirt.virConnect) -> None:
    project = pair.project
    kernel = project.host.directory / "lib" / "behaviours" / "vmlinuz"
    kernel.parent.mkdir()
    kernel.write_bytes(b"")
    machine = idle(
        "web",
        state="stopped",
        kernel={"path": "/var/lib/libvirt/behaviours/vmlinuz"},
        disks=[{"name": "root", "create": {"pool": "images", "format": "qcow2", "capacity": "1MiB"}}],
        interfaces=[{"name": "one", "network": "lan", "filterref": {"filter": "own"}}],
    )
    own = resource("NetworkFilter", "own", rules=[{"action": "drop", "direction": "in", "all": {}}])
    pair.stage(idle("web", state="stopped"))
    project.converge(LAN, pair.pool("images"), own, machine)
    connection.lookupByName("web").snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")

    told = pair.migrate("--check")
    assert told.code == 1, told
    for what in (
        "has another machine web",
        "it has snapshots, which do not move with it: before",
        "there is no network lan",
        "there is no network filter own",
        "has no file /var/lib/libvirt/behaviours/vmlinuz",
        "there is no storage pool images",
    ):
        assert what in told.out, told
    refused = pair.migrate()
    assert refused.code == 1
    assert "it would not work:\n- " in refused.err
    assert pair.entries(pair.here)[ResourceId("domain", "web")].migration is None
    for options, said in (
        (["--tunnelled", "--copy-storage"], "tunnels memory only"),
        (["--tunnelled", "--direct"], "--direct"),
        (["--tls", "--tunnelled"], "choose one of them"),
    ):
        assert said in pair.migrate("--check", *options).out
    assert (
        "is the host that domain/web is on"
        in kvmstate("vm", "migrate", "web", pair.here, "-C", str(project.folder)).err
    )


def test_a_machine_that_both_hosts_run_stays_where_it_was(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libvirt does when a libvirtd is killed after it has started the guest, and before it has said so."""
    project = pair.project
    disk = {"name": "root", "create": {"pool": "images", "capacity": "1MiB"}}
    pair.stage(pair.pool("images"))
    project.converge(pair.pool("images"), idle("web", disks=[disk]))
    pid = await_old(pair.other)

    def send(domain: Domain, target: libvirt.virConnect, *args: Any) -> None:
        target.defineXML(domain.raw.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)).create()
        assert pair.states == ("running", "running")
        os.kill(pid, signal.SIGKILL)
        with faults():
            while True:
                target.getVersion()

    with monkeypatch.context() as patched:
        patched.setattr(migrations, "send", send)
        lost = pair.migrate("--copy-storage")
    assert lost.code == 1, lost
    assert "waiting for both hosts" in lost.err
    assert f"domain/web goes on on {pair.here}: ending the one on {pair.there}" in lost.err
    assert f"domain/web stays on {pair.here}: the move was cut off" in lost.err
    assert pair.states == ("running", "")
    assert pair.entries(pair.there) == {}
    assert list((pair.other.directory / "lib/behaviours/images").iterdir()) == []
    assert project.plan().code == 0
    assert pair.migrate("--copy-storage").code == 0
    assert pair.states == ("", "running")


def test_a_call_that_libvirt_gives_up_is_made_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while a libvirtd that was killed takes up its domains."""
    pair.stage(pair.pool("shared"))
    disk = {"name": "root", "create": {"pool": "shared", "capacity": "1MiB"}}
    pair.project.converge(pair.pool("shared"), idle("web", disks=[disk]))
    left = 0

    def place(*args: Any) -> Place:
        nonlocal left
        if left:
            left -= 1
            raise HostError("cannot acquire state change lock", code=libvirt.VIR_ERR_OPERATION_TIMEOUT)
        return migrations_place(*args)

    def send(*args: Any) -> None:
        nonlocal left
        left = 2
        raise HostError("it does not move")

    migrations_place = migrations.place
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "place", place)
        patched.setattr(migrations, "send", send)
        lost = pair.migrate()
    assert left == 0
    assert lost.code == 1, lost
    assert "it does not move. What has become of domain/web is not settled" in lost.err
    assert f"domain/web stays on {pair.here}" in lost.err
    assert pair.states == ("running", "")
    assert pair.migrate().code == 0


def test_an_undo_ends_a_move_that_goes_on_without_kvmstate(pair: Pair, connection: libvirt.virConnect) -> None:
    project = pair.project
    pair.stage(pair.pool("shared"))
    project.converge(pair.pool("shared"), *pair.machine("shared", capacity="1MiB"))
    until(pair.counts, "it counts")
    process = pair.start("--bandwidth", "1")
    web = connection.lookupByName("web")
    until(lambda: web.jobStats().get("memory_processed", 0) > 1 << 20, "libvirt sends its memory")
    process.kill()
    process.wait()
    assert web.jobStats().get("type") == libvirt.VIR_DOMAIN_JOB_UNBOUNDED
    undone = pair.migrate("--undo")
    assert undone.code == 0, undone
    assert "domain/web stays on" in undone.out, undone
    assert pair.states == ("running", "")
    assert project.plan().code == 0
    pair.counts()


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
"""


def test_a_kill_at_any_write_of_a_record(pair: Pair, connection: libvirt.virConnect) -> None:
    """Of a machine that is off, which moves at once; another moment is in test_killed_moves.py."""
    project = pair.project
    disk = {"name": "root", "create": {"pool": "shared", "capacity": "1MiB"}}
    machine = idle("web", state="stopped", hostBoot={}, disks=[disk])
    pair.stage(pair.pool("shared"))
    project.converge(pair.pool("shared"), machine)
    xml = connection.lookupByName("web").XMLDesc()
    abandoned, twice, again = 0, 0, None
    for count in range(9):
        process = pair.start(first=KILLED.replace("{count}", str(count)))
        assert process.wait(60) in (0, 9)
        here, there = (pair.entries(uri).get(WEB) for uri in (pair.here, pair.there))
        assert here
        assert here.left or there is None or there.migration
        # nobody makes or starts it meanwhile, on either host
        assert project.apply().code == 0
        if not process.returncode:
            break
        if pair.states == ("off", "off"):
            twice += 1
            for uri in (pair.here, pair.there):
                for words in (["host", "boot"], ["vm", "start", "web"]):
                    started = kvmstate(*words, "-c", uri)
                    assert started.code == 1, started
                    assert "web: it may run on another host" in started.err
        if here.migration and not here.left and (there is None or there.left):
            # the other host has gone for good, as far as anybody knows
            words = ["resume", "domain/web", "volume/shared/*", "-C", str(project.folder)]
            assert "finishes the move, or takes it back" in kvmstate(*words).err
            assert kvmstate(*words, "--abandon-move").code == 0
            assert project.plan().code == 0
            abandoned += 1
        # the same command finishes it, or --undo takes it back
        done = pair.typed("--undo" if count % 2 else "")
        assert done.code == 0, done
        if "is on" in done.out:
            assert pair.states == ("", "off")
            if not again:
                # somebody brings back what has left: it is not ended unasked
                again = connection.defineXML(xml)
                again.create()
                assert "end the wrong one" in (refused := pair.migrate()).err, refused
                assert pair.states == ("running", "off")
                again.undefine()
                again.destroy()
            assert pair.migrate(back=True).code == 0
        assert pair.states == ("off", "")
        assert project.plan().code == 0
        assert not any(entry.migration for entry in pair.entries(pair.here).values())
    else:
        raise AssertionError(count)
    assert count >= 4
    assert abandoned
    assert twice
    assert again
    # its manifest goes: what is left of it is forgotten
    project.write(pair.pool("shared"))
    assert project.apply().code == 0
    assert WEB not in pair.entries(pair.here)
    assert pair.states == ("", "off")
