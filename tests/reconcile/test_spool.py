"""A server of content that is slow, or wrong, holds nothing else up."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import libvirt
import pytest
from daemons import Daemon
from harness import Project, idle, pool, resource, until

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


IMAGE = os.urandom(3 << 20)
LAN = resource("Network", "lan", ips=[{"address": "192.168.97.1/24"}])


@contextmanager
def server(content: bytes, goes_on: threading.Event) -> Iterator[str]:
    """It sends the first half, and the rest when it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            goes_on.wait(60)
            self.wfile.write(content[len(content) // 2 :])

        def log_message(self, *words: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{made.server_port}/base.img"
    finally:
        goes_on.set()
        made.shutdown()
        made.server_close()


def base(url: str, checksum: str = "") -> dict:
    digest = checksum or "sha256:" + hashlib.sha256(IMAGE).hexdigest()
    return resource("Volume", "base", pool="images", format="raw", content={"url": url, "checksum": digest})


def test_a_slow_server_holds_no_correction_up(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect, tmp_path: Path
) -> None:
    goes_on = threading.Event()
    web = idle("web", state="stopped", disks=[{"name": "root", "volume": "images/base"}])
    with server(IMAGE, goes_on) as url:
        project.write(pool(), LAN, base(url), web)
        daemon = run()
        until(lambda: connection.networkLookupByName("lan").isActive(), "the network is started")
        daemon.mark()
        connection.networkLookupByName("lan").destroy()
        until(lambda: connection.networkLookupByName("lan").isActive(), "it is started again", 10)
        assert not project.path("images/base").exists(), "the content is still coming"
        assert connection.listAllDomains() == [], "what needs it waits for it"
        goes_on.set()
        until(lambda: connection.listAllDomains(), "the machine is made", 30)
    assert project.path("images/base").read_bytes() == IMAGE
    until(lambda: not list((Path(os.environ["XDG_CACHE_HOME"]) / "kvmstate/content").glob("*")), "nothing is kept")
    assert daemon.stop() == 0


def test_wrong_content_is_told_and_tried_again(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect
) -> None:
    goes_on = threading.Event()
    goes_on.set()
    with server(IMAGE, goes_on) as url:
        project.write(pool(), LAN, base(url, "sha256:" + "0" * 64))
        daemon = run()
        said = daemon.says("Failed", "volume/images/base")
        assert "not 0000" in said["event"]
        assert connection.networkLookupByName("lan").isActive()
        assert not project.path("images/base").exists()
        project.write(pool(), LAN, base(url))
        until(lambda: project.path("images/base").exists(), "the volume is made", 30)
    assert daemon.stop() == 0


def test_a_daemon_that_is_stopped_does_not_wait_for_content(project: Project, run: Callable[..., Daemon]) -> None:
    with server(IMAGE, threading.Event()) as url:
        project.write(pool(), base(url))
        daemon = run()
        assert daemon.stop() == 0
