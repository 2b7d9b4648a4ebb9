"""Servers of content that trickle, stall, or lead elsewhere: given up in bounded time, and nothing secret is told."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from kvmstate.errors import HostError
from kvmstate.host.volumes import CHUNK
from kvmstate.kinds.volume import download
from kvmstate.kinds.volume.content import Source
from kvmstate.kinds.volume.spec import Content
from kvmstate.model.stopping import stopping

BODY = bytes(range(256)) * (4 * CHUNK // 256)
CHECKSUM = "sha256:" + hashlib.sha256(BODY).hexdigest()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, seconds in {"ANSWER": 2.0, "WINDOW": 1.0, "GRACE": 0.5}.items():
        monkeypatch.setattr(download, name, seconds)
    yield
    stopping.clear()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], object]], str]]:
    """Starts a server that does this with each connection."""
    servers = []

    def start(answer: Callable[[socket.socket], object]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def handle(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                answer(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=handle, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/image?signature=hunter2"

    yield start
    for server in servers:
        server.close()


def trickle(connection: socket.socket, data: bytes) -> None:
    for number in range(200):
        connection.sendall(data[number : number + 1])
        time.sleep(0.1)


def stall(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    time.sleep(20)


HOSTILE: dict[str, Callable[[socket.socket], object]] = {
    "says nothing": lambda c: stall(c, b""),
    "trickles its headers": lambda c: trickle(c, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000),
    "trickles its body": lambda c: (c.sendall(OK), trickle(c, BODY)),
    "stalls in the middle": lambda c: stall(c, OK + BODY[: CHUNK + 10]),
    "goes away in the middle": lambda c: c.sendall(OK + BODY[: CHUNK + 10]),
    "sends no end of headers": lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000),
    "does not say how long it is": lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + BODY),
    "has a length that is negative": lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + BODY),
    "has a length of 5000 digits": lambda c: c.sendall(OK.replace(b"Length: ", b"Length: " + b"9" * 5000)),
    "is longer than it says": lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + BODY),
    "leads to a file": lambda c: c.sendall(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"),
    "leads to ftp": lambda c: c.sendall(b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/x\r\n\r\n"),
    "leads to itself": lambda c: c.sendall(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n"),
    "speaks no HTTP": lambda c: c.sendall(b"\x00" * 100),
}


def read(url: str) -> bytes:
    with Source(Content(url=url, checksum=CHECKSUM)).open() as stream:
        return b"".join(stream)


@pytest.mark.parametrize("how", HOSTILE)
def test_it_is_given_up_in_time(how: str, serve: Callable[..., str]) -> None:
    url = serve(HOSTILE[how])
    began = time.monotonic()
    with pytest.raises(HostError) as error:
        read(url)
    assert time.monotonic() - began < 5
    assert "hunter2" not in str(error.value)


def test_an_honest_server_is_read_to_its_end(serve: Callable[..., str]) -> None:
    assert read(serve(lambda c: c.sendall(OK + BODY))) == BODY


def test_one_that_is_slow_and_steady_is_read_to_its_end(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LEAST", 1000)

    def slowly(connection: socket.socket) -> None:
        connection.sendall(OK)
        for start in range(0, len(BODY), len(BODY) // 20):
            connection.sendall(BODY[start : start + len(BODY) // 20])
            time.sleep(0.15)

    assert read(serve(slowly)) == BODY


def test_a_download_ends_with_the_process(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WINDOW", 60.0)
    url = serve(HOSTILE["stalls in the middle"])
    threading.Timer(0.5, stopping.set).start()
    began = time.monotonic()
    with pytest.raises(HostError, match="interrupted"):
        read(url)
    assert time.monotonic() - began < 3
