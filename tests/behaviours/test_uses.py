"""What is used is not deleted: whoever uses it, running or off, by whatever path, and by another project too."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource

from kvmstate import sandbox
from kvmstate.app import Session
from kvmstate.apply import Event, EventKind, open_store
from kvmstate.host import open_host
from kvmstate.kinds import BY_NAME
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.plan import Options

pytestmark = pytest.mark.real

FOLDER = "/var/lib/libvirt/behaviours"
LAN = resource("Network", "lan", ips=[{"address": "192.168.96.1/24"}])
DATA = resource("Volume", "data", {"deletion": "delete"}, pool="images", capacity="1MiB")


def declared(document: dict[str, Any]) -> Resource:
    kind, name = BY_NAME[document["kind"]], document["metadata"]["name"]
    spec = kind.adapter.validate_python(document["spec"])
    lifecycle = Lifecycle.model_validate(document.get("lifecycle", {}))
    return Resource(ResourceId(kind.word, spec.id_name(name)), spec, Metadata(name=name), lifecycle)


NOTHING_BUT_A_POOL = declared(pool())


def domain(name: str, devices: str = "", os: str = "") -> str:
    return (
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><os><type>hvm</type>{os}</os>"
        f"<devices>{devices}</devices></domain>"
    )


def disk(path: str, kind: str = "file", attribute: str = "file") -> str:
    return (
        f"<disk type='{kind}'><driver name='qemu' type='qcow2'/><source {attribute}='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def shell(project: Project, command: str) -> None:
    sandbox.execute(project.host, ["sh", "-ec", f"cd {FOLDER} && {command}"])


def layer(project: Project, path: str, base: str) -> None:
    shell(project, f"qemu-img create -q -f qcow2 -b {base} -F qcow2 {path}")


Use = Callable[[Project, libvirt.virConnect], object]


def by_path(project: Project, connection: libvirt.virConnect) -> None:
    connection.defineXML(domain("user", disk(f"{FOLDER}/images/data")))


def by_odd_path(project: Project, connection: libvirt.virConnect) -> None:
    connection.defineXML(domain("user", disk(f"{FOLDER}/./images//data")))


def by_linked_folder(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "ln -s images alias")
    connection.defineXML(domain("user", disk(f"{FOLDER}/alias/data")))


def by_link(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "mkdir -p elsewhere; ln -s ../images/data elsewhere/other-name")
    connection.defineXML(domain("user", disk(f"{FOLDER}/elsewhere/other-name")))


def running_by_linked_folder(project: Project, connection: libvirt.virConnect) -> None:
    by_linked_folder(project, connection)
    connection.lookupByName("user").create()


def running_only(project: Project, connection: libvirt.virConnect) -> None:
    """The definition has released of it; what runs has not."""
    by_path(project, connection)
    connection.lookupByName("user").create()
    connection.defineXML(
        domain("user").replace("<name>", f"<uuid>{connection.lookupByName('user').UUIDString()}</uuid><name>")
    )


def by_pool_and_name(project: Project, connection: libvirt.virConnect) -> None:
    source = disk("", "volume", "volume").replace("volume=''", "pool='images' volume='data'")
    connection.defineXML(domain("user", source))


def as_kernel(project: Project, connection: libvirt.virConnect) -> None:
    connection.defineXML(domain("user", os=f"<kernel>{FOLDER}/images/data</kernel>"))


def as_firmware_variables(project: Project, connection: libvirt.virConnect) -> None:
    loader = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>"
    text = domain("user", os=f"{loader}<nvram>{FOLDER}/images/data</nvram>")
    connection.defineXML(
        text.replace("<type>", "<type machine='q35'>").replace("<dev", "<features><acpi/></features><dev")
    )


def on_qemus_command_line(project: Project, connection: libvirt.virConnect) -> None:
    argument = f"<qemu:arg value='-drive'/><qemu:arg value='file={FOLDER}/images/data,if=none,id=x'/>"
    text = domain("user").replace("<domain ", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' ")
    connection.defineXML(text.replace("</domain>", f"<qemu:commandline>{argument}</qemu:commandline></domain>"))


def below_a_layer_outside_of_pools(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "mkdir -p elsewhere")
    layer(project, "elsewhere/top", f"{FOLDER}/images/data")
    connection.defineXML(domain("user", disk(f"{FOLDER}/elsewhere/top")))


def below_a_layer_that_its_pool_has_not_seen(project: Project, connection: libvirt.virConnect) -> None:
    layer(project, "images/top", "data")


def below_a_layer_in_an_inactive_pool(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "mkdir -p asleep")
    layer(project, "asleep/top", f"{FOLDER}/images/data")
    connection.storagePoolDefineXML(
        f"<pool type='dir'><name>asleep</name><target><path>{FOLDER}/asleep</path></target></pool>"
    )


def by_saved_memory(project: Project, connection: libvirt.virConnect) -> None:
    running_only(project, connection)
    connection.lookupByName("user").managedSave()


def by_a_snapshot(project: Project, connection: libvirt.virConnect) -> None:
    by_path(project, connection)
    machine = connection.lookupByName("user")
    machine.snapshotCreateXML("<domainsnapshot><name>internal</name></domainsnapshot>")
    machine.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
    by_path(project, connection)


def folder_pool(connection: libvirt.virConnect, name: str) -> None:
    pool = connection.storagePoolDefineXML(
        f"<pool type='dir'><name>{name}</name><target><path>{FOLDER}/{name}</path></target></pool>"
    )
    pool.create()


def by_a_hard_link_in_another_pool(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "mkdir -p others; ln images/data others/hard")
    folder_pool(connection, "others")
    connection.defineXML(domain("user", disk(f"{FOLDER}/others/hard")))


def by_a_pool_that_is_a_linked_folder(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "ln -s images alias")
    folder_pool(connection, "alias")
    connection.defineXML(domain("user", disk(f"{FOLDER}/alias/data")))


def below_a_layer_by_a_link(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "mkdir -p others; ln -s images alias")
    layer(project, "others/top", f"{FOLDER}/alias/data")
    folder_pool(connection, "others")


def below_a_layer_that_says_json(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "mkdir -p others")
    base = f'{{"driver":"qcow2","file":{{"driver":"file","filename":"{FOLDER}/images/data"}}}}'
    layer(project, "others/top", f"'json:{base}'")
    folder_pool(connection, "others")


def below_a_layer_that_says_file(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "mkdir -p others")
    layer(project, "others/top", f"file:{FOLDER}/images/data")
    folder_pool(connection, "others")


def below_a_layer_below_a_layer(project: Project, connection: libvirt.virConnect) -> None:
    """The one in between is in no pool, and no machine has them."""
    shell(project, "mkdir -p others elsewhere")
    layer(project, "elsewhere/middle", f"{FOLDER}/images/data")
    layer(project, "others/top", f"{FOLDER}/elsewhere/middle")
    folder_pool(connection, "others")


def by_its_folder(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "ln -s images alias")
    shared = f"<filesystem type='mount'><source dir='{FOLDER}/alias'/><target dir='x'/></filesystem>"
    connection.defineXML(domain("user", shared))


def by_a_folder_above(project: Project, connection: libvirt.virConnect) -> None:
    shared = f"<filesystem type='mount'><source dir='{FOLDER}'/><target dir='x'/></filesystem>"
    connection.defineXML(domain("user", shared))


def by_its_folder_as_a_disk(project: Project, connection: libvirt.virConnect) -> None:
    source = f"<driver type='fat'/><source dir='{FOLDER}/images'/><target dev='vda'/><readonly/>"
    connection.defineXML(domain("user", f"<disk type='dir'>{source}</disk>"))


def as_the_data_file_of_an_image(project: Project, connection: libvirt.virConnect) -> None:
    """Which libvirt does not tell."""
    shell(project, "mkdir -p elsewhere; qemu-img create -q -f qcow2 -o data_file=other elsewhere/top 1M")
    shell(project, "rm -f other elsewhere/other; ln -s ../images/data elsewhere/other")
    connection.defineXML(domain("user", disk(f"{FOLDER}/elsewhere/top")))


def on_qemus_command_line_by_a_link(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "ln -s images alias")
    argument = f"<qemu:arg value='-drive'/><qemu:arg value='file={FOLDER}/alias/data,if=none,id=x'/>"
    text = domain("user").replace("<domain ", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' ")
    connection.defineXML(text.replace("</domain>", f"<qemu:commandline>{argument}</qemu:commandline></domain>"))


USES = [
    *(by_path, by_odd_path, by_linked_folder, by_link, running_by_linked_folder, running_only, by_pool_and_name),
    *(as_kernel, as_firmware_variables, on_qemus_command_line, below_a_layer_outside_of_pools),
    *(below_a_layer_that_its_pool_has_not_seen, below_a_layer_in_an_inactive_pool, by_saved_memory, by_a_snapshot),
    *(by_a_hard_link_in_another_pool, by_a_pool_that_is_a_linked_folder, below_a_layer_by_a_link),
    *(below_a_layer_that_says_json, below_a_layer_that_says_file, below_a_layer_below_a_layer),
    *(by_its_folder, by_a_folder_above, by_its_folder_as_a_disk, on_qemus_command_line_by_a_link),
    as_the_data_file_of_an_image,
]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_a_volume_in_use_is_not_deleted(use: Use, project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA)
    use(project, connection)
    project.write(pool())
    planned = project.plan("--prune")
    assert "volume/images/data" in planned.out
    assert "blocked: in use by" in planned.out
    assert project.apply("--prune").code == 1
    assert project.path("images/data").exists()
    for machine in connection.listAllDomains():
        assert machine.name() == "user"


def test_a_volume_that_others_have_made_a_layer_uses_its_base(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt knows it as it was before: what is below a volume is as of its last look at the pool."""
    # on a host that takes long to read
    for module in ("connection", "uses"):
        monkeypatch.setattr(f"kvmstate.host.{module}.LASTING", 1000)
    others = [resource("Volume", f"other-{n}", pool="images", format="qcow2", capacity="1MiB") for n in range(8)]
    base = resource("Volume", "data", {"deletion": "delete"}, pool="images", format="qcow2", capacity="1MiB")
    project.converge(pool(), base, *others)
    shell(project, "rm images/other-3")
    layer(project, "images/other-3", "data")
    project.write(pool(), *others[:3], *others[4:])
    planned = project.plan("--prune")
    assert "in use by volume images/other-3" in planned.out
    project.apply("--prune")
    assert project.path("images/data").exists()


