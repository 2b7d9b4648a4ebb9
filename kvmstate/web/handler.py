"""One connection: a request of bounded size, in bounded time, and its answer."""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from kvmstate import __version__
from kvmstate.errors import KvmstateError
from kvmstate.model.printable import one_line
from kvmstate.web.address import Address
from kvmstate.web.answer import Answer, Request, text
from kvmstate.web.guard import Guard

# Bytes
HEAD_MAX = 16 * 1024
BODY_MAX = 64 * 1024
# Digits
LENGTH_MAX = 20
# Seconds for a client to send its request, TLS included; and to take the answer
PATIENCE = 10.0


# No sign, no spaces, no other alphabet's digits
_LENGTH = re.compile(r"[0-9]+", re.ASCII)


class Site(Protocol):
    """What is served: where, to whom, and what is answered."""

    address: Address
    auth: Guard

    def answer(self, request: Request, /) -> Answer:
        """Answer a request. Raises ValueError, KvmstateError for what a request says wrong."""


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


class Handler(BaseHTTPRequestHandler):
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(message)s\n"
    # what does not even say its version shall get a status line too
    default_request_version = "HTTP/1.0"
    command, requestline, request_version = "", "", "HTTP/1.0"
    _timer: threading.Timer | None = None

    def __init__(self, site: Site, *connection: Any) -> None:
        """Answers, and is done with the connection then."""
        self._site = site
        super().__init__(*connection)

    def setup(self) -> None:
        tls = self._site.auth.tls
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
        if self._site.auth.tls:
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
        auth = self._site.auth
        try:
            path = urlsplit(self.path).path
        except ValueError:
            return text("that is not a path", HTTPStatus.BAD_REQUEST)
        if auth.token:
            given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            if path not in auth.open and not hmac.compare_digest(given.encode(), auth.token.encode()):
                challenge = {"WWW-Authenticate": "Bearer"}
                return Answer(
                    b"this needs the token: Authorization: Bearer TOKEN\n", HTTPStatus.UNAUTHORIZED, headers=challenge
                )
        elif not self._site.address.path and ("Origin" in self.headers or not _is_local(self.headers.get("Host", ""))):
            # a web page in somebody's browser, which may reach the loopback as well
            return text("this is for programs of this machine", HTTPStatus.FORBIDDEN)
        if "Transfer-Encoding" in self.headers:
            return text("a body needs its Content-Length", HTTPStatus.LENGTH_REQUIRED)
        said = self.headers.get_all("Content-Length", ["0"])
        if len(said) > 1 or not _LENGTH.fullmatch(said[0]):
            return text("Content-Length must be one number", HTTPStatus.BAD_REQUEST)
        # of as many digits as it has: zeros in front are not looked past
        if len(said[0]) > LENGTH_MAX or int(said[0]) > BODY_MAX:
            return text(f"a body has at most {BODY_MAX} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        # nothing here takes a body: but who sends one shall have sent it
        self.rfile.read(int(said[0]))
        return None

    def _asked(self) -> Answer:
        self._unlimited()
        try:
            url = urlsplit(self.path)
            return self._site.answer(Request(self.command, url.path, dict(parse_qsl(url.query, max_num_fields=20))))
        except KvmstateError as error:
            return text(error.message, HTTPStatus.BAD_REQUEST)
        except ValueError as error:
            return text(str(error), HTTPStatus.BAD_REQUEST)
        except Exception as error:
            said = one_line(f"{type(error).__name__}: {error}")
            return text(f"this is a bug in kvmstate, please report it: {said}", HTTPStatus.INTERNAL_SERVER_ERROR)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not news."""

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
