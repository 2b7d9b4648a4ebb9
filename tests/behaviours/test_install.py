"""Machines that are installed: by whom the rest is done, and what an installer never writes to."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from daemons import Daemon
from harness import QUICK, Guest, Project, idle, kvmstate, pool, resource, until
from installers import medium
from test_recipes import JOBS, block

pytestmark = pytest.mark.real

INSTALLS = int(os.environ.get("KVMSTATE_INSTALLS", "0"))
SEED = int(os.environ.get("KVMSTATE_SEED", "1"))
DISK: dict[str, Any] = {"name": "root", "create": {"pool": "images", "capacity": "1MiB", "format": "raw"}}
LINE = "domain/web "


def folder(guest: Guest) -> Path:
    return Path(guest.kernel["path"]).parent


def installed(guest: Guest, options: str = "kvmstate.install=poweroff", **spec: Any) -> dict[str, Any]:
    """Boots the kernel of its installer, and that of the tiny guest afterwards."""
    kernel = {**guest.kernel, "cmdline": f"{QUICK} {options}"}
    machine: dict[str, Any] = guest.machine("web", **{"disks": [DISK], "install": {"kernel": kernel}, **spec})
    return machine


def domain_of(planned: str) -> str:
    return next(line for line in planned.splitlines() if LINE in line)


def test_what_the_docs_say_boots_a_medium_once(project: Project, tiny: Guest, connection: libvirt.virConnect) -> None:
    image, machine = yaml.safe_load_all(block(JOBS / "iso-install.md", "apiVersion:"))
    made = medium(project.folder / "installer.iso", folder(tiny), "kvmstate.install=reboot")
    image["spec"]["content"] = {"file": str(made)}
    machine["spec"] |= {"memory": "128MiB", "interfaces": [], "serials": [{"port": 0, "log": str(tiny.log)}]}
    machine["lifecycle"] = idle("web-2")["lifecycle"]
    lab = pool("lab")
    applied = project.converge(lab, image, machine)
    assert "installed from lab/debian-12.iso" in applied.out
    assert b"marker:installed\n" in project.path("lab/web-2-root.qcow2").read_bytes()
    domain = connection.lookupByName("web-2")
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        xml = domain.XMLDesc(flags)
        assert [word for word in ("cdrom", "install") if word in xml] == []
        assert "<on_reboot>restart</on_reboot>" in xml
    # the medium is nobody's any more
    machine["spec"].pop("install")
    project.converge(lab, machine, options=("--prune",))


def test_what_was_killed_is_finished_by_the_daemon(
    project: Project, tiny: Guest, connection: libvirt.virConnect
) -> None:
    machine = installed(tiny, "kvmstate.install=poweroff kvmstate.install_waits=1", autostart=True)
    # it is installed when it is to run
    project.converge(pool(), {**machine, "spec": {**machine["spec"], "state": "stopped"}})
    assert project.path("images/web-root").read_bytes() == bytes(1 << 20)
    project.write(pool(), machine)
    assert "(installed from /" in domain_of((planned := project.plan()).out), planned
    killed = project.start_apply()
    until(lambda: "guest: installs over" in tiny.said(), "the installer runs")
    killed.kill()
    killed.wait()
    assert "(its installer runs" in domain_of((planned := project.plan()).out), planned
    assert "installing" in project.kvmstate("status").out
    # what is edited meanwhile waits
    project.write(pool(), {**machine, "spec": {**machine["spec"], "memory": "96MiB"}})
    assert "memory waits for the end of its installer" in (planned := project.plan()).out, planned
    project.write(pool(), machine)
    daemon = Daemon(project.folder, project.folder / "run.log")
    try:
        daemon.says("Ready")
        connection.lookupByName("web").shutdown()
        tiny.says("disks=vda:1MiB:marker:installed nics=")
    finally:
        daemon.stop()
    assert project.plan().code == 0
    # it is there, and its installer is not started again, also when the machine is made again
    assert kvmstate("destroy", str(project.folder), "--auto-approve", "--target", "domain/web").code == 0
    assert "it is not installed: volume images/web-root is there" in project.plan().out


def test_an_installer_that_is_cut_off_is_not_started_again(
    project: Project, tiny: Guest, connection: libvirt.virConnect
) -> None:
    machine = installed(tiny, "kvmstate.install=poweroff kvmstate.install_waits=1")
    answers = b"text\npoweroff\n"
    machine["spec"]["install"] |= {"timeout": "1s", "drives": ["images/answers.iso"], "bus": "scsi"}
    machine["spec"]["install"]["kernel"]["cmdline"] += " kvmstate.seed=1"
    seed = {"label": "OEMDRV", "files": {"ks/ks.cfg": answers.decode()}}
    drive = resource("Volume", "answers.iso", pool="images", format="iso", content={"seed": seed})
    project.write(pool(), drive, machine)
    for _ in range(2):
        # the next one waits for it again
        assert "its installer has not ended (waited 1 s)" in (waited := project.apply()).err + waited.out, waited
    domain = connection.lookupByName("web")
    assert "answers.iso" in domain.XMLDesc()
    assert "answers.iso" not in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    read = f"guest: seed ks/ks.cfg {hashlib.sha256(answers).hexdigest()}"
    until(lambda: read in tiny.said(), "the installer reads its answers")
    for verb in ("shutdown", "reboot", "reboot --apply-pending", "reset", "save"):
        refused = kvmstate("vm", *verb.split(), "web", "-C", str(project.folder))
        assert (refused.code, "its installer runs" in refused.err, domain.isActive()) == (1, True, 1), refused
    cut = kvmstate("vm", "poweroff", "web", "-C", str(project.folder))
    assert "powered off; its installer was cut off, and nobody knows what is on its disk" in cut.out
    assert "its installer was cut off (destroyed)" in domain_of((planned := project.plan()).out), planned
    assert project.apply().code == 1
    # whoever starts it by hand takes it as it is
    domain.create()
    project.converge()
    domain.destroy()
    project.converge()


def test_what_may_hold_something_is_not_installed_over(project: Project, tiny: Guest) -> None:
    volume = resource("Volume", "data", pool="images", capacity="1MiB", format="raw")
    project.converge(pool(), volume)
    project.path("images/data").write_bytes(b"precious".ljust(1 << 20, b"\0"))
    data: dict[str, Any] = {"name": "data", "volume": "images/data"}
    project.write(pool(), volume, installed(tiny, disks=[DISK, data]))
    planned = project.plan()
    assert "blocked: its installer could write to what is there: volume images/data" in planned.out, planned
    project.write(pool(), volume, installed(tiny, disks=[DISK, {**data, "bootOrder": 1}]))
    assert "it is not installed: volume images/data is there, and something may be on it" in project.plan().out
    (project.folder / "base.raw").write_bytes(b"marker:base".ljust(1 << 20, b"\0"))
    filled = {"name": "root", "create": {"pool": "images", "content": {"file": "base.raw"}}}
    project.converge(pool(), volume, installed(tiny, disks=[filled], state="stopped"))
    # an installer that is added to what is there changes nothing
    project.converge(pool(), volume, idle("old", disks=[data], state="stopped"))
    later = idle("old", disks=[data])
    later["spec"]["install"] = installed(tiny)["spec"]["install"]
    project.converge(pool(), volume, later)
    assert project.path("images/data").read_bytes().startswith(b"precious")


@pytest.mark.skipif(not INSTALLS, reason="takes long: script/trials installs")
@pytest.mark.timeout(3600)
def test_killed_at_any_moment_it_is_installed_once(project: Project, tiny: Guest) -> None:
    lab, chance, took = pool(), random.Random(SEED), 0.0
    made = medium(project.folder / "installer.iso", folder(tiny), "kvmstate.install=reboot")
    gone = {"deletion": "delete"}
    image = resource("Volume", "installer.iso", gone, pool="images", format="iso", content={"file": str(made)})
    disk = {**DISK, "create": {**DISK["create"], "lifecycle": gone}}
    for number in range(-1, INSTALLS):
        if medial := chance.random() < 0.5 or number < 0:
            machine = installed(tiny, disks=[disk], install={"iso": "images/installer.iso"})
        else:
            machine = installed(tiny, disks=[disk])
        project.write(lab, image, machine)
        began, when = time.monotonic(), ""
        moment = chance.uniform(0, took if medial else took / 2) if number >= 0 else None
        applying = project.start_apply()
        try:
            applying.wait(moment)
        except subprocess.TimeoutExpired:
            applying.kill()
            applying.wait()
            when = f"kill {number}, seed {SEED}, after {moment:.2f} s of {took:.2f} s, medium: {medial}"
            if chance.random() < 0.3:
                # on an installer that may have ended long ago
                time.sleep(chance.uniform(0, took))
        took = took or time.monotonic() - began
        if chance.random() < 0.3:
            daemon = Daemon(project.folder, project.folder / "run.log")
            tiny.says("disks=vda:1MiB:marker:installed nics=")
            assert daemon.stop() == 0, when
        print(when, flush=True)
        applied = project.apply()
        assert applied.code == 0, f"{when}\n{applied}"
        assert project.plan().code == 0, when
        tiny.says("disks=vda:1MiB:marker:installed nics=")
        assert {file.name for file in project.path("images").iterdir()} == {"web-root", "installer.iso"}, when
        assert kvmstate("destroy", str(project.folder), "--auto-approve", "--exclude", "pool/images").code == 0
        tiny.log.unlink()
