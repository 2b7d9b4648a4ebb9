"""Connections: each has one request, a thread, and little time.

The standard library's server, bounded: in connections, in the size of what is sent, and in the time for it. What other
servers would bring (keep-alive, WSGI, many threads) is not needed here, and neither cheroot nor waitress has a TLS
handshake that a slow client cannot stall others with, and a socket file with a mode of one's choice.
"""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from kvmstate.errors import UsageError
from kvmstate.web.address import Address
from kvmstate.web.answer import Answer, Request
from kvmstate.web.guard import Guard
from kvmstate.web.handler import Handler

MOST_CONNECTIONS = 32
# Of a socket's file
MODE = 0o660


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers in threads of its own, from `start` until `close`."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: Address, auth: Guard, answer: Callable[[Request], Answer]) -> None:
        """Listens. `answer` is called in many threads. Raises UsageError."""
        self.auth, self._answer = auth, answer
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = (
            socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
        )
        self.allow_reuse_address = address.path is None
        self._made: os.stat_result | None = None
        try:
            super().__init__((address.host, address.port), partial(Handler, self), bind_and_activate=False)
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

    def answer(self, request: Request, /) -> Answer:
        return self._answer(request)

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

    def process_request(self, request: Any, client_address: object) -> None:
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
            if not self.auth.tls:
                request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\n\r\ntoo many connections\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a connection's error: the client has gone, or has been given up. What fails in `answer` is
        answered."""


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
