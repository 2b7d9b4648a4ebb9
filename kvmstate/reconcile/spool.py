"""What volumes are filled with from the net is fetched before, each in a thread of its own: a server that is slow holds
nothing else up. The files are in the cache, and go when their volume is made."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvmstate.errors import HostError, KvmstateError
from kvmstate.host.volumes import CHUNK
from kvmstate.kinds.volume import cache, download, scratch
from kvmstate.model.change import Action, Change
from kvmstate.model.resource import ResourceId

# Seconds: until a fetch that failed is tried again, at first and at most
AGAIN, SELDOM = 30.0, 600.0
FETCHING = "its content is being fetched"


@dataclass
class _Fetch:
    ids: set[ResourceId]
    failures: int = 0
    again: float = 0.0
    error: KvmstateError | None = None
    running: bool = False


class Spool:
    """`ask` is told about resources whose content has come, or does not."""

    def __init__(self, ask: Callable[..., None]) -> None:
        self._ask = ask
        self._fetches: dict[str, _Fetch] = {}

    def waits(self, change: Change) -> tuple[str, bool]:
        """Why a change waits for its content, and whether that has failed; an empty text when it need not wait."""
        content = change.desired.spec.filling() if change.desired else None
        if change.action not in (Action.CREATE, Action.REPLACE) or not content or not content.url:
            return "", False
        if content.checksum in download.SPOOLED or cache.find(content.checksum):
            return "", False
        fetch = self._fetches.setdefault(content.checksum, _Fetch(set()))
        fetch.ids.add(change.id)
        if not fetch.running and time.monotonic() >= fetch.again:
            fetch.running, fetch.error = True, None
            args = (content.url, content.checksum, fetch)
            threading.Thread(target=self._fetch, args=args, name="content", daemon=True).start()
        return (fetch.error.message, True) if fetch.error else (FETCHING, False)

    def made(self, change: Change) -> bool:
        """The volume is there: its content need not be kept, and what waited for it may be made."""
        content = change.desired.spec.filling() if change.desired else None
        if content and content.checksum in download.SPOOLED:
            cache.keep(content.checksum, download.SPOOLED.pop(content.checksum))
            self._fetches.pop(content.checksum, None)
            return True
        return False

    def clear(self) -> None:
        """Delete what processes that were killed have left."""
        scratch.clear()

    def _fetch(self, url: str, checksum: str, fetch: _Fetch) -> None:
        path = scratch.path(checksum.replace(":", "-"))
        try:
            try:
                scratch.folder()
                self._copy(url, checksum, path)
            except OSError as error:
                raise HostError(f"{path}: {error.strerror}", "the content is fetched into this folder first") from error
        except KvmstateError as error:
            with suppress(OSError):
                path.unlink()
            fetch.failures += 1
            after = min(AGAIN * 2 ** (fetch.failures - 1), SELDOM)
            fetch.error, fetch.again = error, time.monotonic() + after
            self._ask(*fetch.ids)
            self._ask(*fetch.ids, after=after)
        else:
            download.SPOOLED[checksum] = path
            self._ask(*fetch.ids)
        finally:
            fetch.running = False

    def _copy(self, url: str, checksum: str, path: Path) -> None:
        kind, _, wanted = checksum.partition(":")
        digest = hashlib.new(kind)
        private = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(private, "wb") as file, download.download(url) as coming:
            seen = 0
            while chunk := coming.read(CHUNK):
                seen += len(chunk)
                digest.update(chunk)
                file.write(chunk)
        if seen != coming.length or digest.hexdigest() != wanted:
            raise HostError(
                f"{seen} of {coming.length} bytes came, and their {kind} is {digest.hexdigest()}, not {wanted}",
                "it has changed or was damaged on the way: check the source, then the checksum in the manifest",
            )
