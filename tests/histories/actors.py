"""Who else works on the host: people with virsh, a backup program, a second project, and storage that comes and goes.

Each does something to what it finds, of its own choice among `number` ways; what libvirt refuses it leaves. `done`
says in whose name.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
from ledger import backing, is_qcow2

from kvmstate.app import Session
from kvmstate.apply import open_store
from kvmstate.errors import KvmstateError
from kvmstate.host import Host
from kvmstate.snapshots import create, merge, revert
from kvmstate.xmlbind import document, to_text

if TYPE_CHECKING:
    from machine import Histories

CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
NO_METADATA = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
Actor = Callable[["Histories", int], None]


def chosen(world: Histories, kind: str, found: list[Any], number: int) -> Any:
    """While a plan waits to be carried out, one that it is about."""
    found = [each for each in found if f"{kind}/{each.name()}" in world.at_stake] or found
    return sorted(found, key=lambda each: str(each.name()))[number % len(found)] if found else None


def machine_of(world: Histories, number: int) -> Any:
    found = [d for d in world.connection.listAllDomains() if d.name() in world.own_machines]
    return chosen(world, "domain", found, number)


def volume_of(world: Histories, number: int) -> Any:
    pools = [p for p in world.connection.listAllStoragePools() if p.name() == "images" and p.isActive()]
    found = [v for p in pools for v in p.listAllVolumes() if v.name() in world.own_volumes]
    return chosen(world, "volume/images", found, number)


def config(domain: Any) -> Any:
    return document(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


def disk(path: object, format_: str, target: str) -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{format_}'/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


def format_of(path: Path) -> str:
    return "qcow2" if is_qcow2(path) else "raw"


def qemu_img(*words: object) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


# A person with virsh


def redefines(world: Histories, number: int) -> None:
    if (domain := machine_of(world, number)) is not None:
        root = config(domain)
        for old in root.findall("title"):
            root.remove(old)
        root.find("memory").text = str((48 + number % 3) << 10)
        world.connection.defineXML(to_text(root))


def takes_a_device_out(world: Histories, number: int) -> None:
    if (domain := machine_of(world, number)) is not None:
        root = config(domain)
        found = [*root.iterfind("devices/disk"), *root.iterfind("devices/interface")]
        if found:
            root.find("devices").remove(found[number % len(found)])
            world.connection.defineXML(to_text(root))


def attaches_a_volume_to_another(world: Histories, number: int) -> None:
    if (volume := volume_of(world, number)) is not None:
        format_ = format_of(Path(volume.path())) if world.is_real else "raw"
        theirs = world.connection.lookupByName("theirs")
        taken = {d.find("target").get("dev") for d in config(theirs).iterfind("devices/disk")}
        if target := min({"vdx", "vdy", "vdz"} - taken, default=""):
            gets(world, theirs, disk(volume.path(), format_, target))


def gets(world: Histories, domain: Any, device: str) -> None:
    if world.is_real:
        # nobody is told of it
        domain.attachDeviceFlags(device, CONFIG)
        return
    root = config(domain)
    root.find("devices").append(document(device))
    world.connection.defineXML(to_text(root))


def lets_go_of_volumes(world: Histories, number: int) -> None:
    root = config(world.connection.lookupByName("theirs"))
    for each in root.findall("devices/disk"):
        root.find("devices").remove(each)
    world.connection.defineXML(to_text(root))


def plugs_another_in(world: Histories, number: int) -> None:
    own = [n for n in world.connection.listAllNetworks() if n.name() in world.own_networks]
    if (network := chosen(world, "network", own, number)) is not None:
        gets(
            world,
            world.connection.lookupByName("theirs"),
            f"<interface type='network'><mac address='52:54:00:00:99:{number % 200:02x}'/>"
            f"<source network='{network.name()}'/></interface>",
        )


def starts_or_stops_another(world: Histories, number: int) -> None:
    theirs = world.connection.lookupByName("theirs")
    if theirs.isActive():
        theirs.destroy()
    else:
        theirs.create()


def deletes_a_volume(world: Histories, number: int) -> None:
    if (volume := volume_of(world, number)) is not None and not world.is_open(volume.path()):
        world.release(volume.path(), "deletes_a_volume")
        volume.delete()


def makes_one_of_the_same_name(world: Histories, number: int) -> None:
    """Instead of the project's, which it deletes."""
    if (volume := volume_of(world, number)) is not None and not world.is_open(volume.path()):
        name, pool = volume.name(), volume.storagePoolLookupByVolume()
        world.release(volume.path(), "makes_one_of_the_same_name")
        volume.delete()
        pool.createXML(f"<volume><name>{name}</name><capacity>1048576</capacity><allocation>0</allocation></volume>")
        if world.is_real:
            made = Path(pool.storageVolLookupByName(name).path())
            world.ledger.write(made)
            world.strangers.add(made.stat().st_ino)


