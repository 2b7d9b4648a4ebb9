"""Connections: each has one request, a thread, and little time.

The standard library's server, bounded: in connections, in the size of what is sent, and in the time for it. What other
servers would bring (keep-alive, WSGI, many threads) is not needed here, and neither cheroot nor waitress has a TLS
handshake that a slow client cannot stall others with, and a socket file with a mode of one's choice.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kvmstate import __version__
from kvmstate.errors import KvmstateError, UsageError
from kvmstate.model.printable import one_line
from kvmstate.reconcile.web.address import Address

MOST_CONNECTIONS = 32
# Bytes
HEAD_MAX = 16 * 1024
BODY_MAX = 64 * 1024
# Seconds for a client to send its request, TLS included; and to take the answer
PATIENCE = 10.0
MODE = 0o660
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]


@dataclass(frozen=True)
class Answer:
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def text(said: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Answer:
    return Answer(f"{said}\n".encode(), status, headers=headers)


def as_json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(json.dumps(value, indent=2).encode() + b"\n", status, "application/json")


@dataclass(frozen=True)
class Guard:
    """Who may ask: whoever knows the token, else whoever reaches the socket. `open` are paths without it."""

    token: str = ""
    tls: ssl.SSLContext | None = None
    open: frozenset[str] = frozenset()


def guard(
    address: Address, token_file: Path | None, cert: Path | None, key: Path | None, unguarded: frozenset[str]
) -> Guard:
    """Raises UsageError for files that will not do, and for an address that others reach without token and TLS."""
    if not address.is_private and not (token_file and cert and key):
        raise UsageError(
            f"{address} can be reached from other machines, so it needs a token and TLS",
            "give --token-file, --tls-cert and --tls-key, or listen on 127.0.0.1 or a unix socket",
        )
    if bool(cert) != bool(key):
        raise UsageError("--tls-cert and --tls-key go together")
    token = ""
    if token_file:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--token-file {token_file}: {getattr(error, 'strerror', None) or error}") from None
        if len(token) < SHORTEST_TOKEN:
            raise UsageError(
                f"--token-file {token_file}: the token has less than {SHORTEST_TOKEN} characters",
                "make one: `openssl rand -hex 32`",
            )
    context = None
    if cert and key:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:
            raise UsageError(f"--tls-cert {cert}, --tls-key {key}: {error.strerror or error}") from None
    return Guard(token, context, unguarded)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers in threads of its own, from `start` until `close`."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: Address, who: Guard, answer: Callable[[Request], Answer]) -> None:
        """Listens. `answer` is called in many threads. Raises UsageError."""
        self.who, self.answer = who, answer
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = (
            socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
        )
        self.allow_reuse_address = address.path is None
        self._made: os.stat_result | None = None
        try:
            super().__init__((address.host, address.port), _Handler, bind_and_activate=False)
            self._listen(address)
        except OSError as error:
            self.server_close()
            raise UsageError(
                f"cannot listen on {address}: {error.strerror or error}",
                "--listen ADDRESS takes another place, --listen none does without",
            ) from None

    def _listen(self, address: Address) -> None:
        if address.path:
            _make_way(address.path)
            self.server_address = str(address.path)  # type: ignore[assignment]
            # a new socket file has the socket's own mode, less the umask: nobody else gets in before chmod
            os.fchmod(self.fileno(), MODE)
            self.socket.bind(self.server_address)
            os.chmod(address.path, MODE)
            self._made = address.path.stat()
        else:
            self.server_bind()
            address = Address(host=address.host, port=self.socket.getsockname()[1])
        self.address = address
        self.server_activate()

    def start(self) -> None:
        # it polls only to see that it is to end, and is a thread that ends with the process
        threading.Thread(target=self.serve_forever, args=(3600,), name="web", daemon=True).start()

    def close(self) -> None:
        self.server_close()
        path = self.address.path
        with suppress(OSError):
            if path and self._made and os.path.samestat(path.stat(), self._made):
                path.unlink()

    def get_request(self) -> Any:
        try:
            return super().get_request()
        except OSError:
            # of too many open files: the one who waits goes on waiting, and is not to be asked for at once
            time.sleep(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:
                # no thread could be started, which would give the place back
                self._free.release()
                raise
            return
        with suppress(OSError):
            request.setblocking(False)
            if not self.who.tls:
                request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\n\r\ntoo many connections\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of a connection: the client has gone, or has been given up. What fails in `answer` is answered."""


