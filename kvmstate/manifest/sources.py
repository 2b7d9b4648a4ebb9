"""Paths to files: folders are walked in a fixed order, without hidden ones, other projects' and symlink loops."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmstate.errors import UsageError

PROJECT_FILE = "kvmstate.yaml"
PLAIN = (".yaml", ".yml")
TEMPLATES = (".yaml.j2", ".yml.j2")
STDIN = "-"


@dataclass(frozen=True)
class Source:
    """A file of manifests: `label` as messages show it, `root` the folder that templates may include from."""

    label: str
    path: Path | None
    root: Path

    @property
    def is_template(self) -> bool:
        return self.path is not None and self.path.name.endswith(TEMPLATES)

    @property
    def folder(self) -> Path:
        """What relative paths in the manifest start from."""
        return self.path.parent if self.path else Path.cwd()

    def read(self, limit: int) -> bytes:
        """At most a byte more than `limit`. Raises OSError."""
        if self.path is None:
            return sys.stdin.buffer.read(limit + 1)
        with self.path.open("rb") as file:
            return file.read(limit + 1)


def sources(paths: Sequence[Path], skip: Collection[Path] = ()) -> list[Source]:
    """Every manifest file below these paths, each once, sorted. Raises UsageError for a path that is not there."""
    skipped = {path.resolve() for path in skip}
    found: dict[Path | None, Source] = {}
    for path in paths:
        if str(path) == STDIN:
            found[None] = Source("<stdin>", None, Path.cwd())
            continue
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        folder = path.is_dir()
        for file in _walk(path, path, set()) if folder else [path]:
            real = file.resolve()
            if folder and real in skipped:
                continue
            if not folder and not file.name.endswith((*PLAIN, *TEMPLATES)) and file.is_file():
                raise UsageError(f"{path}: not a manifest", "manifests are *.yaml, *.yml, *.yaml.j2 and *.yml.j2 files")
            found.setdefault(real, Source(os.path.normpath(file), file, path if folder else file.parent))
    return sorted(found.values(), key=lambda source: source.label)


def _walk(folder: Path, top: Path, above: set[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        return
    if folder != top and (folder / PROJECT_FILE).exists():
        return  # another project's
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, top, above | {real})
        elif entry.name.endswith((*PLAIN, *TEMPLATES)) and entry.name != PROJECT_FILE and entry.is_file():
            yield entry
