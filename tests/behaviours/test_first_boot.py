"""What cloudInit says reaches the guest, and an edit of it does what its manifest says."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from typing import Any

import libvirt
import pytest
import yaml
from harness import Guest, Project, idle, kvmstate, pool, resource, until
from pycdlib import PyCdlib
from test_renames import moved

from kvmstate.host import open_host
from kvmstate.host.domains import find
from kvmstate.host.listening import Listener

pytestmark = pytest.mark.real

SEED, KEY = "volume/images/web-cloud-init.iso", "ssh-ed25519 AAAA me@here"
RANGE = {"start": "192.168.150.100", "end": "192.168.150.200"}
NETWORK = resource("Network", "lan", ips=[{"address": "192.168.150.1/24", "dhcp": {"ranges": [RANGE]}}])
NICS = [
    {"network": "lan", "addresses": ["192.168.150.20/24"], "gateway": "192.168.150.1", "nameservers": ["9.9.9.9"]},
    {"network": "lan"},
]
ROOT: dict[str, Any] = {"name": "root", "create": {"pool": "images", "capacity": "1MiB"}}


def web(name: str = "web", told: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    told = {"sshAuthorizedKeys": [KEY], "userData": {"write_files": [{"path": "/motd", "content": "canary"}]}} | (
        told or {}
    )
    return idle(name, **{"disks": [ROOT], "interfaces": NICS, "state": "stopped", **spec}, cloudInit=told)


def files(project: Project, volume: str = "web-cloud-init.iso") -> dict[str, bytes]:
    """What is on a seed."""
    image, found = PyCdlib(), {}
    image.open(str(project.path(f"images/{volume}")))
    for child in image.list_children(rr_path="/"):
        if (name := child.rock_ridge.name().decode()) not in ("", ".", ".."):
            image.get_file_from_iso_fp(content := BytesIO(), rr_path=f"/{name}")
            found[name] = content.getvalue()
    image.close()
    return found


def test_a_guest_reads_what_it_is_told_and_is_waited_for(project: Project, tiny: Guest) -> None:
    ignition = '{"ignition": {"version": "3.4.0"}, "kernelArguments": {"shouldExist": ["a,b=\'c\'"]}}'
    combustion = "#!/bin/bash\n# combustion: network\ntrue\n"
    more: dict[str, Any] = {"ignition": {"config": ignition}, "combustion": {"script": combustion}}
    machine = web(state="running", waitFor={"address": True}, **more)["spec"] | {"memory": "128MiB"}
    project.converge(pool(), NETWORK, tiny.machine("web", options="kvmstate.seed=1", **machine))
    rows = json.loads(project.kvmstate("status", "--json").out)["resources"]
    [[address, *_]] = [row["addresses"] for row in rows if row["address"] == "domain/web"]
    assert address.startswith("192.168.150.")
    assert address in project.kvmstate("status").out
    assert project.kvmstate("inventory", "--ssh-config", "--user", "ada").out == (
        f"Host web\n  HostName {address}\n  User ada\n"
    )
    hosts = yaml.safe_load(project.kvmstate("inventory").out)
    assert hosts == {"all": {"hosts": {"web": {"ansible_host": address}}}}
    assert json.loads(project.kvmstate("inventory", "--json").out) == hosts
    written = files(project)
    assert written.keys() == {"meta-data", "network-config", "user-data"}
    until(lambda: "guest: seed read" in tiny.said(), "the guest has read its seed")
    said = [line.split()[2:] for line in tiny.said().splitlines() if line.startswith("guest: seed")]
    texts = {"combustion/script": combustion.encode(), "opt/com.coreos/config": ignition.encode()}
    wanted = {name: hashlib.sha256(data).hexdigest() for name, data in (written | texts).items()}
    assert dict(said[:-1]) == wanted, tiny.said()
    # by which cloud-init finds it
    assert project.path("images/web-cloud-init.iso").read_bytes()[0x8028:][:6] == b"cidata"
    # what it was leased at the boot before is not taken for an address that it has
    project.converge(pool(), NETWORK, web())
    project.write(pool(), NETWORK, web(state="running", waitFor={"address": True, "timeout": "2s"}))
    waited = project.apply()
    assert "it has no address (waited 2 s)" in waited.out + waited.err, waited


def test_it_is_made_once_and_goes_with_its_machine(project: Project, connection: libvirt.virConnect) -> None:
    applied = project.converge(pool(), NETWORK, web())
    assert "canary" not in applied.out + applied.err
    found = files(project)
    assert json.loads(found["meta-data"]) == {"instance-id": "web", "local-hostname": "web"}
    header, text = found["user-data"].decode().split("\n", 1)
    assert header == "#cloud-config"
    assert json.loads(text) == {"ssh_authorized_keys": [KEY], "write_files": [{"path": "/motd", "content": "canary"}]}
    first, second = json.loads(found["network-config"])["ethernets"].values()
    xml = connection.lookupByName("web").XMLDesc()
    assert f"<mac address='{first['match']['macaddress']}'/>" in xml
    assert f"<mac address='{second['match']['macaddress']}'/>" in xml
    assert (first["addresses"], first["routes"]) == (
        ["192.168.150.20/24"],
        [{"to": "0.0.0.0/0", "via": "192.168.150.1"}],
    )
    assert second["dhcp4"]
    assert project.path("images/web-cloud-init.iso").stat().st_mode & 0o777 == 0o600
    # the machine has booted: the plan shows the edit, and what it was told stays
    project.write(pool(), NETWORK, web(told={"hostname": "shop", "userData": {}}))
    shown = project.plan()
    assert shown.code == 2
    assert f"~ {SEED}" in shown.out
    assert "the seed stays as it is" in shown.out
    assert "canary" not in shown.out
    project.converge()
    assert files(project) == found
    # under another name it would be another machine to cloud-init
    machine = web("shop", disks=[{"name": "root", "create": {**ROOT["create"], "name": "web-root.qcow2"}}])
    project.write(pool(), NETWORK, machine)
    moved(project, ("domain/web", "domain/shop"))
    assert f"to keep {SEED}" in (planned := project.plan()).out, planned
    machine["spec"]["cloudInit"]["name"] = "web-cloud-init.iso"
    project.converge(pool(), NETWORK, machine)
    assert files(project) == found
    project.converge(pool(), NETWORK, options=("--prune",))
    assert not project.path("images/web-cloud-init.iso").exists()
    # its disk holds data
    assert project.path("images/web-root.qcow2").exists()


def test_another_seed_is_another_instance_where_that_was_said(project: Project, connection: libvirt.virConnect) -> None:
    def instance() -> tuple[str, bytes]:
        [volume] = [each for each in project.path("images").iterdir() if each.suffix == ".iso"]
        return json.loads(files(project, volume.name)["meta-data"])["instance-id"], volume.read_bytes()

    project.converge(pool(), NETWORK, web(told={"onChange": "reboot"}, state="running"))
    first, image = instance()
    # what holds nothing of its own need not be kept under this name
    project.write(pool(), NETWORK, web(told={"onChange": "reboot", "hostname": "shop"}, state="running"))
    assert "to keep" not in project.plan().out
    assert project.apply().code == 0
    assert project.syncs()["domain/web"] == "RestartPending"
    # the guest has it in its drive by now, and reads it when it starts
    assert project.todo("--prune") == {"delete": 1, "pending": 1}
    assert len([each for each in project.path("images").iterdir() if each.suffix == ".iso"]) == 2
    machine = web(told={"onChange": "reboot", "hostname": "shop"}, state="running")
    machine["lifecycle"]["restart"] = "now"
    project.converge(pool(), NETWORK, machine)
    project.converge(options=("--prune",))
    second, other = instance()
    assert (first == second, image == other) == (False, False)
    # the same words make the same bytes
    assert kvmstate("destroy", str(project.folder), "--auto-approve").code == 0
    project.converge()
    assert instance() == (second, other)


def test_a_seed_that_a_snapshot_needs_stays_until_that_is_gone(project: Project) -> None:
    def seeds() -> int:
        return len([each for each in project.path("images").iterdir() if each.suffix == ".iso"])

    project.converge(pool(), NETWORK, web(told={"onChange": "reboot"}, disks=[ROOT]))
    took = kvmstate("snapshot", "create", "web", "--name", "one", "-c", project.uri)
    assert took.code == 0, took
    project.converge(pool(), NETWORK, web(told={"onChange": "reboot", "hostname": "shop"}, disks=[ROOT]))
    assert seeds() == 2
    pruned = project.apply("--prune")
    assert (pruned.code, seeds()) == (0, 2), pruned
    assert "it stays as long as snapshot one of virtual machine web needs it" in project.plan("--prune").out
    deleted = kvmstate("snapshot", "delete", "web", "one", "--auto-approve", "-c", project.uri)
    assert deleted.code == 0, deleted
    assert (project.apply("--prune").code, seeds()) == (0, 1)


def test_what_does_not_come_in_time_fails_and_stays(project: Project, connection: libvirt.virConnect) -> None:
    speaking = {"bios": {"useserial": True}, "serials": [{"port": 0}], "features": {"acpi": True}}
    wanted = idle("web", waitFor={"guestAgent": True, "timeout": "2s"}, **speaking)
    project.write(wanted)
    applied = project.apply()
    assert applied.code == 1
    told = applied.out + applied.err
    assert "its guest agent does not answer (waited 2 s); the last lines of its console:\n    " in told, told
    assert "    SeaBIOS (version" in told, told
    domain = connection.lookupByName("web")
    assert domain.isActive()
    # nobody else is listened to, nor their console taken
    stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
    domain.openConsole(None, stream, 0)
    with open_host(project.uri) as host, Listener(find(host.connection, "web"), near=False) as console:
        domain.reset()
        # what comes is read by the calls of a connection
        until(lambda: domain.isActive() and isinstance(stream.recv(4096), bytes), "whoever has the console hears it")
        assert console.lines() == []
    stream.abort()
    project.converge()
    wanted["spec"]["waitFor"] = {"tcpSocket": {"port": 22}}
    assert project.converge(wanted).code == 0


def test_what_depends_on_a_machine_waits_for_it(project: Project, connection: libvirt.virConnect) -> None:
    wanted = idle("db", waitFor={"guestAgent": True, "timeout": "1s"})
    project.write(wanted, idle("app", dependsOn=["domain/db"]))
    applied = project.apply()
    assert applied.code == 1
    assert "domain/app: skipped: domain/db failed" in applied.out + applied.err
    assert [each.name() for each in connection.listAllDomains()] == ["db"]
    # it is there by now, and is not waited for again
    project.converge()
    project.write(wanted, idle("app", dependsOn=["db"]))
    assert project.plan().code == 0
    project.write(idle("app", dependsOn=["db"]))
    assert "blocked: in use by domain/app" in (kept := project.plan("--prune")).out, kept
    project.write(wanted | {"spec": {**wanted["spec"], "dependsOn": ["app"]}}, idle("app", dependsOn=["db"]))
    assert "circle" in (refused := project.plan()).err, refused
    project.converge(wanted, idle("app"))


def test_no_data_is_taken_for_a_seed(project: Project, connection: libvirt.virConnect) -> None:
    data = {"name": "data", "create": {"pool": "images", "capacity": "1MiB", "format": "raw"}}
    project.converge(pool(), NETWORK, web(disks=[ROOT, data], told={"name": "seed.iso"}))
    held = b"precious".ljust(1 << 20, b"\0")
    project.path("images/web-data").write_bytes(held)
    project.path("images/foreign.iso").write_bytes(held)
    connection.storagePoolLookupByName("images").refresh()
    project.converge(pool(), NETWORK, web(told={"name": "seed.iso"}))
    for name in ("web-data", "foreign.iso"):
        # one is the project's own, without any machine; the other is nobody's
        project.write(pool(), NETWORK, web(told={"name": name}))
        planned = project.plan()
        assert "what is there is not known to be a seed" in planned.out
        assert f"domain/web                       blocked: needs volume/images/{name}" in planned.out
        project.kvmstate("adopt", "--auto-approve")
        assert project.apply().code == 1
        assert project.path(f"images/{name}").read_bytes() == held
    assert kvmstate("destroy", str(project.folder), "--auto-approve").code == 0
    assert project.path("images/web-data").read_bytes() == project.path("images/foreign.iso").read_bytes() == held


def test_a_seed_is_known_again_when_the_record_is_lost(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), NETWORK, web())
    image = project.path("images/web-cloud-init.iso").read_bytes()
    for secret in connection.listAllSecrets():
        secret.undefine()
    project.write(pool(), NETWORK, web(told={"hostname": "shop"}))
    assert "what is there is not known to be a seed" in project.plan().out
    project.write(pool(), NETWORK, web())
    assert project.kvmstate("adopt", "--auto-approve").code == 0
    project.converge()
    assert project.path("images/web-cloud-init.iso").read_bytes() == image


def test_a_machine_that_is_made_again_reads_the_newest_seed(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), NETWORK, web())
    connection.lookupByName("web").undefine()
    project.write(pool(), NETWORK, web(told={"hostname": "shop"}))
    assert project.apply().code == 0
    assert json.loads(files(project)["meta-data"])["local-hostname"] == "shop"
    assert project.plan().code == 0
