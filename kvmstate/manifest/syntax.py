"""Text to YAML documents: syntax errors, and going on after them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from kvmstate.manifest.composer import Composer, Refused
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.text import MAX_PROBLEMS, Reader

MAX_SYNTAX_ERRORS = 20
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NEXT_DOCUMENT = re.compile(r"^---(?=\s|$)", re.MULTILINE)


def documents(reader: Reader, text: str) -> Iterator[Node]:
    """Every document that is not empty. After a syntax error it goes on at the next `---`."""
    start, first_line = 0, 1
    for _ in range(MAX_SYNTAX_ERRORS):
        composer = Composer(iter(_LOADER(text[start:]).get_event, None), first_line, reader.report)
        try:
            for node in _compose(composer):
                yield node
                if len(reader.problems) > MAX_PROBLEMS:
                    # nobody is shown what is wrong with the rest
                    break
            return
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + first_line, mark.column + 1) if mark else (first_line, 1)
            reader.report(*_explain(error, line, column, text, reader.rendered))
        except Refused:
            return
        except yaml.YAMLError as error:
            reader.report(f"this is not YAML: {error}", first_line)
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


def _offset(text: str, start: int, lines: int) -> int:
    for _ in range(lines):
        found = text.find("\n", start)
        if found < 0:
            return len(text)
        start = found + 1
    return start
