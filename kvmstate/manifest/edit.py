"""Edits of files that people write: as little as can be, comments and all else stay."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kvmstate.errors import UsageError
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.text import Reader


def add_id(file: Path, id_: str) -> None:
    """Write a project's id into its kvmstate.yaml. Raises UsageError when that cannot be done."""
    told = f"add this line to it: `id: {id_}`"
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            text = opened.read()
        edited = with_id(text, id_)
        if edited is None:
            raise UsageError(f"{file}: the project's id cannot be added", told)
        replace(Path(os.path.realpath(file)), edited)
    except OSError as error:
        raise UsageError(f"{file}: the project's id cannot be added: {error.strerror}", told) from None


def with_id(text: str, id_: str) -> str | None:
    """The text with `id` beside `project`; None where it is written in a way that is not foreseen."""
    before = _mapping(text)
    if before is None or (key := before.get("project")) is None:
        return None
    wanted = {**before.data(), "id": id_}
    for edited in beside(text, before.key("project"), key.line, f"id: {id_}"):
        after = _mapping(edited)
        if after is not None and after.data() == wanted:
            return edited
    return None


def beside(text: str, key: tuple[int, int], value_line: int, entry: str) -> Iterator[str]:
    """Texts with an entry beside the one with this key: on a line of its own below it, or above it; in the same braces.
    Which of them says what is meant is to be seen."""
    lines = text.splitlines(keepends=True)
    end = "\r\n" if "\r\n" in text else "\n"
    for at in (value_line, key[0] - 1):
        above = lines[:at]
        if above and not above[-1].endswith("\n"):
            above[-1] += end
        yield "".join([*above, " " * (key[1] - 1) + entry + end, *lines[at:]])
    line, column = key[0] - 1, key[1] - 1
    yield "".join([*lines[:line], f"{lines[line][:column]}{entry}, {lines[line][column:]}", *lines[line + 1 :]])


def _mapping(text: str) -> Node | None:
    reader = Reader("")
    documents = list(reader.documents(text.removeprefix("\ufeff")))
    if reader.problems or len(documents) != 1 or not isinstance(documents[0].value, dict):
        return None
    return documents[0]


def replace(file: Path, text: str) -> None:
    """Write a file in one go: what is read meanwhile is whole. Raises OSError."""
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as new:
            new.write(text)
        shutil.copymode(file, temporary)
        _copy_owner(file, temporary)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def _copy_owner(file: Path, temporary: str) -> None:
    """What root edits stays its owner's."""
    found = file.stat()
    if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()) and not os.geteuid():
        os.chown(temporary, found.st_uid, found.st_gid)
