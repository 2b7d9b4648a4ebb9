"""Installing a machine: the steps from an empty disk to a machine that starts from it, whoever does the rest of them.

As virt-install does it, the installer is started with an XML of its own, in which the first reboot ends in off, and
what is defined is from the beginning the machine as it shall be. How far it has come stands in the domain's metadata,
see `kvmstate.host.installation`. An installer is started on disks to which nothing was ever written, and on no others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, domains, installation, pools, volumes
from kvmstate.host.installation import Stage
from kvmstate.host.listening import Listener
from kvmstate.host.objects import Domain
from kvmstate.kind import Context, Fault, Scene
from kvmstate.kind.steps import Step, simple
from kvmstate.kinds.virtual_machine.devices.disk import BUS_PREFIX, Bus, Disk, free_target
from kvmstate.model.change import Action, Change
from kvmstate.model.effect import Effect
from kvmstate.model.pool_types import Volumes
from kvmstate.model.reference import Lookup, VolumeRef
from kvmstate.model.resource import ResourceId
from kvmstate.model.stopping import stopping
from kvmstate.xmlbind import disk_source, document, to_text
from kvmstate.xmlbind.path import parse_path

if TYPE_CHECKING:
    from kvmstate.kinds.virtual_machine.settings import Install
    from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec

PERIOD = 0.5
_HOUR = 3600
_UNKNOWN = "what is on disk {} is not known"
_NOTE = "note that it is installed"
# What a machine's state is called meanwhile
INSTALLING = "installing"
# What differs meanwhile, and is done when it has ended
_AFTERWARDS = ("state", "autostart")
_CUT_OFF = ("destroyed", "crashed", "failed")
# In <os>, of a machine that boots a kernel by itself
_DIRECT = ("kernel", "initrd", "cmdline", "dtb")
# Of each word in <boot dev=…>: where its first device is
_FIRST = {
    "hd": "disk[@device='disk']",
    "cdrom": "disk[@device='cdrom']",
    "fd": "disk[@device='floppy']",
    "network": "interface",
}


def faults(spec: VirtualMachineSpec) -> Iterator[Fault]:
    if spec.install and not [*_written_to(spec)]:
        yield Fault(("install",), "it has no disk that it could be installed on", "give it one, with `create`")


def _written_to(spec: VirtualMachineSpec) -> list[Disk]:
    """The disks that an installer could write to; first the one that it boots from afterwards."""
    found = [disk for disk in spec.disks if disk.device in ("disk", "lun") and not disk.read_only]
    return sorted(found, key=lambda disk: disk.boot_order or 1 << 16)


def judge(at: Scene) -> None:
    """A machine that is made says whether it is installed: it is not where its disk holds something, and is blocked
    where another one does."""
    for id_, change in list(at.changes.items()):
        if id_.kind != "domain" or change.action is not Action.CREATE or not change.spec.install:
            continue
        root, *others = _written_to(change.spec)
        if why := _held(at, root):
            spec = change.spec.model_copy(update={"install": None})
            at.changes[id_] = replace(change, spec=spec, reason=_and(change.reason, f"it is not installed: {why}"))
        elif not change.blocked and (found := [(disk, why) for disk in others if (why := _held(at, disk))]):
            disk, why = found[0]
            hint = f"let the machine have disk {disk.name} after it was installed; or take `install` out"
            at.changes[id_] = replace(change, blocked=f"its installer could write to what is there: {why}", hint=hint)
        else:
            at.changes[id_] = replace(
                change, reason=_and(change.reason, f"installed from {_medium(change.spec.install)}")
            )


def _and(*texts: str) -> str:
    return "; ".join(filter(None, texts))


def _medium(install: Install) -> str:
    return str(install.iso or (install.kernel and (install.kernel.volume or install.kernel.path)))


def _held(at: Scene, disk: Disk) -> str:
    """Why an installer must not write to a disk; empty where nothing is on it."""
    if disk.volume is None:
        return _UNKNOWN.format(disk.name)
    change = at.changes.get(ResourceId("volume", str(disk.volume)))
    if change and change.desired and change.action in (Action.CREATE, Action.REPLACE):
        filled = change.copies or change.desired.spec.filling() or change.desired.spec.backing
        return f"volume {disk.volume} is made with something on it" if filled else ""
    return "" if _is_unwritten(at.host, disk.volume) else _has_data(disk)


def _has_data(disk: Disk) -> str:
    return f"volume {disk.volume} is there, and something may be on it" if disk.volume else _UNKNOWN.format(disk.name)


def _is_unwritten(host: Host, volume: VolumeRef, made: bool = False) -> bool:
    """Of one that was `made` right now, nothing else need be known than what lies below it."""
    try:
        text = volumes.xml(volumes.find(pools.find(host.connection, volume.pool), volume.name))
    except ConnectionFailed:
        raise
    except HostError:
        # nobody can tell
        return False
    root, kept = document(text), host.lookup.files.type_of(volume.pool)
    files = kept is not None and kept.volumes is Volumes.FILES
    return root.find("backingStore/path") is None and (made or (files and volumes.never_written(root)))


def judged(host: Host, change: Change) -> Change:
    """The change of a machine whose installation has not ended, as far as it may be done now."""
    seen = change.observed
    if seen is None or change.desired is None or change.action in (Action.ADOPT, Action.DELETE, Action.FORGET):
        return change
    if change.suspended or (stage := installation.read(seen.xml)) is None:
        return change
    if installation.runs(seen.active_xml):
        others = [f.where for f in change.fields if f.path[0] not in _AFTERWARDS and f.effect is not Effect.NONE]
        if others or change.action is Action.REPLACE or change.spec.status() == "stopped":
            what = ", ".join(others) or "it"
            return replace(
                change,
                blocked=f"{what} waits for the end of its installer, which runs",
                hint=f"virt-viewer shows it; `virsh destroy {change.id.name}` gives it up",
            )
        if change.action is Action.NOOP or not host.patient:
            return change.waits("its installer runs")
        only = tuple(f for f in change.active_fields if f.path[0] in _AFTERWARDS)
        return replace(change, active_fields=only, reason="its installer runs: waits for its end, then starts it")
    if seen.running or change.action is not Action.UPDATE:
        return change
    if stage is Stage.TO_START and change.spec.install and change.spec.runs:
        # a run was cut off before it started its installer, or it was off until now
        root = _written_to(change.spec)[0]
        free = root.volume is not None and _is_unwritten(host, root.volume)
        told = f"installed from {_medium(change.spec.install)}" if free else f"it is not installed: {_has_data(root)}"
        return replace(change, reason=told)
    if not seen.saved_xml and stage is not Stage.TO_START:
        why = domains.stopped_because(domains.find(host.connection, change.id.name))
        if stage is Stage.CUT_OFF or why in _CUT_OFF:
            return replace(change, blocked=_cut_off(why), hint=_AGAIN.format(change.id.name))
        known = why == "shutdown"
        told = "its installer has ended" if known else "its installer has run, and nobody knows how it ended"
        return replace(change, reason=told)
    return change


_AGAIN = (
    "`virsh start {0}` takes it as it is; to install it again, delete it and its disks (virsh undefine, virsh "
    "vol-delete), and `kvmstate recreate` what is lost"
)


def _cut_off(why: str) -> str:
    return f"its installer was cut off ({why}): what is on its disks may not be whole"


def steps(change: Change, at: Context, find: Callable[[], Domain]) -> tuple[list[Step], bool]:
    """What comes before a machine is started from its disk, none for one that is installed; and whether the installer
    has ended then: a run need not wait for it."""
    host, spec, seen = at.host, change.spec, change.observed
    install: Install | None = spec.install
    stage = installation.read(seen.xml) if seen else Stage.TO_START if install else None
    if stage is None:
        return [], True
    if change.moved_from and seen and seen.running:
        raise HostError(
            "its installer runs, and a machine gets another name while it is off", "apply again when it has ended"
        )
    todo: list[Step] = []
    if seen and installation.runs(seen.saved_xml):
        todo.append(simple("start its installer from its saved memory", lambda: domains.start(find())))
    elif seen and installation.runs(seen.active_xml):
        if stage is Stage.TO_START:
            # a run was cut off right after it had started it
            todo.append(simple("note that its installer runs", lambda: installation.note(find(), Stage.STARTED)))
    elif stage is Stage.TO_START and install and _is_free(spec, at):
        todo.append(simple(f"start its installer from {_medium(install)}", lambda: _start(find(), spec, at)))
    else:
        return [simple(_NOTE, lambda: installation.end(find()))], True
    if not host.patient:
        return todo, False
    seconds = install.timeout if install else _HOUR
    wait = simple(f"wait for its installer, for {seconds} s at most", lambda: _wait(host, find(), seconds))
    return [*todo, wait, simple(_NOTE, lambda: installation.end(find()))], True


def _is_free(spec: VirtualMachineSpec, at: Context) -> bool:
    """Whether nothing was ever written to the disk that the machine is to start from. Raises HostError where that is so
    and something may be on another one."""

    def free(disk: Disk) -> bool:
        if disk.volume is None:
            return False
        return _is_unwritten(at.host, disk.volume, at.gate.made_empty(ResourceId("volume", str(disk.volume))))

    root, *others = _written_to(spec)
    if not free(root):
        return False
    if taken := [disk for disk in others if not free(disk)]:
        raise HostError(f"its installer could write to what is on disk {taken[0].name}", "plan again")
    return True


def _start(domain: Domain, spec: VirtualMachineSpec, at: Context) -> None:
    assert spec.install
    text = installer(domains.xml(domain, secure=True), spec.install, at.host.lookup)
    domains.start_as(domain, text)
    installation.note(domain, Stage.STARTED)


def _wait(host: Host, domain: Domain, seconds: float) -> None:
    with Listener(domain, host.is_local) as console:
        _listen(domain, seconds, console)


def _listen(domain: Domain, seconds: float, console: Listener) -> None:
    deadline = time.monotonic() + seconds
    goes_on = "it goes on; the next apply waits for it again, and `kvmstate run` does the rest as well"
    while domains.state(domain) != "stopped":
        if not installation.runs(domains.xml(domain, inactive=False)):
            # somebody has ended it, and started the machine
            return
        if stopping.is_set():
            raise HostError("interrupted while its installer runs", goes_on)
        console.listen()
        if time.monotonic() >= deadline:
            raise HostError(f"its installer has not ended (waited {seconds:g} s){console.told()}", goes_on)
        time.sleep(PERIOD)
    if (why := domains.stopped_because(domain)) in _CUT_OFF:
        installation.note(domain, Stage.CUT_OFF)
        raise HostError(f"{_cut_off(why)}{console.told()}", _AGAIN.format(domain.name))


def installer(text: str, install: Install, lookup: Lookup) -> str:
    """The XML of a machine as its installer runs in it: from its medium or kernel, off at the first reboot."""
    root = document(text)
    installation.write(root, Stage.RUNS)
    for event in ("on_poweroff", "on_reboot"):
        parse_path(event).set(root, "destroy")
    system, devices = root.find("os"), root.find("devices")
    assert system is not None
    assert devices is not None
    for tag in _DIRECT if install.kernel else ("kernel", "initrd", "cmdline"):
        for node in system.findall(tag):
            system.remove(node)
    if kernel := install.kernel:
        for tag, volume, path in (
            ("kernel", kernel.volume, kernel.path),
            ("initrd", kernel.initrd_volume, kernel.initrd),
        ):
            if where := lookup.volume_source(volume).path if volume else path:
                etree.SubElement(system, tag).text = where
        if kernel.cmdline:
            etree.SubElement(system, "cmdline").text = kernel.cmdline
    bus = install.bus or _bus(system)
    if bus == "scsi" and devices.find("controller[@type='scsi']") is None:
        # libvirt's own choice is a model that few kernels have a driver for
        etree.SubElement(devices, "controller", type="scsi", model="virtio-scsi")
    media = [*([install.iso] if install.iso else []), *install.drives]
    drives = [_drive(devices, volume, bus, lookup) for volume in media]
    if install.iso and not install.kernel:
        _boot_first(system, devices, drives[0])
    return to_text(root)


def _bus(system: etree._Element) -> Bus:
    machine = parse_path("type/@machine").text(system) or ""
    if "q35" in machine:
        return "sata"
    return "ide" if machine.startswith(("pc", "isapc")) else "scsi"


def _drive(devices: etree._Element, volume: VolumeRef, bus: Bus, lookup: Lookup) -> etree._Element:
    target = free_target(BUS_PREFIX[bus], {each.get("dev", "") for each in devices.iterfind("disk/target")})
    drive = etree.Element("disk", type="file", device="cdrom")
    source = lookup.volume_source(volume)
    disk_source.write(drive, source.type, source.path, "raw")
    etree.SubElement(drive, "target", dev=target, bus=bus)
    etree.SubElement(drive, "readonly")
    last = max((index for index, each in enumerate(devices) if each.tag == "disk"), default=-1)
    devices.insert(last + 1, drive)
    return drive


def _boot_first(system: etree._Element, devices: etree._Element, drive: etree._Element) -> None:
    """Before all others, which keep their order. What names kinds of devices would mean the first drive of all."""
    ordered = [each for each in devices.iter("boot") if each.get("order")]
    if not ordered:
        words = [each.get("dev", "") for each in system.findall("boot")]
        first = [devices.find(_FIRST[word]) for word in words if word in _FIRST]
        ordered = [
            etree.SubElement(each, "boot", order="0") for each in first if each is not None and each is not drive
        ]
        for number, each in enumerate(ordered, 1):
            each.set("order", str(number))
    for each in system.findall("boot"):
        system.remove(each)
    for each in ordered:
        each.set("order", str(int(each.get("order", "0")) + 1))
    etree.SubElement(drive, "boot", order="1")
