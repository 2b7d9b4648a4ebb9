"""Bytes to YAML documents: encoding, junk, syntax errors, and going on after them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from kvmstate.errors import Problem
from kvmstate.manifest.nodes import Composer, Node, Refused
from kvmstate.xmlbind.sealed import HASH

MAX_BYTES = 10 << 20
MAX_SYNTAX_ERRORS = 20
MAX_PROBLEMS = 200
# A message and its hint: `report(*EMPTY)`
EMPTY = (
    "the file is empty",
    0,
    0,
    "writing it may have been cut off; one that shall declare nothing says so in a comment, or is deleted",
)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# https://yaml.org/spec/1.2.2/#51-character-set
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NEXT_DOCUMENT = re.compile(r"^---(?=\s|$)", re.MULTILINE)


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
        if bad := _UNPRINTABLE.search(text):
            line, column = _place(text, bad.start())
            self.report(f"the control character U+{ord(bad[0]):04X} is not allowed in YAML", line, column)
        return bad is None

    def documents(self, text: str) -> Iterator[Node]:
        """Every document that is not empty. After a syntax error it goes on at the next `---`."""
        start, first_line = 0, 1
        for _ in range(MAX_SYNTAX_ERRORS):
            composer = Composer(iter(_LOADER(text[start:]).get_event, None), first_line, self.report)
            try:
                for node in _compose(composer):
                    yield node
                    if len(self.problems) > MAX_PROBLEMS:
                        # nobody is shown what is wrong with the rest
                        break
                return
            except yaml.MarkedYAMLError as error:
                mark = error.problem_mark or error.context_mark
                line, column = (mark.line + first_line, mark.column + 1) if mark else (first_line, 1)
                self.report(*_explain(error, line, column, text, self.rendered))
            except Refused:
                return
            except yaml.YAMLError as error:
                self.report(f"this is not YAML: {error}", first_line)
                return
            after = _offset(text, start, max(line - first_line, 1))
            following = _NEXT_DOCUMENT.search(text, after)
            if following is None:
                return
            first_line += text.count("\n", start, following.start())
            start = following.start()


def _compose(composer: Composer) -> Iterator[Node]:
    for event in composer.events:
        if type(event) is yaml.DocumentStartEvent:
            composer.anchors = {}
            node = composer.node(next(composer.events))
            if node.value is not None:
                yield node


def _explain(
    error: yaml.MarkedYAMLError, line: int, column: int, text: str, rendered: bool
) -> tuple[str, int, int, str]:
    said = ", ".join(part for part in (error.context, error.problem) if part)
    source = text.split("\n", line)[line - 1] if line <= text.count("\n") + 1 else ""
    hint = ""
    if "\t" in source[: len(source) - len(source.lstrip())] or ("cannot start any token" in said and "\t" in source):
        hint = "indent with spaces, not tabs"
    elif re.search(r"\{\{|\{%", source) and not rendered:
        hint = "templates are rendered in files named *.yaml.j2 only"
    elif "mapping values are not allowed" in said:
        hint = "put text that holds ': ' in quotes, and check the indentation"
    elif "cannot start any token" in said:
        hint = "put text that starts with %, @ or ` in quotes"
    elif "did not find expected" in said:
        hint = "check the indentation, brackets and quotes of this line and the one above"
    return f"this is not YAML: {said}", line, column, hint


def _place(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _offset(text: str, start: int, lines: int) -> int:
    for _ in range(lines):
        found = text.find("\n", start)
        if found < 0:
            return len(text)
        start = found + 1
    return start
