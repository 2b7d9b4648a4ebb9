"""Content from an http(s) address: it comes at a fair pace, goes on where it broke off, and ends with the process, or
is given up. Proxies are those of the environment: http_proxy, https_proxy, no_proxy."""

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
# What breaks off is asked for again after so many seconds, each time longer, until LEAST bytes have come; and only so
# long after that was so last
PAUSES = (1.0, 3.0, 9.0)
PATIENCE = 35.0
# By checksum: what was fetched before, see `kvmstate.reconcile.spool`
SPOOLED: dict[str, Path] = {}
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", re.ASCII)
# Answers that may be another one soon
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Download:
    """A body that is coming: `read` raises HostError, in bounded time, when it comes too slowly, or breaks off and does
    not go on."""

    def __init__(self, url: str) -> None:
        """Raises OSError, HTTPException or HostError when it does not begin."""
        self._url, self._name = url, redacted(url)
        self._came, self._why = 0, ""
        # whether it may be asked for again
        self._broke = False
        self._done = threading.Event()
        self._began = self._better = time.monotonic()
        # bytes when it was better than before, and how often it broke off since
        self._better_at = self._breaks = 0
        self._response = _answer(url, {})
        self._socket = self._response.fp.raw._sock
        length = self._response.headers.get("Content-Length")
        if length is None or not _LENGTH.fullmatch(length):
            self._response.close()
            raise HostError(f"{self._name}: the server does not say how long it is")
        self.length = int(length)
        self._mark = _mark(self._response)

    def read(self, size: int) -> bytes:
        """`size` bytes, less only at the end."""
        parts, missing = [], size
        while missing:
            try:
                # what is there by now, so that it is counted
                part = self._response.read1(missing)
                if not part and self._came < self.length and not self._why:
                    self._break_off(f"{self._came} of {self.length} bytes came")
            except (OSError, HTTPException) as error:
                part = b""
                if not self._why:
                    self._break_off(getattr(error, "strerror", None) or str(error) or type(error).__name__)
            if self._why:
                if not self._broke or not self._goes_on():
                    raise HostError(f"{self._name}: {self._why}", "apply again to redo the upload")
                continue
            if not part:
                break
            self._came += len(part)
            if self._came - self._better_at >= LEAST:
                self._better_at, self._better, self._breaks = self._came, time.monotonic(), 0
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _break_off(self, why: str) -> None:
        self._why, self._broke = why, True

    def _goes_on(self) -> bool:
        """Ask for the rest, and say whether it comes. Raises HostError for another file than before."""
        while self._breaks < len(PAUSES) and time.monotonic() - self._better < PATIENCE:
            if stopping.wait(PAUSES[self._breaks]):
                return False
            self._breaks += 1
            self._response.close()
            wanted = {"Range": f"bytes={self._came}-"}
            try:
                self._response = _answer(self._url, wanted | ({"If-Range": self._mark} if self._mark else {}))
                self._socket = self._response.fp.raw._sock
                self._skip()
            except urllib.error.HTTPError as error:
                if error.code not in _BUSY:
                    return False
            except (OSError, HTTPException, ValueError):
                continue
            else:
                self._why, self._broke = "", False
                return True
        return False

    def _skip(self) -> None:
        """Come to where it broke off. Raises HostError for another file than before, and OSError."""
        headers = self._response.headers
        if self._response.status == 206:
            told = _RANGE.fullmatch(headers.get("Content-Range", ""))
            if not told or (int(told[1]), int(told[2])) != (self._came, self.length):
                raise self._changed()
            return
        # from its beginning: the server knows no ranges, or it is another one
        if headers.get("Content-Length") != str(self.length) or _mark(self._response) != self._mark:
            raise self._changed()
        left = before = self._came
        since = time.monotonic()
        while left:
            now = time.monotonic()
            slow = now - since > WINDOW and before - left < LEAST
            if slow or stopping.is_set() or now - self._began > WHOLE:
                raise TimeoutError
            if now - since > WINDOW:
                since, before = now, left
            if not (part := self._response.read1(min(left, 1 << 18))):
                raise ConnectionError
            left -= len(part)

    def _changed(self) -> HostError:
        return HostError(f"{self._name} is another file than when its download began", "apply again")

    def watch(self) -> None:
        """In a thread of its own: cut it off when it is to end."""
        since, before, stop = time.monotonic(), 0, 0.0
        while not self._done.wait(0.25):
            now = time.monotonic()
            stop = stop or (now if stopping.is_set() else 0.0)
            if self._why:
                # until it goes on
                since, before = now, self._came
            elif stop and now - stop > GRACE:
                self._cut("the download was interrupted")
            elif now - self._began > WHOLE:
                self._cut(f"it did not come within {WHOLE / 3600:g} h")
            elif now - since > WINDOW:
                # what has come and is not taken, as the host is slow, is not the server's fault
                if self._came - before < LEAST and self._is_waiting:
                    # what does not come at all may have lost its way
                    self._cut(f"only {self._came - before:,} bytes came in {WINDOW:g} s", self._came == before)
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

    def _cut(self, why: str, broke: bool = False) -> None:
        self._why, self._broke = why, broke
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self._done.set()
        self._response.close()


def _answer(url: str, headers: dict[str, str]) -> Any:
    """Raises OSError, HTTPException, HostError, or ValueError."""
    request = urllib.request.Request(url, headers={"User-Agent": "kvmstate", **headers})
    return in_time(lambda: urllib.request.build_opener(_Redirects).open(request, timeout=SILENCE), ANSWER)


def _mark(response: Any) -> str:
    """What tells this file from another one at its address, as If-Range takes it; empty where the server tells none."""
    mark = response.headers.get("ETag") or ""
    return mark if mark and not mark.startswith("W/") else response.headers.get("Last-Modified") or ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To http and https only, and not from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(("http://", "https://")):
            raise HostError(f"the server leads to {redacted(newurl)}, which is not http or https")
        if req.type == "https" and not newurl.startswith("https://"):
            raise HostError(f"the server leads from https to {redacted(newurl)}", "write that address, if it is meant")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def download(url: str) -> Iterator[Download]:
    """Download a file. Raises HostError when there is no answer, or it does not say how long it is."""
    name = redacted(url)
    try:
        with closing(Download(url)) as coming:
            threading.Thread(target=coming.watch, name="download", daemon=True).start()
            yield coming
    except TimeoutError:
        raise HostError(f"{name}: no answer in time", "check the server and the way to it") from None
    except (OSError, HTTPException, ValueError) as error:
        why = error.reason if type(error) is urllib.error.URLError else error
        said = without_secrets(getattr(why, "strerror", None) or str(why), url)
        raise HostError(f"{name}: {said}", "check that it exists and can be read from here") from error