def _make_way(path: Path) -> None:
    """Raises OSError when another process listens there, or something else than a socket is in the way."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(2)
        try:
            other.connect(str(path))
        except ConnectionRefusedError:
            # of a process that was killed
            path.unlink()
        else:
            raise OSError(None, "another process listens there")


class _TooLarge(Exception):
    pass


class _Head:
    """Reads lines, and only so many bytes of them."""

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, HEAD_MAX

    def readline(self, most: int = HEAD_MAX) -> bytes:
        line: bytes = self._file.readline(min(most, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise _TooLarge
        return line

    def read(self, count: int) -> bytes:
        body: bytes = self._file.read(count)
        return body

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(message)s\n"
    # what does not even say its version shall get a status line too
    default_request_version = "HTTP/1.0"
    command, requestline, request_version = "", "", "HTTP/1.0"
    _timer: threading.Timer | None = None

    def setup(self) -> None:
        tls = self.server.who.tls
        if tls:
            # here, and not where connections are accepted: a slow client stalls nobody else
            self.request = tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
        self._limit()
        try:
            if tls:
                self.request.do_handshake()
            super().setup()
        except BaseException:
            self._end()
            raise
        self.rfile = _Head(self.rfile)  # type: ignore[assignment]

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self._end()

    def _end(self) -> None:
        self._unlimited()
        if self.server.who.tls:
            # the server knows only the socket that this one has taken the place of
            _cut(self.request)
            self.request.close()

    def _limit(self) -> None:
        """However slowly a client sends or takes something: in so many seconds it ends."""
        self._unlimited()
        # not the method of TLS sockets, which must not be called while another thread reads
        self._timer = threading.Timer(PATIENCE, _cut, (self.request,))
        self._timer.daemon = True
        self._timer.start()

    def _unlimited(self) -> None:
        if self._timer:
            self._timer.cancel()

    def handle(self) -> None:
        try:
            self.handle_one_request()
        except _TooLarge:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_GET

    def _answer(self) -> None:
        said = self._refused() or self._asked()
        self._limit()
        self.send_response(said.status)
        for name, value in {"Content-Type": said.type, "Content-Length": str(len(said.body)), **said.headers}.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said.body)

    def _refused(self) -> Answer | None:
        who = self.server.who
        try:
            path = urlsplit(self.path).path
        except ValueError:
            return text("that is no path", HTTPStatus.BAD_REQUEST)
        if who.token:
            given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            if path not in who.open and not hmac.compare_digest(given.encode(), who.token.encode()):
                challenge = {"WWW-Authenticate": "Bearer"}
                return Answer(
                    b"this needs the token: Authorization: Bearer TOKEN\n", HTTPStatus.UNAUTHORIZED, headers=challenge
                )
        elif not self.server.address.path and ("Origin" in self.headers or not _is_local(self.headers.get("Host", ""))):
            # a web page in somebody's browser, which may reach the loopback as well
            return text("this is for programs of this machine", HTTPStatus.FORBIDDEN)
        if "Transfer-Encoding" in self.headers:
            return text("a body needs its Content-Length", HTTPStatus.LENGTH_REQUIRED)
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            return text("Content-Length must be a number", HTTPStatus.BAD_REQUEST)
        if int(length[:20]) > BODY_MAX:
            return text(f"a body has at most {BODY_MAX} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        # nothing here takes a body: but who sends one shall have sent it
        self.rfile.read(int(length))
        return None

    def _asked(self) -> Answer:
        self._unlimited()
        try:
            url = urlsplit(self.path)
            return self.server.answer(Request(self.command, url.path, dict(parse_qsl(url.query, max_num_fields=20))))
        except KvmstateError as error:
            return text(error.message, HTTPStatus.BAD_REQUEST)
        except ValueError as error:
            return text(str(error), HTTPStatus.BAD_REQUEST)
        except Exception as error:
            said = one_line(f"{type(error).__name__}: {error}")
            return text(f"this is a bug in kvmstate, please report it: {said}", HTTPStatus.INTERNAL_SERVER_ERROR)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""

    def version_string(self) -> str:
        return f"kvmstate/{__version__}"


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _is_local(host: str) -> bool:
    name = (host if host.endswith("]") else host.rpartition(":")[0] or host).strip("[]")
    try:
        return name in ("", "localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
