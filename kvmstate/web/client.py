"""Asks a running daemon."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from kvmstate.errors import KvmstateError, UsageError
from kvmstate.web.address import Address, parse

# Seconds without an answer; and bytes of the largest one that is read
TIMEOUT = 10.0
ANSWER_MAX = 64 * 1024 * 1024


class NotRunning(KvmstateError):
    """No daemon answers there."""


class Client:
    """`where` is an address as `kvmstate run --listen` takes it, or an http or https URL of which the host counts."""

    def __init__(self, where: str | Address, token: str = "") -> None:
        """Raises UsageError."""
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.where = str(where)
        self._url = urlsplit(where) if isinstance(where, str) and "://" in where else None
        if self._url and (self._url.scheme not in ("http", "https") or not self._url.hostname):
            raise UsageError(
                f"{where!r} is not an address of a daemon", "such as unix:PATH, 127.0.0.1:9477, https://host:9477"
            )
        self._at = None if self._url else parse(where) if isinstance(where, str) else where

    def get(self, path: str, query: Mapping[str, object] = {}, wait: float = 0) -> Any:
        """What it answers, as JSON, within so many seconds more than usual. Raises NotRunning, or KvmstateError."""
        connection = self._connection(TIMEOUT + wait)
        with closing(connection):
            try:
                connection.request("GET", f"{path}?{urlencode(query)}", headers=self._headers)
                answer = connection.getresponse()
                body = answer.read(ANSWER_MAX)
            except (OSError, http.client.HTTPException) as error:
                said = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise NotRunning(
                    f"no daemon answers at {self.where}: {said}",
                    "`kvmstate run` starts one; --daemon ADDRESS says where",
                ) from None
        if answer.status != 200:
            said = body.decode(errors="replace").strip()[:200]
            hint = "--token-file FILE" if answer.status == 401 else ""
            raise KvmstateError(f"the daemon at {self.where} says {answer.status}: {said}", hint)
        try:
            return json.loads(body)
        except ValueError:
            raise KvmstateError(f"what answers at {self.where} is not kvmstate") from None

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._url:
            kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
            return kind(self._url.hostname or "", self._url.port, timeout=timeout)
        assert self._at
        if self._at.path:
            return _Unix(self._at.path, timeout)
        return http.client.HTTPConnection(self._at.host, self._at.port, timeout=timeout)


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
