"""Content from an http(s) address: it comes at a fair pace, and ends with the process, or is given up."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from kvmstate.errors import HostError
from kvmstate.host.liveness import in_time
from kvmstate.model.stopping import stopping
from kvmstate.model.uri import redacted, without_secrets

# Seconds: until there is an answer; without a byte; in which LEAST bytes must come, as who trickles holds others up;
# for all of it; and to end in once this process is to stop
ANSWER = 30.0
SILENCE = 30.0
WINDOW = 20.0
WHOLE = 6 * 3600.0
GRACE = 5.0
LEAST = 1 << 20
# By checksum: what was fetched before, see `kvmstate.reconcile.spool`
SPOOLED: dict[str, Path] = {}
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)


class Download:
    """A body that is coming: `read` raises HostError, in bounded time, when it comes too slowly."""

    def __init__(self, response: Any, length: int, name: str) -> None:
        self.length, self._name = length, name
        self._response, self._socket = response, response.fp.raw._sock
        self._came, self._why = 0, ""
        self._done = threading.Event()

    def read(self, size: int) -> bytes:
        """`size` bytes, less only at the end."""
        parts, missing = [], size
        while missing:
            try:
                # what is there by now, so that it is counted
                part = self._response.read1(missing)
            except OSError:
                part = b""
                if not self._why:
                    raise
            if self._why:
                raise HostError(f"{self._name}: {self._why}", "apply again to redo the upload")
            if not part:
                break
            self._came += len(part)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def watch(self) -> None:
        """In a thread of its own: cut it off when it is to end."""
        began = since = time.monotonic()
        before, stop = 0, 0.0
        while not self._why and not self._done.wait(0.25):
            now = time.monotonic()
            stop = stop or (now if stopping.is_set() else 0.0)
            if stop and now - stop > GRACE:
                self._cut("the download was interrupted")
            elif now - began > WHOLE:
                self._cut(f"it did not come within {WHOLE / 3600:g} h")
            elif now - since > WINDOW:
                # what has come and is not taken, as the host is slow, is not the server's fault
                if self._came - before < LEAST and self._is_waiting:
                    self._cut(f"only {self._came - before:,} bytes came in {WINDOW:g} s")
                since, before = now, self._came

    @property
    def _is_waiting(self) -> bool:
        """Whether there is nothing to be read."""
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLIN)
        except (OSError, ValueError):
            # closed meanwhile
            return True
        return not poll.poll(0)

    def _cut(self, why: str) -> None:
        self._why = why
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self._done.set()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To http and https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(("http://", "https://")):
            raise HostError(f"the server leads to {redacted(newurl)}, which is not http or https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def download(url: str) -> Iterator[Download]:
    """Download a file. Raises HostError when there is no answer, or it does not say how long it is."""
    name = redacted(url)
    try:
        response = in_time(lambda: urllib.request.build_opener(_Redirects).open(url, timeout=SILENCE), ANSWER)
        with closing(response):
            length = response.headers.get("Content-Length")
            if length is None or not _LENGTH.fullmatch(length):
                raise HostError(f"{name}: the server does not say how long it is")
            with closing(Download(response, int(length), name)) as coming:
                threading.Thread(target=coming.watch, name="download", daemon=True).start()
                yield coming
    except TimeoutError:
        raise HostError(f"{name}: no answer in time", "check the server and the way to it") from None
    except (OSError, HTTPException, ValueError) as error:
        why = error.reason if type(error) is urllib.error.URLError else error
        said = without_secrets(getattr(why, "strerror", None) or str(why), url)
        raise HostError(f"{name}: {said}", "check that it exists and can be read from here") from error
