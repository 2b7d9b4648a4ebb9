"""Random edits of a running machine, one after the other: after each apply nothing is left to do, or no more than what
waits for a restart; after one restart nothing waits. MAC addresses and disks stay as they are."""

from __future__ import annotations

import hashlib
import os
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import pytest
from harness import Guest, Project, pool, resource, until
from lxml import etree

if TYPE_CHECKING:
    from conftest import Guest as Files

COUNT = int(os.environ.get("KVMSTATE_SEQUENCES", "2"))
SEED = int(os.environ.get("KVMSTATE_SEED", "1"))
EDITS = (3, 6)
GONE = object()
VOLUMES = {"root": "2MiB", "more": "3MiB", "disc": "1MiB"}

ROOT = {"name": "root", "volume": "images/root"}
MORE = {"name": "more", "volume": "images/more", "bus": "virtio"}
CD: dict[str, Any] = {"name": "cd", "device": "cdrom", "bus": "sata"}
NIC = {"name": "nic", "network": "one"}
BACK = {"name": "back", "network": "two"}
# What an edit may say of a field; of an item of a list what is said of that item. The first value is there at first.
FIELDS: dict[str, tuple[Any, ...]] = {
    "title": (GONE, "One", "Two & <three>"),
    "description": (GONE, "Words"),
    "cpus": (1, 2, 3),
    "maxCpus": (3, 4),
    "memory": ("128MiB", "112MiB"),
    "maxMemory": ("128MiB", "144MiB"),
    "cpu": (GONE, {"mode": "custom", "model": "Nehalem"}, {"mode": "maximum"}),
    "clock": (GONE, {"offset": "localtime"}, {"offset": "utc", "timers": [{"name": "hpet", "present": False}]}),
    "boot": (GONE, ["hd", "network"]),
    "iothreads": (GONE, 1, 2),
    "memballoon": (GONE, {"model": "virtio", "statsPeriod": 5}),
    "graphics": (GONE, [{"type": "vnc"}], [{"type": "vnc", "password": {"clear": "one"}}]),
    "video": (GONE, {"model": "vga"}, {"model": "virtio"}),
    "rng": (GONE, {}, {"source": "/dev/random"}),
    "watchdog": (GONE, {"action": "none"}, {"action": "reset"}),
    "channels": (GONE, [{"name": "org.example.one"}], [{"name": "org.example.one"}, {"name": "org.example.two"}]),
    "guestAgent": (GONE, True),
    "inputs": (GONE, [{"type": "keyboard", "bus": "virtio"}], [{"type": "tablet", "bus": "usb"}]),
    "sound": (GONE, [{"model": "ich9"}]),
    "xml": (GONE, {"./features/vmport/@state": "off"}),
    "disks.root": (ROOT, {**ROOT, "cache": "none"}, {**ROOT, "serial": "abc"}, {**ROOT, "discard": "ignore"}),
    "disks.cd": (CD, {**CD, "volume": "images/disc"}),
    "disks.more": (GONE, MORE, {**MORE, "readOnly": True}, {**MORE, "bus": "sata"}, {**MORE, "serial": "def"}),
    "interfaces.nic": (NIC, {**NIC, "network": "two"}, {**NIC, "link": "down"}, {**NIC, "mtu": 1400}),
    "interfaces.back": (GONE, BACK, {**BACK, "model": "e1000"}, {**BACK, "link": "down"}),
}


def machine(tiny: Guest, said: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    for place, value in said.items():
        name, _, item = place.partition(".")
        if value is not GONE and item:
            spec.setdefault(name, []).append(value)
        elif value is not GONE:
            spec[name] = value
    usb = [{"name": "usb0", "model": "qemu-xhci"}]
    return tiny.machine("web", type="qemu", machine="q35", controllers=usb, **spec)  # type: ignore[no-any-return]


def macs(domain: libvirt.virDomain, flags: int) -> set[str]:
    root = etree.fromstring(domain.XMLDesc(flags))
    return {str(mac.get("address")) for mac in root.iterfind("devices/interface/mac")}


def digests(project: Project) -> dict[str, str]:
    return {name: hashlib.sha256(project.path(f"images/{name}").read_bytes()).hexdigest() for name in VOLUMES}


@pytest.mark.real
@pytest.mark.timeout(3600)
def test_random_edits_of_a_running_machine(
    project: Project, connection: libvirt.virConnect, guest: Files, tmp_path: Path
) -> None:
    choose = random.Random(SEED)
    tiny = Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, tmp_path / "console.log")
    others = [
        pool(),
        *(
            resource("Volume", name, pool="images", format="raw", capacity=capacity)
            for name, capacity in VOLUMES.items()
        ),
        *(
            resource("Network", name, ips=[{"address": f"192.168.{number}.1/24"}])
            for number, name in ((96, "one"), (97, "two"))
        ),
    ]
    project.converge(*others)
    for name in VOLUMES:
        with project.path(f"images/{name}").open("r+b") as file:
            file.write(f"marker:{name}\n".encode() + choose.randbytes(1 << 19))
    before, known = digests(project), dict[str, str]()
    said = {place: values[0] for place, values in FIELDS.items()}
    project.converge(*others, machine(tiny, said))
    for number in range(COUNT):
        boot, began, told = tiny.boot(), connection.lookupByName("web").ID(), list[str]()
        for _ in range(choose.randint(*EDITS)):
            for place in choose.sample([*FIELDS], choose.choice((1, 1, 2, 3))):
                said[place] = choose.choice([value for value in FIELDS[place] if value != said[place]])
                told.append(f"{place}: {'GONE' if said[place] is GONE else said[place]}")
            at = f"sequence {number} of seed {SEED}: {'; '.join(told)}"
            project.write(*others, machine(tiny, said))
            applied = project.apply()
            assert applied.code == 0, f"{at}\n{applied}"
            planned = project.plan()
            assert planned.code == 0, f"{at}\n{planned}"
            assert {*project.syncs().values()} <= {"InSync", "RestartPending"}, at
            web = connection.lookupByName("web")
            assert web.ID() == began, at
            found = sorted(macs(web, libvirt.VIR_DOMAIN_XML_INACTIVE))
            wanted = [place for place in said if place.startswith("interfaces.") and said[place] is not GONE]
            assert len(found) == len(wanted), at
            for place, mac in zip(wanted, _in_order(web), strict=True):
                assert known.setdefault(place, mac) == mac, at
        assert tiny.boot() == boot, at
        print(at)
        web.destroy()
        web.create()
        until(lambda boot=boot: tiny.boot() != boot, "it boots again")  # type: ignore[misc]
        planned = project.plan()
        assert planned.code == 0, f"{at}\n{planned}"
        assert {*project.syncs().values()} == {"InSync"}, f"{at}\n{planned}"
        assert macs(web, 0) == macs(web, libvirt.VIR_DOMAIN_XML_INACTIVE), at
        assert digests(project) == before, at
        # the guest has no driver for SATA
        for name in ("root", "more") if "'vdb'" in web.XMLDesc() else ("root",):
            tiny.says(rf"disks=\S*marker:{name}")


def _in_order(domain: libvirt.virDomain) -> list[str]:
    text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return re.findall(r"<interface .*?<mac address='([^']*)'.*?</interface>", text, re.DOTALL)
