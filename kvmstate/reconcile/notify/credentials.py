"""The secrets that notifications name: files of the project, or what the daemon was given under that name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvmstate.manifest.reach import Reach
from kvmstate.model.files import open_regular
from kvmstate.reconcile.notify.notices import NotSent

MAX_BYTES = 64 * 1024


@dataclass(frozen=True)
class Credentials:
    """`named` are files by their names, before those in systemd's $CREDENTIALS_DIRECTORY; `project` is where the
    project's own files are, None when only names count: a repository must not reach files of the machine. `own` are the
    daemon's own secrets, which are for nobody else."""

    named: Mapping[str, Path] = field(default_factory=dict)
    project: Path | None = None
    reach: Reach = Reach()  # noqa: RUF009
    own: tuple[Path, ...] = ()

    def read(self, name: str) -> str:
        """The one line of it. Raises NotSent."""
        path = self._path(name)
        try:
            with open_regular(path) as file:
                text = file.read(MAX_BYTES).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotSent(f"{path}: {getattr(error, 'strerror', None) or 'no text'}") from None
        if not text or "\n" in text:
            raise NotSent(f"{path}: expected one line")
        return text

    def _path(self, name: str) -> Path:
        if "/" not in name and not name.startswith("."):
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            places = [self.named.get(name), Path(folder) / name if folder else None]
            if found := next((place for place in places if place and place.exists()), None):
                if any(own.exists() and own.samefile(found) for own in self.own):
                    raise NotSent(f"{name} is a secret of the daemon itself: it is sent to nobody")
                return found
        if self.project is None:
            raise NotSent(f"there is no credential {name}: `--credential NAME:FILE` gives one")
        path = self.project / name
        if why := self.reach.refused(path):
            raise NotSent(f"{name}: {why}")
        return path
