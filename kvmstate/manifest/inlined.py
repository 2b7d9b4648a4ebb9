"""Texts for guests: those that stand in files of the project are read, and those that have a structure are checked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

from kvmstate.kind import Inlining
from kvmstate.manifest.manifests import Loaded
from kvmstate.manifest.reach import HINT, Reach
from kvmstate.manifest.references import marks, unreadable
from kvmstate.manifest.translate import Report, spell
from kvmstate.model.field import LocalFile
from kvmstate.model.files import open_regular
from kvmstate.xmlbind import Section

# Bytes of a file that is read into a field
MOST_INLINED = 1 << 20


def inlined(item: Loaded, reach: Reach | None, report: Report) -> None:
    """Reads the files that are read into other fields, once they are seen to be within reach, and tells what is wrong
    in what guests are told."""
    at: tuple[str | int, ...]
    section: Inlining
    for at, section in item.resource.spec.reads():
        for name, mark in _reading(type(section)):
            if (value := getattr(section, name)) is None:
                continue
            path = (*at, type(section).model_fields[name].alias or name)
            if why := _read(section, mark.into, os.path.abspath(item.source.folder / value), reach):
                report(f"{value}: {why[0]}", *item.place(path), why[1], spell(("spec", *path)))
        for place, said in section.structures():
            if isinstance(said, str):
                for line, told, hint in _misfits(said, section):
                    path = (*at, *place)
                    report(f"line {line} of it: {told}", *item.place(path), hint, spell(("spec", *path)))
                continue
            for fault in section.misfits(said):
                path = (*at, *place, *fault.path)
                report(fault.message, *item.place(path), fault.hint, spell(("spec", *path)))


@cache
def _reading(section: type[Section]) -> tuple[tuple[str, LocalFile], ...]:
    return tuple((name, mark) for name in section.model_fields for mark in marks(section, name) if mark.into)


def _read(section: Inlining, into: str, file: str, reach: Reach | None) -> tuple[str, str] | None:
    """What is wrong, and what to do."""
    if reach and (why := reach.refused(file)):
        return why, HINT
    if problem := unreadable(file):
        return problem, "relative paths start at the manifest's folder"
    try:
        with open_regular(file) as opened:
            raw = opened.read(MOST_INLINED + 1)
        if len(raw) > MOST_INLINED:
            return f"it has more than {MOST_INLINED:,} bytes", ""
        section.read(into, _mapping(raw.decode()) if into in section.mappings else raw.decode())
    except OSError as error:
        return error.strerror or str(error), ""
    except UnicodeDecodeError:
        return "this is not UTF-8 text", ""
    except ValueError as error:
        return str(error), ""
    return None


def _mapping(text: str) -> dict[str, Any]:
    """Raises ValueError where it is not a mapping of plain values."""
    import yaml  # few manifests have such files

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            # what refers to itself again and again has no end
            raise ValueError
        said = yaml.safe_load(text)
        # such as a date
        json.dumps(said)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f": line {mark.line + 1}" if mark else ""
        raise ValueError(f"this is not YAML of plain values without aliases{where}") from None
    if not isinstance(said, dict):
        raise ValueError("expected a mapping, such as `instance-id: web-1-second`")
    return said


def _misfits(text: str, section: Inlining) -> Iterator[tuple[int, str, str]]:
    """What does not fit in a text of YAML 1.1, as a guest reads it, and in which line."""
    import yaml  # few manifests have such texts

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            # what refers to itself again and again has no end
            return
        root, config = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or "it cannot be read"
        yield (mark.line + 1 if mark else 1), f"this is not YAML: {why}", ""
        return
    except (ValueError, RecursionError):
        yield 1, "this is not YAML that can be read", ""
        return
    for fault in section.misfits(config) if config is not None else ():
        where = ".".join(map(str, fault.path))
        yield _line(root, fault.path), f"{where}: {fault.message}" if where else fault.message, fault.hint


def _line(node: Any, path: tuple[str | int, ...]) -> int:
    for step in path:
        if isinstance(node.value, list) and isinstance(step, int):
            node = node.value[step]
        elif isinstance(node.value, list):
            node = next((value for key, value in node.value if key.value == str(step)), node)
    return int(node.start_mark.line) + 1
