"""kvmstate vm display --open: a viewer shows the screen, also of a host that is reached by ssh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest
from harness import MAIN, Project, idle, kvmstate, until
from ssh_server import ROOT, Server

pytestmark = pytest.mark.real

# a viewer that shows on its standard output what the server says first
FAKE = """#!{python}
import socket, sys, urllib.parse
at = urllib.parse.urlsplit(sys.argv[1])
said = socket.create_connection((at.hostname, at.port)).recv(12)
open({log!r}, "w").write(f"{{at.scheme}} {{said.decode().strip()}}")
"""
MACHINE = """<domain type='qemu'><name>12</name><memory unit='MiB'>32</memory>
<os><type machine='q35'>hvm</type></os>
<devices>{}<video><model type='vga'/></video></devices></domain>"""
SCREENS = {
    "vnc": "<graphics type='vnc' port='-1' autoport='yes'{}/>",
    "spice": "<graphics type='spice' autoport='yes'{}/>",
    "nowhere": "<graphics type='spice'{}><listen type='none'/></graphics>",
}


def start(connection: libvirt.virConnect, screen: str, more: str = "") -> libvirt.virDomain:
    return connection.createXML(MACHINE.format(SCREENS[screen].format(more)))


@pytest.fixture
def by_ssh(project: Project, tmp_path: Path) -> str:
    return Server(project.host, tmp_path).uri()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the viewer has been told; there is no other."""
    programs, log = tmp_path / "bin", tmp_path / "said"
    programs.mkdir()
    (programs / "remote-viewer").write_text(FAKE.format(python=sys.executable, log=str(log)))
    (programs / "remote-viewer").chmod(0o755)
    (programs / "virt-viewer").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return log


def test_a_screen_that_only_its_host_reaches_is_tunnelled(
    connection: libvirt.virConnect, by_ssh: str, fake: Path
) -> None:
    start(connection, "vnc")
    opened = kvmstate("vm", "display", "12", "--open", "-c", by_ssh)
    assert (opened.code, fake.read_text()) == (0, "vnc RFB 003.008"), opened


@pytest.fixture
def screen() -> Iterator[str]:
    """An X server without hardware."""
    if not (shutil.which("Xvfb") and shutil.which("virt-viewer")):
        pytest.skip("Xvfb and virt-viewer are not installed")
    there, here = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(here), "-nolisten", "tcp"], pass_fds=[here], stderr=-3)
    os.close(here)
    with open(there) as told:
        number = told.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait()


@pytest.mark.parametrize(("shown", "remote"), [("vnc", False), ("nowhere", False), ("spice", True)])
def test_viewers_show_it(
    shown: str, remote: bool, project: Project, connection: libvirt.virConnect, by_ssh: str, screen: str
) -> None:
    # here nobody is asked for the password, and there is nobody to ask
    domain = start(connection, shown, " passwd='secret'" if not remote else "")
    uri = by_ssh if remote else project.uri
    words = [sys.executable, "-c", MAIN, "vm", "display", "12", "--open", "-c", uri]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DISPLAY": screen, "NO_AT_BRIDGE": "1"}
    viewer = subprocess.Popen(words, env=env, stderr=-3)

    def seen() -> bool:
        assert viewer.poll() is None
        ask, found = ("query-vnc", "clients") if shown == "vnc" else ("query-spice", "channels")
        told = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": ask}), 0)
        there = json.loads(told)["return"].get(found, [])
        # channels of SPICE: 2 is the screen's
        return bool(there) if shown == "vnc" else 2 in {each["channel-type"] for each in there}

    try:
        until(seen, "the viewer is connected", 30)
    finally:
        viewer.terminate()
        viewer.wait()


def test_a_socket_that_libvirt_names_is_the_same_after_each_start(
    project: Project, connection: libvirt.virConnect
) -> None:
    machine = idle("web", type="qemu", graphics=[{"type": "vnc", "ownSocket": True}])
    project.converge(machine)
    web = connection.lookupByName("web")
    first = web.XMLDesc()
    assert "/vnc.sock'" in first
    web.destroy()
    web.create()
    assert web.XMLDesc() != first
    project.converge(machine)
    project.converge(idle("web", {"restart": "now"}, type="qemu", graphics=[{"type": "vnc", "listen": "127.0.0.1"}]))
    assert ".sock'" not in web.XMLDesc().partition("<graphics")[2].partition("</graphics>")[0]
