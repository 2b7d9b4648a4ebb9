"""The manifests' files, as they change: told once they have come to rest.

What is watched is where the paths lead *now*: a symbolic link may be switched, as git-sync and ConfigMaps do, and a
folder may be moved away and come back. So the folders on the way are watched too.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

# Seconds without a change until the files are taken to be at rest; how long one that is open for writing is waited for
# after its last write; and the longest wait of all, for files that never rest
QUIET = 0.15
UNFINISHED = 2.0
LONGEST = 2.0

# It says so of folders that come and go quickly, which harms nothing, on the stderr that log lines go to
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")

_Place = tuple[str, bool, tuple[int, int]]


class Watch(FileSystemEventHandler):
    """Calls `told` from a thread of its own."""

    def __init__(self, paths: Iterable[Path], told: Callable[[], None]) -> None:
        self._paths = [Path(os.path.abspath(path)) for path in paths]
        self._told = told
        self._observer = Observer()
        self._watches: dict[_Place, ObservedWatch] = {}
        self._changed = threading.Condition()
        self._first = self._last = 0.0
        self._open: dict[str, float] = {}
        self._following = threading.Lock()
        self._closed = False
        self._way: set[str] = set()
        self._roots: list[str] = []
        self.problem = ""

    def watch(self, paths: Iterable[Path]) -> None:
        """These from now on. Called by whoever was told."""
        self._paths = [Path(os.path.abspath(path)) for path in paths]
        self._follow()

    def stamp(self) -> object:
        """Another one when any of the files is another one, or has changed, as far as the file system tells."""
        seen: set[object] = set()
        for path in self._paths:
            seen.add(_state(path))
            for folder, folders, names in os.walk(path, followlinks=True):
                here = _state(folder)
                # a link may lead back; what is hidden is not a manifest, and git's folder is large
                folders[:] = [] if here in seen and Path(folder) != path else [n for n in folders if n[0] != "."]
                seen |= {here, *(_state(os.path.join(folder, name)) for name in names)}
        return seen

    def start(self) -> None:
        self._observer.start()
        self._follow()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._observer.stop()

    def on_any_event(self, event: FileSystemEvent) -> None:
        # reading them is not a change
        if event.event_type in ("opened", "closed_no_write"):
            return
        paths = [path for path in map(os.fsdecode, (event.src_path, event.dest_path)) if self._concerns(path)]
        if not paths:
            return
        now = time.monotonic()
        with self._changed:
            for path in paths:
                if event.event_type in ("modified", "created") and not event.is_directory:
                    self._open[path] = now
                else:
                    self._open.pop(path, None)
            self._first = self._first or now
            self._last = now
            self._changed.notify()

    def _concerns(self, path: str) -> bool:
        """Whether it is on the way to the manifests, or one of them: not what editors and git keep for themselves, but
        `..data`, by which ConfigMaps are switched."""
        if path in self._way:
            return True
        root = next((root for root in self._roots if path.startswith(f"{root}/")), None)
        parts = path[len(root) + 1 :].split("/") if root else ["."]
        return not any(part.startswith(".") and not part.startswith("..") for part in parts)

    def _run(self) -> None:
        while self._rest():
            self._follow()
            self._told()

    def _rest(self) -> bool:
        """Wait for a change, and until nothing changes any more; False when closed."""
        with self._changed:
            while not self._closed:
                if not self._first:
                    self._changed.wait()
                    continue
                now = time.monotonic()
                unfinished = [at + UNFINISHED for at in self._open.values() if at + UNFINISHED > now]
                until = min(max([self._last + QUIET, *unfinished]), self._first + LONGEST)
                if now >= until:
                    self._first = 0.0
                    self._open = {path: at for path, at in self._open.items() if at + UNFINISHED > now}
                    return True
                self._changed.wait(until - now)
        return False

    def _follow(self) -> None:
        """Watch where the paths lead by now."""
        with self._following:
            self._follow_paths()

    def _follow_paths(self) -> None:
        way: set[str] = set()
        wanted = {place for path in self._paths for place in _places(path, way)}
        self._way, self._roots = way, [place[0] for place in wanted if place[1]]
        self.problem = ""
        for place in self._watches.keys() - wanted:
            self._observer.unschedule(self._watches.pop(place))
        for place in wanted - self._watches.keys():
            try:
                self._watches[place] = self._observer.schedule(self, place[0], recursive=place[1])
            except OSError as error:
                self.problem = f"{place[0]} cannot be watched: {error.strerror}"


def _state(path: str | Path) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return str(path), error.errno
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _places(path: Path, way: set[str], links: int = 40) -> Iterator[_Place]:
    """What to watch for this path, as (folder, recursive, which one it is); `way` gets all that it leads through."""
    at = Path(path.anchor)
    for part in path.parts[1:]:
        below = at / part
        way.add(str(below))
        try:
            if below.is_symlink() and links:
                yield from _place(at)
                rest = path.parts[len(below.parts) :]
                yield from _places(Path(os.path.normpath(at / os.readlink(below))).joinpath(*rest), way, links - 1)
                return
            below.stat()
        except OSError:
            # not there yet, or any more
            yield from _place(at)
            return
        at = below
    yield from _place(at.parent)
    if at.is_dir():
        yield from _place(at, True)


def _place(folder: Path, recursive: bool = False) -> Iterator[_Place]:
    try:
        found = folder.stat()
    except OSError:
        return
    yield str(folder), recursive, (found.st_dev, found.st_ino)