def test_what_uses_it_since_the_plan_counts_too(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA)
    project.write(pool())
    saved = str(project.folder / "plan.json")
    assert project.kvmstate("plan", "--prune", "--out", saved).code == 0
    by_path(project, connection)
    assert kvmstate("apply", saved).code == 1
    assert project.path("images/data").exists()


def test_what_comes_to_use_it_during_the_apply_counts_too(project: Project, connection: libvirt.virConnect) -> None:
    """libvirt tells nobody of a disk that is attached to a definition."""
    other = resource("Volume", "other", {"deletion": "delete"}, pool="images", capacity="1MiB")
    project.converge(pool(), DATA, other)
    user = connection.defineXML(domain("user"))
    taken: set[str] = set()

    def attach(event: Event) -> None:
        left = {"data", "other"} - {event.change.id.name.partition("/")[2]}
        if event.kind is EventKind.DONE and not taken:
            taken.update(left)
            user.attachDeviceFlags(disk(f"{FOLDER}/images/{min(left)}"), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            # longer than the answer that the first deletion got counts on a host of this size
            time.sleep(2)

    options = Options(prune=True, allow_empty=True)
    with open_host(project.uri) as host:
        session = Session(host, open_store(host, project.name), (NOTHING_BUT_A_POOL,))
        result = session.apply(session.plan(options), options, attach, parallelism=1)
    assert [getattr(error, "message", "") for _, error in result.failed] == [
        f"volume/images/{min(taken)} is in use by virtual machine user"
    ]
    assert project.path(f"images/{min(taken)}").exists()


def test_a_place_that_nobody_can_look_into_keeps_all_volumes(project: Project, connection: libvirt.virConnect) -> None:
    """A pool whose storage is not mounted may hold a layer over anything."""
    project.converge(pool(), DATA)
    connection.storagePoolDefineXML(
        "<pool type='netfs'><name>away</name><source><host name='127.0.0.1'/><dir path='/export'/></source>"
        f"<target><path>{FOLDER}/images/data/not-a-folder</path></target></pool>"
    )
    project.write(pool())
    planned = project.plan("--prune")
    assert "it cannot be told who uses it: pool away" in planned.out
    assert project.apply("--prune").code == 1
    assert project.path("images/data").exists()


def test_what_others_use_beside_it_is_no_reason(project: Project, connection: libvirt.virConnect) -> None:
    """Of the same size, made at the same moment, in the same folder, or over a layer beside it."""
    other = resource("Volume", "other", pool="images", capacity="1MiB")
    project.converge(pool(), DATA, other)
    shell(project, "mkdir -p others images-too; ln -s images alias")
    layer(project, "others/top", f"{FOLDER}/alias/other")
    folder_pool(connection, "others")
    shared = f"<filesystem type='mount'><source dir='{FOLDER}/images-too'/><target dir='x'/></filesystem>"
    connection.defineXML(domain("user", disk(f"{FOLDER}/alias/other") + shared))
    project.converge(pool(), other, options=("--prune",))
    assert not project.path("images/data").exists()


def test_own_machines_that_go_too_are_no_reason(project: Project, connection: libvirt.virConnect) -> None:
    web = idle("web", {"deletion": "delete"}, disks=[{"name": "data", "volume": "images/data"}])
    project.converge(pool(), DATA, LAN, web)
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert not project.path("images/data").exists()
    assert connection.listAllDomains() == []


def test_a_machine_that_lets_go_of_it_in_the_same_plan_is_no_reason(
    project: Project, connection: libvirt.virConnect
) -> None:
    web = idle("web", state="stopped", disks=[{"name": "data", "volume": "images/data"}])
    project.converge(pool(), DATA, web)
    project.converge(pool(), idle("web", state="stopped"), options=("--prune",))
    assert not project.path("images/data").exists()


def test_machines_let_go_of_a_volume_before_it_is_replaced(project: Project) -> None:
    raw = resource("Volume", "data", {"replace": "allow"}, pool="images", capacity="1MiB", format="raw")
    other = resource("Volume", "other", {"deletion": "delete"}, pool="images", capacity="1MiB")
    disks = [[{"name": "one", "volume": f"images/{name}"}] for name in ("data", "other")]
    web = [idle("web", {"deletion": "delete"}, state="stopped", disks=each) for each in disks]
    project.converge(pool(), raw, other, web[0])
    raw["spec"]["format"] = "qcow2"
    project.converge(pool(), raw, other, web[1])
    # one that leaves does so before, too
    other["spec"]["format"], other["lifecycle"] = "raw", {"replace": "allow"}
    project.converge(pool(), raw, other, options=("--prune",))


@pytest.mark.parametrize("runs", [True, False])
def test_a_network_with_machines_on_it_is_not_deleted(
    runs: bool, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(LAN)
    user = connection.defineXML(domain("user", "<interface type='network'><source network='lan'/></interface>"))
    if runs:
        user.create()
    destroyed = project.kvmstate("destroy", "--auto-approve")
    assert destroyed.code == 1
    assert "blocked: in use by virtual machine user" in destroyed.out
    assert connection.networkLookupByName("lan").isActive()


def test_a_network_by_its_bridge_is_in_use_too(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(resource("Network", "lan", bridge={"name": "kvbr96"}))
    connection.defineXML(domain("user", "<interface type='bridge'><source bridge='kvbr96'/></interface>"))
    assert project.kvmstate("destroy", "--auto-approve").code == 1
    assert connection.networkLookupByName("lan").isActive()


@pytest.mark.parametrize(
    "forward",
    [
        "<forward mode='bridge'/><bridge name='kvbr96'/>",
        "<forward mode='bridge'><interface dev='kvbr96'/></forward>",
        "<forward mode='nat' dev='kvbr96'/><ip address='10.96.0.1' netmask='255.255.255.0'/>",
    ],
)
def test_a_network_that_another_network_goes_through_is_in_use_too(
    forward: str, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(resource("Network", "lan", bridge={"name": "kvbr96"}))
    connection.networkDefineXML(f"<network><name>second</name>{forward}</network>")
    connection.defineXML(domain("user", "<interface type='network'><source network='second'/></interface>"))
    assert project.kvmstate("destroy", "--auto-approve").code == 1
    assert connection.networkLookupByName("lan").isActive()


def test_a_bridge_that_a_machine_has_a_device_on_is_in_use_too(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(resource("Network", "lan", bridge={"name": "kvbr96"}))
    connection.defineXML(domain("user", "<interface type='direct'><source dev='kvbr96' mode='bridge'/></interface>"))
    assert project.kvmstate("destroy", "--auto-approve").code == 1
    assert connection.networkLookupByName("lan").isActive()


@pytest.mark.parametrize("use", [by_path, by_pool_and_name, by_linked_folder], ids=lambda use: use.__name__)
def test_a_pool_whose_volumes_are_used_is_not_deleted(
    use: Use, project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), resource("Volume", "data", pool="images", capacity="1MiB"))
    use(project, connection)
    assert project.kvmstate("destroy", "--auto-approve").code == 1
    assert connection.storagePoolLookupByName("images").isActive()


def test_a_pool_that_has_another_projects_volumes_is_not_deleted(
    project: Project, tmp_path: Path, connection: libvirt.virConnect
) -> None:
    project.converge(pool())
    other = Project(project.host, tmp_path / "other", "other")
    other.converge(resource("Volume", "theirs", pool="images", capacity="1MiB"))
    destroyed = project.kvmstate("destroy", "--auto-approve")
    assert destroyed.code == 1
    assert "project other owns volume/images/theirs in it" in destroyed.out
    assert connection.storagePoolLookupByName("images").isActive()


def test_looking_into_folders_leaves_nothing_behind(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), DATA)
    below_a_layer_outside_of_pools(project, connection)
    before = subprocess.check_output(["find", str(project.path("")), "-printf", "%p %m %T@\n"])
    project.write(pool())
    assert project.apply("--prune").code == 1
    assert [found.name() for found in connection.listAllStoragePools()] == ["images"]
    assert subprocess.check_output(["find", str(project.path("")), "-printf", "%p %m %T@\n"]) == before


def test_layers_that_go_with_their_base_are_no_reason(project: Project, connection: libvirt.virConnect) -> None:
    goes = {"deletion": "delete"}
    layers = [resource("Volume", f"top{n}", goes, pool="images", backing="images/data") for n in range(8)]
    machines = [
        idle(f"web{n}", goes, state="stopped", disks=[{"name": "root", "volume": f"images/top{n}"}]) for n in range(8)
    ]
    project.converge(pool(), DATA, *layers, *machines)
    destroyed = project.kvmstate("destroy", "--auto-approve")
    assert destroyed.code == 0, destroyed
    assert not project.path("images/data").exists()
    assert connection.listAllDomains() == []


def test_a_volume_whose_pool_stops_after_the_plan_stays_the_projects(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), DATA)
    options = Options(prune=True)
    with open_host(project.uri) as host:
        session = Session(host, open_store(host, project.name), (NOTHING_BUT_A_POOL,))
        plan = session.plan(options)
        connection.storagePoolLookupByName("images").destroy()
        result = session.apply(plan, options, lambda event: None)
        assert [error.message for _, error in result.failed] == [
            "volume/images/data cannot be seen any more: its pool is not active"
        ]
        assert ResourceId("volume", "images/data") in session.store.inventory.entries
    connection.storagePoolLookupByName("images").create()
    assert project.path("images/data").exists()
    project.converge(pool(), options=("--prune",))
    assert not project.path("images/data").exists()


def laid_elsewhere(project: Project, connection: libvirt.virConnect) -> None:
    """As a backup program does it: nothing but the machine leads to the overlay."""
    shell(project, "mkdir -p elsewhere")
    layer(project, "elsewhere/data.backup", f"{FOLDER}/images/data")
    machine = connection.lookupByName("web")
    connection.defineXML(machine.XMLDesc(0).replace(f"{FOLDER}/images/data", f"{FOLDER}/elsewhere/data.backup"))


def committed(project: Project, connection: libvirt.virConnect) -> None:
    shell(project, "qemu-img commit -q -d elsewhere/data.backup; rm elsewhere/data.backup")
    machine = connection.lookupByName("web")
    connection.defineXML(machine.XMLDesc(0).replace(f"{FOLDER}/elsewhere/data.backup", f"{FOLDER}/images/data"))


WEB = idle("web", {"deletion": "delete"}, state="stopped", disks=[{"name": "root", "volume": "images/data"}])
LETS_GO = {
    "it goes": [],
    "it is without the disk": [idle("web", state="stopped", disks=[])],
    "its disk has another volume": [
        idle("web", state="stopped", disks=[{"name": "root", "volume": "images/new"}]),
        resource("Volume", "new", pool="images", capacity="1MiB"),
    ],
}
ELSEWHERE = f"its disk root is {FOLDER}/elsewhere/data.backup by now, in no storage pool, and it lies on volume"


@pytest.mark.parametrize("after", LETS_GO)
def test_a_machine_does_not_let_go_of_what_a_backup_has_laid_elsewhere(
    project: Project, connection: libvirt.virConnect, after: str
) -> None:
    project.converge(pool(), DATA, WEB)
    laid_elsewhere(project, connection)
    project.write(pool(), *LETS_GO[after])
    for _ in range(2):
        applied = project.apply("--prune")
        assert applied.code == 1
        assert f"blocked: {ELSEWHERE} images/data" in applied.out
        assert re.search("volume/images/data +blocked: in use by (domain/|virtual machine )web", applied.out)
        assert project.path("images/data").exists()
    committed(project, connection)
    project.converge(options=("--prune",))
    assert not project.path("images/data").exists()


@pytest.mark.parametrize("after", ["it goes", "it stops", "it is restarted"])
def test_a_machine_does_not_stop_on_what_only_runs_of_a_backup_elsewhere(
    project: Project, connection: libvirt.virConnect, after: str
) -> None:
    """A backup program has laid it there while the machine ran, and somebody has taken the disk out of what is
    defined."""
    runs = {**WEB, "spec": {**WEB["spec"], "state": "running"}, "lifecycle": {"deletion": "delete", "restart": "now"}}
    project.converge(pool(), DATA, runs)
    shell(project, "mkdir -p elsewhere")
    web = connection.lookupByName("web")
    overlay = f"<disk name='vda' snapshot='external'><source file='{FOLDER}/elsewhere/data.backup'/></disk>"
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    web.snapshotCreateXML(f"<domainsnapshot><disks>{overlay}</disks></domainsnapshot>", flags)
    connection.defineXML(re.sub(r"<disk .*?</disk>", "", web.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), flags=re.DOTALL))
    without = {**runs, "spec": {**runs["spec"], "disks": []}}
    stopped = {**without, "spec": {**without["spec"], "state": "stopped"}}
    restarted = {**without, "spec": {**without["spec"], "cpus": 2}}
    project.write(pool(), *{"it goes": [], "it stops": [stopped], "it is restarted": [restarted]}[after])
    applied = project.apply("--prune")
    assert applied.code == 1
    assert f"blocked: {ELSEWHERE} images/data" in applied.out
    assert "elsewhere/data.backup" in web.XMLDesc(0)
    assert project.path("images/data").exists()


@pytest.mark.parametrize("after", LETS_GO)
def test_what_a_backup_lays_elsewhere_after_the_plan_counts_too(
    project: Project, connection: libvirt.virConnect, after: str
) -> None:
    project.converge(pool(), DATA, WEB)
    wanted = (NOTHING_BUT_A_POOL, *map(declared, LETS_GO[after]))
    options = Options(prune=True)
    with open_host(project.uri) as host:
        session = Session(host, open_store(host, project.name), wanted)
        plan = session.plan(options)
        assert not plan.blocked
        laid_elsewhere(project, connection)
        result = session.apply(plan, options, lambda event: None, parallelism=1)
    failed = {str(change.id): error.message for change, error in result.failed}
    assert failed["domain/web"].startswith(f"domain/web has changed since the plan was made: {ELSEWHERE}")
    assert "elsewhere/data.backup" in connection.lookupByName("web").XMLDesc(0)
    assert project.path("images/data").exists()


@pytest.mark.parametrize("goes", ["by hand", "by hand, and from the manifests", "by the same plan", "by destroy"])
def test_a_layer_that_a_manifest_names_by_its_file_keeps_what_it_lies_on(
    project: Project, connection: libvirt.virConnect, goes: str
) -> None:
    """Also when its machine has gone: nothing else leads to it, as it is in no pool."""
    project.converge(pool(), DATA)
    shell(project, "mkdir -p elsewhere")
    layer(project, "elsewhere/top.qcow2", f"{FOLDER}/images/data")
    top = {"name": "root", "file": f"{FOLDER}/elsewhere/top.qcow2", "format": "qcow2"}
    web = idle("web", {"deletion": "delete"}, state="stopped", disks=[top])
    project.converge(pool(), DATA, web)
    if goes.startswith("by hand"):
        connection.lookupByName("web").undefine()
    project.write(pool(), *([web] if goes == "by hand" else []))
    for _ in range(3):
        run = project.apply("--prune") if goes != "by destroy" else project.kvmstate("destroy", "--auto-approve")
        assert run.code == 1, run
        assert re.search(rf"in use by (file {FOLDER}/elsewhere/top.qcow2 of )?virtual machine web", run.out), run
        assert project.path("images/data").exists()
    shell(project, "rm elsewhere/top.qcow2")
    if goes == "by hand":
        connection.lookupByName("web").undefine()
    project.write(pool())
    project.converge(options=("--prune",))
    assert not project.path("images/data").exists()


def test_a_layer_that_another_projects_manifest_names_by_its_file_counts_as_well(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    project.converge(pool(), DATA)
    shell(project, "mkdir -p elsewhere")
    layer(project, "elsewhere/top.qcow2", f"{FOLDER}/images/data")
    top = {"name": "root", "file": f"{FOLDER}/elsewhere/top.qcow2", "format": "qcow2"}
    other = Project(project.host, tmp_path / "other", "other")
    other.converge(idle("web", state="stopped", disks=[top]))
    connection.lookupByName("web").undefine()
    project.write(pool())
    run = project.apply("--prune")
    assert run.code == 1, run
    over = f"project other has file {FOLDER}/elsewhere/top.qcow2 of virtual machine web over it"
    assert over in run.out
    assert project.path("images/data").exists()
