"""Where the manifests of what was imported are written: a folder for each kind, a file for each object."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from kvmstate.errors import UsageError
from kvmstate.kinds import BY_WORD
from kvmstate.manifest.sources import PROJECT_FILE
from kvmstate.manifest.write import manifest
from kvmstate.model.resource import Resource, ResourceId

# The most bytes that common file systems take for a name, with some left for what editors append
_LONGEST = 200


def layout(resources: Iterable[Resource]) -> dict[Path, str]:
    """Texts by their files; see `place`."""
    return {place(resource.id): manifest([resource]) for resource in resources}


def place(id_: ResourceId) -> Path:
    """machines/web.yaml, volumes/images/web.qcow2.yaml"""
    *folders, name = (_file_name(part) for part in id_.name.split("/"))
    return Path(BY_WORD[id_.kind].folder, *folders, f"{name}.yaml")


def _file_name(name: str) -> str:
    """Characters that shells and other file systems stumble over as %XX; what loading skips is spelled otherwise."""
    escaped = quote(name, safe="@+=,")
    if escaped.startswith(".") or f"{escaped}.yaml" == PROJECT_FILE:
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    if len(escaped) > _LONGEST:
        escaped = f"{escaped[:150]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return escaped


def write(folder: Path, files: dict[Path, str], force: bool) -> None:
    """Write the files. Raises UsageError; without `force` before anything is written when one of them is there."""
    if standing := [folder / path for path in files if (folder / path).exists() and not force]:
        raise UsageError(f"{standing[0]} is there already", "--force overwrites, or choose another --output")
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
