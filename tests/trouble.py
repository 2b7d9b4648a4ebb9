"""What goes wrong on hosts, on purpose and at a moment that is known."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import resource, until, wipe

from kvmstate import sandbox
from kvmstate.sandbox import Sandbox

IMAGE = os.urandom(1 << 20)


@dataclass
class Download:
    """Content whose server stops in the middle, as soon as `halfway` is set, until `goes_on` is."""

    url: str = ""
    halfway: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)

    def volume(self, name: str = "base") -> dict[str, Any]:
        checksum = "sha256:" + hashlib.sha256(IMAGE).hexdigest()
        return resource("Volume", name, pool="images", format="raw", content={"url": self.url, "checksum": checksum})


@contextmanager
def stalling_download() -> Iterator[Download]:
    """IMAGE, with a stop in the middle of its second and later readings: the first one looks at the head."""
    download = Download()
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self)
            self.send_response(200)
            self.send_header("Content-Length", str(len(IMAGE)))
            self.end_headers()
            half = len(IMAGE) // 2
            try:
                self.wfile.write(IMAGE[:half])
                if len(asked) > 1:
                    download.halfway.set()
                    download.goes_on.wait(60)
                self.wfile.write(IMAGE[half:])
            except OSError:
                pass  # the reader has gone

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    download.url = f"http://127.0.0.1:{server.server_port}/base.img"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield download
    finally:
        download.goes_on.set()
        server.shutdown()
        server.server_close()


def inside(host: Sandbox, script: str) -> None:
    assert sandbox.execute(host, ["sh", "-c", script]) == 0, script


@contextmanager
def silent(host: Sandbox) -> Iterator[None]:
    """The daemon is there and does not answer."""
    inside(host, "kill -STOP $(cat /run/libvirtd.pid)")
    try:
        yield
    finally:
        inside(host, "kill -CONT $(cat /run/libvirtd.pid)")


def until_it_may_die(host: Sandbox) -> None:
    """The daemon comes back by itself, unless it was younger than two seconds: so let it grow older."""
    inside(host, "until [ $(ps -o etimes= -p $(cat /run/libvirtd.pid)) -gt 2 ]; do sleep 0.1; done")


def kill_daemon(host: Sandbox) -> None:
    until_it_may_die(host)
    inside(host, "kill -KILL $(cat /run/libvirtd.pid)")


@contextmanager
def guests_run_as_nobody(host: Sandbox) -> Iterator[None]:
    """As on a real host, QEMU is not root."""
    conf = host.directory / "etc" / "qemu.conf"
    usual = conf.read_text()
    conf.write_text(usual.replace('user = "root"', 'user = "nobody"').replace('group = "root"', 'group = "nogroup"'))
    kill_daemon(host)
    wait_for_daemon(host)
    try:
        yield
    finally:
        conf.write_text(usual)
        kill_daemon(host)
        wait_for_daemon(host)


@contextmanager
def small_disk(host: Sandbox, path: str, size: str) -> Iterator[None]:
    """The folder is a file system of its own."""
    inside(host, f"mkdir -p {path} && mount -t tmpfs -o size={size} tmpfs {path}")
    try:
        yield
    finally:
        inside(host, f"umount {path}")


@contextmanager
def programs(host: Sandbox, scripts: dict[str, str]) -> Iterator[Path]:
    """libvirtd runs these, by their names, instead of its own, and finds a file /dev/there; the log is of their names
    and arguments."""
    folder = host.directory / "programs"
    folder.mkdir(exist_ok=True)
    log = host.directory / "programs.log"
    log.write_text("")
    for name, script in scripts.items():
        file = folder / name
        file.write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\n{script}\n')
        file.chmod(0o755)
    inside(host, f"mount -t overlay overlay -o lowerdir={folder}:/usr/sbin /usr/sbin && touch /dev/there")
    try:
        yield log
    finally:
        # a libvirtd that was started meanwhile runs from there
        inside(host, "umount -l /usr/sbin; rm /dev/there")


def answers(host: Sandbox) -> bool:
    try:
        libvirt.open(host.uri).close()
    except libvirt.libvirtError:
        return False
    return True


def wait_for_daemon(host: Sandbox) -> None:
    until(lambda: answers(host), "libvirtd answers again")


@contextmanager
def loop_devices(uri: str) -> Iterator[Callable[[Path], str]]:
    """Makes loop devices of images, which go with them at the end, when nothing at `uri` has them open any more; the
    test is skipped where the machine has none left."""
    made: list[tuple[str, Path]] = []

    def make(image: Path) -> str:
        found = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
        if found.returncode:
            image.unlink()
            pytest.skip(f"no loop device: {found.stderr.strip()}")
        made.append((found.stdout.strip(), image))
        return made[-1][0]

    try:
        yield make
    finally:
        # what is mounted keeps its device
        wipe(uri)
        for path, image in made:
            subprocess.run(["losetup", "--detach", path], check=True)
            image.unlink()
