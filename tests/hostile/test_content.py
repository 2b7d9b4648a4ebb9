"""Servers of content that trickle, stall, or lead elsewhere: given up in bounded time, and nothing secret is told."""

from __future__ import annotations

import hashlib
import inspect
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest

from kvmstate.errors import HostError, UsageError
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
    for name, value in {"ANSWER": 2.0, "WINDOW": 1.0, "GRACE": 0.5, "PAUSES": (0.1, 0.2), "PATIENCE": 2.5}.items():
        monkeypatch.setattr(download, name, value)
    yield
    stopping.clear()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[..., object]], str]]:
    """Starts a server that does this with each connection, and what it was asked for."""
    servers = []

    def start(answer: Callable[..., object]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def handle(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                request = connection.recv(65536)
                wants = len(inspect.signature(answer).parameters)
                answer(*(connection, request)[:wants])

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


def ranged(
    breaks: int, *, ranges: bool = True, mark: Callable[[int], str] = lambda n: '"a"', told: str = "", only: int = CHUNK
) -> tuple[Callable[[socket.socket, bytes], None], list[bytes]]:
    """A server that breaks off so many times, after `only` bytes each time; `told` is a Content-Range of its own."""
    asked: list[bytes] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        found = re.search(rb"Range: bytes=(\d+)-", request)
        start = int(found[1]) if found and ranges else 0
        head = f"ETag: {mark(len(asked))}\r\nContent-Length: {len(BODY) - start}\r\n\r\n"
        if start:
            said = told or f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
            head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: {said}\r\n{head}"
        else:
            head = f"HTTP/1.1 200 OK\r\n{head}"
        end = start + only if len(asked) <= breaks else len(BODY)
        connection.sendall(head.encode() + BODY[start:end])

    return answer, asked


def test_what_breaks_off_goes_on_where_it_was(serve: Callable[..., str]) -> None:
    answer, asked = ranged(2)
    assert read(serve(answer)) == BODY
    assert [re.findall(rb"^(?:Range|If-Range): .*(?=\r)", each, re.MULTILINE) for each in asked] == [
        [],
        [b"Range: bytes=%d-" % CHUNK, b'If-Range: "a"'],
        [b"Range: bytes=%d-" % (2 * CHUNK), b'If-Range: "a"'],
    ]


def test_a_server_without_ranges_is_read_from_its_beginning(serve: Callable[..., str]) -> None:
    answer, asked = ranged(1, ranges=False)
    assert read(serve(answer)) == BODY
    assert len(asked) == 2


@pytest.mark.parametrize(
    "how",
    [
        {"ranges": False, "mark": lambda n: f'"{n}"'},
        {"told": f"bytes 0-{len(BODY) - 1}/{len(BODY)}"},
        {"told": f"bytes {CHUNK}-{len(BODY) - 1}/{len(BODY) + 1}"},
        {"told": "bytes"},
    ],
    ids=["another file", "another range", "another length", "no range"],
)
def test_what_goes_on_with_another_file_is_an_error(how: dict[str, Any], serve: Callable[..., str]) -> None:
    answer, _ = ranged(1, **how)
    with pytest.raises(HostError, match="is another file than when its download began"):
        read(serve(answer))


def test_what_breaks_off_again_and_again_is_given_up(serve: Callable[..., str]) -> None:
    answer, asked = ranged(100, only=10)
    began = time.monotonic()
    with pytest.raises(HostError, match="bytes came"):
        read(serve(answer))
    assert len(asked) == 3
    assert time.monotonic() - began < 3


def test_what_comes_on_is_asked_for_as_often_as_it_takes(
    serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LEAST", 1000)
    answer, asked = ranged(100, only=len(BODY) // 9)
    assert read(serve(answer)) == BODY
    assert len(asked) > len(download.PAUSES) + 2


def test_proxies_are_those_of_the_environment(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def proxy(connection: socket.socket, request: bytes) -> None:
        asked.append(request.partition(b"\r")[0])
        connection.sendall(OK + BODY)

    monkeypatch.setenv("http_proxy", serve(proxy).partition("/image")[0])
    assert read("http://images.invalid/x") == BODY
    assert asked == [b"GET http://images.invalid/x HTTP/1.1"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert read(serve(lambda c: c.sendall(OK + BODY))) == BODY
    assert len(asked) == 1


def test_nothing_leads_from_https_to_http() -> None:
    request = urllib.request.Request("https://images.invalid/x")
    follow = download._Redirects().redirect_request
    with pytest.raises(HostError, match=r"leads from https to http://images\.invalid/x"):
        follow(request, None, 302, "Found", HTTPMessage(), "http://images.invalid/x?signature=hunter2")
    assert follow(request, None, 302, "Found", HTTPMessage(), "https://other.invalid/x")


def test_downloads_are_kept_up_to_a_size(
    serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, asked = tmp_path / "kvmstate" / "images", []

    def serving(body: bytes) -> str:
        def answer(connection: socket.socket) -> None:
            asked.append(body)
            connection.sendall(OK + body)

        return serve(answer)

    def fetch(url: str, body: bytes) -> bytes:
        with Source(Content(url=url, checksum="sha256:" + hashlib.sha256(body).hexdigest())).open() as stream:
            return b"".join(stream)

    bodies = [bytes([number]) * len(BODY) for number in range(1, 4)]
    urls = [serving(body) for body in bodies]
    assert fetch(urls[0], bodies[0]) == bodies[0]
    assert not folder.exists(), "without a size nothing is kept"
    monkeypatch.setenv("KVMSTATE_CACHE_SIZE", f"{2 * len(BODY)}")
    for url, body in zip(urls, bodies, strict=True):
        for _ in range(2):
            assert fetch(url, body) == body
    assert asked == [bodies[0], *bodies]
    assert len([*folder.iterdir()]) == 2
    assert fetch(urls[1], bodies[1]) == bodies[1]
    assert len(asked) == 4, "what was used longest ago has gone"

    # what is damaged, or was not whole, is fetched again
    [kept] = [path for path in folder.iterdir() if hashlib.sha256(bodies[1]).hexdigest() in path.name]
    kept.write_bytes(bodies[1][:-1] + b"x")
    with pytest.raises(HostError, match="its sha256 is"):
        fetch(urls[1], bodies[1])
    assert fetch(urls[1], bodies[1]) == bodies[1]
    with pytest.raises(HostError, match="its sha256 is"):
        fetch(urls[0], BODY)
    assert len([*folder.iterdir()]) == 2
    monkeypatch.setenv("KVMSTATE_CACHE_SIZE", "much")
    with pytest.raises(UsageError, match="is not a size"):
        fetch(urls[1], bodies[1])