def moves_a_disk_to_another_file(world: Histories, number: int) -> None:
    if (domain := machine_of(world, number)) is None or domain.isActive():
        return
    root = config(domain)
    for source in root.iterfind("devices/disk/source[@file]"):
        path = Path(source.get("file"))
        if path.exists() and backing(path) is None and path.parent == world.folder("images"):
            moved = world.folder("elsewhere") / f"{path.name}.{number}"
            if not moved.exists():
                moved.write_bytes(bytes(path.stat().st_size if format_of(path) == "raw" else 1 << 20))
                world.ledger.write(moved)
                node = source.getparent()
                node.find("driver").set("type", "raw")
                source.set("file", str(moved))
                world.connection.defineXML(to_text(root))
            return


def takes_a_snapshot(world: Histories, number: int) -> None:
    overlay(world, number, 0)


# A backup program


def overlay(world: Histories, number: int, flags: int, beside: bool = True) -> None:
    """Lays an overlay over a machine's first disk, with data in it that is nowhere else."""
    if (domain := machine_of(world, number)) is None:
        return
    root = document(domain.XMLDesc(0 if domain.isActive() else libvirt.VIR_DOMAIN_XML_INACTIVE))
    for node in root.iterfind("devices/disk"):
        source, target = node.find("source"), node.find("target").get("dev")
        path = Path(source.get("file") or "/nowhere") if source is not None else Path("/nowhere")
        world.overlays += 1
        above = (path.parent if beside else world.folder("elsewhere")) / f"{path.name}.backup{world.overlays}"
        if not path.exists() or node.get("device") != "disk":
            continue
        # marked before it has a base, which a QEMU may have locked; in so small clusters a mark hides nothing below it
        size = json.loads(qemu_img("info", "-U", "--output=json", path))["virtual-size"]
        qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", above, size)
        world.ledger.write(above)
        qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-F", format_of(path), "-b", path, above)
        others = "".join(
            f"<disk name='{each.find('target').get('dev')}' snapshot='no'/>"
            for each in root.iterfind("devices/disk")
            if each is not node
        )
        text = (
            f"<domainsnapshot><name>backup{world.overlays}</name><disks>{others}<disk name='{target}' "
            f"snapshot='external'><driver type='qcow2'/><source file='{above}'/></disk></disks></domainsnapshot>"
        )
        both = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
        try:
            domain.snapshotCreateXML(text, both | flags)
        except libvirt.libvirtError:
            world.ledger.release(above)
            above.unlink()
            raise
        return


def lays_an_overlay_without_metadata(world: Histories, number: int) -> None:
    overlay(world, number, NO_METADATA, beside=number % 2 == 0)


