"""Bytes to text: encoding, and what no manifest may have in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvmstate.errors import Problem
from kvmstate.manifest.nodes import Node
from kvmstate.xmlbind.sealed import HASH

MAX_BYTES = 10 << 20
MAX_PROBLEMS = 200
# A message and its hint: `report(*EMPTY)`
EMPTY = (
    "the file is empty",
    0,
    0,
    "writing it may have been cut off; one that shall declare nothing says so in a comment, or is deleted",
)
# https://yaml.org/spec/1.2.2/#51-character-set
_UNPRINTABLE = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


def problem(
    file: str, rendered: bool, message: str, line: int = 0, column: int = 0, hint: str = "", path: str = ""
) -> Problem:
    """A problem at a place; a line of rendered text is none that an editor could open."""
    if rendered and line:
        message, line, column = f"{message} (line {line} after rendering)", 0, 0
    return Problem(message, file, line, column, path, hint)


class Reader:
    """One text's documents and problems. `rendered` text has lines that its file does not."""

    def __init__(self, file: str, rendered: bool = False) -> None:
        self.file, self.rendered = file, rendered
        self.problems: list[Problem] = []

    def report(self, message: str, line: int = 0, column: int = 0, hint: str = "", path: str = "") -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem(self.file, self.rendered, message, line, column, hint, path))
        elif len(self.problems) == MAX_PROBLEMS:
            self.problems.append(Problem(f"more than {MAX_PROBLEMS} problems: only the first are shown", self.file))

    def decode(self, raw: bytes) -> str:
        """The text, or an empty one and a problem."""
        if len(raw) > MAX_BYTES:
            self.report(f"the file has {len(raw):,} bytes; at most {MAX_BYTES:,} are read")
            return ""
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            self.report("the file is UTF-16", hint="save it as UTF-8")
            return ""
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            start = raw.rfind(b"\n", 0, error.start) + 1
            column = len(raw[start : error.start].decode(errors="replace")) + 1
            self.report("this is not UTF-8 text", raw.count(b"\n", 0, error.start) + 1, column)
            return ""
        if not text.strip() and not self.rendered:
            self.report(*EMPTY)
        return text if self._printable(text) and self._without_hashes(text) else ""

    def _without_hashes(self, text: str) -> bool:
        """One is the same to a record as the secret itself."""
        if found := HASH.search(text):
            line, column = _place(text, found.start())
            said = f"{found[0]} stands for a secret in records and saved plans"
            self.report(said, line, column, "write the secret itself, or take it out")
        return found is None

    def _printable(self, text: str) -> bool:
        # made when there is a text that is not known: it takes 5 ms
        if bad := re.search(_UNPRINTABLE, text):
            line, column = _place(text, bad.start())
            self.report(f"the control character U+{ord(bad[0]):04X} is not allowed in YAML", line, column)
        return bad is None

    def documents(self, text: str) -> Iterator[Node]:
        """Every document that is not empty. After a syntax error it goes on at the next `---`."""
        # loading YAML takes time, and what most texts say is known; see `kvmstate.manifest.cache`
        from kvmstate.manifest.syntax import documents

        yield from documents(self, text)


def _place(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
