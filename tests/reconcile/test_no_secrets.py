"""No byte of a secret is kept on the host, saved with a plan, printed, written, served or sent."""

from __future__ import annotations

import hashlib
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from daemons import Daemon
from harness import Project, kvmstate, pool, resource, until

pytestmark = pytest.mark.real

PATH = "./devices/graphics[@type='vnc']/@passwd"
CONTENT = bytes(4096)


def secure(connection: libvirt.virConnect) -> str:
    text: str = connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    return text


def password(connection: libvirt.virConnect) -> str:
    return secure(connection).partition("passwd='")[2].partition("'")[0]


def recorded(connection: libvirt.virConnect) -> str:
    """All that kvmstate keeps of the project on the host."""
    secrets = [each for each in connection.listAllSecrets() if each.usageID().startswith("kvmstate:shop:")]
    text = ""
    for each in secrets:
        try:
            value = each.value(0)
        except libvirt.libvirtError:
            # a claim has none
            continue
        text += (zlib.decompress(value) if each.usageID()[-1].isdecimal() else value).decode()
    return text


def everything(password: str, address: str) -> list[dict[str, Any]]:
    """Secrets wherever a manifest can have them, each with `-secret` in it."""
    xml = {
        PATH: password,
        "./qemu:commandline/qemu:env/@name": "SOMETHING",
        "./qemu:commandline/qemu:env/@value": "1st-secret",
        "./description": "see http://user:2nd-secret@h/x?sig=2nd-secret",
    }
    rest = """
      <domain type='qemu'>
        <os><type arch='x86_64' machine='q35'>hvm</type><smbios mode='sysinfo'/></os>
        <sysinfo type='smbios'><oemStrings><entry>3rd-secret</entry></oemStrings></sysinfo>
        <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
          <qemu:env name='OTHER' value='4th-secret'/>
        </qemu:commandline>
      </domain>"""
    kernel = {"path": "/var/lib/libvirt/vmlinuz", "cmdline": "console=ttyS0 luks=5th-secret"}
    content = {
        "url": f"http://{address}/i?s=6th-secret",
        "checksum": f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
    }
    return [
        pool(),
        resource("Volume", "v", pool="images", format="raw", content=content),
        resource("VirtualMachine", "web", memory="64MiB", state="stopped", graphics=[{"type": "vnc"}], xml=xml),
        resource("VirtualMachine", "db", memory="64MiB", state="stopped", kernel=kernel),
        resource("VirtualMachine", "old", memory="64MiB", state="stopped", remainder=rest),
    ]


class Server(ThreadingHTTPServer):
    """Has the content, whoever asks, and keeps what is sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"127.0.0.1:{self.server_port}"
        self.got: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def do_POST(self) -> None:
        self.server.got.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as opened:
        threading.Thread(target=opened.serve_forever, args=(0.02,), daemon=True).start()
        yield opened
        opened.shutdown()


def served(daemon: Daemon, path: str) -> str:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.connect(f"{daemon.env['XDG_RUNTIME_DIR']}/kvmstate/shop.sock")
        opened.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: opened.recv(65536), b"")).decode()


def test_no_byte_of_a_secret_is_kept_or_told(
    project: Project, connection: libvirt.virConnect, server: Server, run: Callable[..., Daemon]
) -> None:
    plan, said = project.folder.parent / "plan.json", []
    project.write(*everything("1-secret", server.address))
    said += [project.plan("--out", str(plan)), project.plan("--json"), project.plan("--markdown")]
    texts = [plan.read_text()]
    said.append(kvmstate("apply", str(plan), str(project.folder)))
    assert said[-1].code == 0, said[-1]
    assert password(connection) == "1-secret"
    texts.append(recorded(connection))
    assert texts[-1].count("hmac-sha256-") >= 8, texts[-1]
    said += [project.plan(), project.kvmstate("status", "--json"), project.kvmstate("drift", "--json")]
    assert [each.code for each in said[-3:]] == [0, 0, 0], said[-3:]
    hook = {"type": "webhook", "url": f"http://{server.address}/hook"}
    with (project.folder / "kvmstate.yaml").open("a") as file:
        file.write(yaml.safe_dump({"reconcile": {"notifications": [hook]}}))
    project.write(*everything("2-secret", server.address))
    daemon = run()
    until(lambda: password(connection) == "2-secret", "the password is changed")
    daemon.mark()
    connection.defineXML(secure(connection).replace("2-secret", "3-secret"))
    daemon.says("DriftCorrected", "domain/web")
    assert password(connection) == "2-secret"
    until(lambda: server.got, "somebody is told")
    texts += [recorded(connection), served(daemon, "/status"), served(daemon, "/events"), served(daemon, "/metrics")]
    # what is being done is recorded before it is done, and what fails is told
    project.write(*everything("4-secret", server.address), resource("Volume", "w", pool="images", backing="images/x"))
    daemon.says("Blocked", "volume/images/w")
    until(lambda: password(connection) == "4-secret", "the password is changed")
    assert daemon.stop() == 0
    texts += [recorded(connection), *map(str, said), *server.got, *map(str, daemon.events())]
    files = [path for top in daemon.env.values() for path in Path(top).rglob("*") if path.is_file()]
    assert files
    texts += [path.read_bytes().decode(errors="replace") for path in files]
    for text in texts:
        assert "-secret" not in text


def test_a_record_alone_gives_no_secrets_back(
    project: Project, connection: libvirt.virConnect, run: Callable[..., Daemon]
) -> None:
    """Without manifests, what was applied last is kept up, as far as the record tells."""
    web = resource("VirtualMachine", "web", memory="64MiB", state="stopped", graphics=[{"type": "vnc"}])
    web["spec"]["xml"] = {PATH: "a-secret"}
    project.converge(web)
    (project.folder / "manifests.yaml").write_text("neither: this")
    daemon = run()
    before = secure(connection)
    connection.defineXML(before.replace("<memory unit='KiB'>65536", "<memory unit='KiB'>131072"))
    daemon.says("DriftCorrected", "domain/web")
    assert password(connection) == "a-secret"
    connection.defineXML(before.replace("a-secret", "another"))
    assert "only hashes" in daemon.says("Blocked", "domain/web")["event"]
    assert password(connection) == "another"