def commits_an_overlay_back(world: Histories, number: int) -> None:
    if (domain := machine_of(world, number)) is None:
        return
    running = bool(domain.isActive())
    root = document(domain.XMLDesc(0)) if running else config(domain)
    for node in root.iterfind("devices/disk"):
        source = node.find("source")
        path = Path(source.get("file") or "/nowhere") if source is not None else Path("/nowhere")
        if ".backup" not in path.name or not path.exists() or (below := backing(path)) is None:
            continue
        if running:
            target = node.find("target").get("dev")
            flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | libvirt.VIR_DOMAIN_BLOCK_COMMIT_SHALLOW
            domain.blockCommit(target, None, None, 0, flags)
            for _ in range(200):
                with suppress(libvirt.libvirtError):
                    domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
                    break
                time.sleep(0.02)
            else:
                domain.blockJobAbort(target, 0)
                return
        else:
            qemu_img("commit", "-q", "-d", path)
            source.set("file", str(below))
            node.find("driver").set("type", format_of(below))
            for old in node.findall("backingStore"):
                node.remove(old)
            world.connection.defineXML(to_text(root))
        for snapshot in domain.listAllSnapshots():
            snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        # what it holds is in the file below
        path.unlink()
        return


def makes_a_checkpoint(world: Histories, number: int) -> None:
    if (domain := machine_of(world, number)) is not None and domain.isActive():
        domain.checkpointCreateXML(f"<domaincheckpoint><name>c{number}</name></domaincheckpoint>")


# A second project


def applies_a_second_project(world: Histories, number: int) -> None:
    host = Host(world.connection, world.uri)
    try:
        session = Session(host, open_store(host, "second"), world.second_project(number))
        session.apply(session.plan(world.lenient()), world.lenient(), lambda event: None, parallelism=1)
    finally:
        host.uses.close()


# Commands for snapshots: they take the project's lock, so that none acts inside an apply


def snapshot_command(world: Histories, number: int) -> None:
    if (domain := machine_of(world, number)) is None:
        return
    host, name = Host(world.connection, world.uri), domain.name()
    taken = sorted(snapshot.getName() for snapshot in domain.listAllSnapshots())
    what = number // 7 % 5
    if what in (0, 1) or (what in (2, 3) and not taken):
        create.create(host, name, create.Wish(f"s{number}"))
    elif what == 2:
        merge.merge(host, name)
    elif what == 3:
        snapshot = taken[number % len(taken)]
        for path in revert.loss(host, name, snapshot).dropped:
            world.ledger.release(Path(path))
        revert.revert(host, name, snapshot)
    else:
        merge.flatten(host, name)


# Storage


def unmounts_or_mounts(world: Histories, number: int) -> None:
    if world.away().exists():
        mount(world)
    elif not world.is_open(str(world.folder("images"))):
        os.rename(world.folder("images"), world.away())


def mount(world: Histories) -> None:
    """Over what was put into the place meanwhile, which is not seen any more."""
    if world.away().exists():
        if world.folder("images").exists():
            world.overlays += 1
            os.rename(world.folder("images"), world.folder(f"below.{world.overlays}"))
        os.rename(world.away(), world.folder("images"))
        for pool in world.connection.listAllStoragePools():
            if pool.name() == "images" and pool.isActive():
                with suppress(libvirt.libvirtError):
                    pool.refresh()


EVERYWHERE: tuple[Actor, ...] = (
    *(redefines, takes_a_device_out, attaches_a_volume_to_another, lets_go_of_volumes, plugs_another_in),
    *(deletes_a_volume, makes_one_of_the_same_name, starts_or_stops_another, applies_a_second_project),
)
WITH_FILES: tuple[Actor, ...] = (
    *(takes_a_snapshot, lays_an_overlay_without_metadata, commits_an_overlay_back, makes_a_checkpoint),
    *(moves_a_disk_to_another_file, unmounts_or_mounts),
)
# What a plan that waits has not seen
IN_THE_WAY = (makes_one_of_the_same_name, attaches_a_volume_to_another, plugs_another_in, redefines)
BETWEEN: tuple[Actor, ...] = (snapshot_command,)


def act(world: Histories, actor: Actor, number: int) -> None:
    """In front of everybody: what others own by now is what has to stay."""
    with suppress(libvirt.libvirtError, KvmstateError, subprocess.CalledProcessError, FileNotFoundError):
        actor(world, number)
    world.done.append(actor.__name__)
    world.look_around()
