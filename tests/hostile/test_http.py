"""Requests to the daemon's port: what is checked is what is used, and none makes it hold more than a body may have."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmstate.web import handler
from kvmstate.web.address import parse
from kvmstate.web.answer import text
from kvmstate.web.guard import guard
from kvmstate.web.server import Server

TOKEN = "0123456789abcdef0123"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that were asked for, request by request."""
    counts: list[int] = []
    read = handler._Head.read

    def counted(self: handler._Head, count: int) -> bytes:
        counts.append(count)
        return read(self, count)

    monkeypatch.setattr(handler._Head, "read", counted)
    return counts


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    at = parse("127.0.0.1:0")
    started = Server(at, guard(at, None, None, None, ()), lambda request: text("done"))
    started.start()
    yield started
    started.close()


def status(server: Server, head: bytes) -> int:
    with socket.create_connection((server.address.host, server.address.port), timeout=5) as connection:
        connection.sendall(head)
        return int(connection.recv(100).split()[1])


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (b"00000000000000000000" + b"2147483648", 413),
        (b"0" * 4000 + b"1", 413),
        (b"9" * 15000, 413),
        (b"2147483648", 413),
        (b"65537", 413),
        (b"+5", 400),
        (b"-5", 400),
        (b"5_0", 400),
        (b"5 5", 400),
        (b"5,5", 400),
        (b"0x10", 400),
        (b"\xb2", 400),
        (b"1e9", 400),
        (b"5\r\nContent-Length: 2147483648", 400),
        (b"2147483648\r\nContent-Length: 5", 400),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_no_length_makes_it_read_more_than_a_body_may_have(
    length: bytes, code: int, server: Server, asked: list[int]
) -> None:
    for method in (b"GET", b"POST", b"HEAD"):
        head = b"%s /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n" % (method, length)
        assert status(server, head) == code
    assert not [count for count in asked if count > handler.BODY_MAX]


def test_who_may_not_ask_is_not_listened_to(server: Server, asked: list[int]) -> None:
    server.auth = server.auth.__class__(TOKEN, None, frozenset())
    head = b"POST /reconcile HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
    assert status(server, head) == 401
    assert not asked
