"""Jinja2 templates of manifests, rendered by a child process that is bounded in time, memory and output."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvmstate.errors import Problem
from kvmstate.manifest.sources import Source, shown
from kvmstate.manifest.suggest import nearest
from kvmstate.manifest.values import Reads

CHILD = Path(__file__).with_name("render_child.py")
# For all templates together: seconds, characters of what they make, and how many are stopped before the rest is left
WALL_SECONDS = 30.0
MAX_ALL = 32 << 20
MOST_STOPPED = 3


def render(
    templates: Sequence[Source], values: Mapping[str, object], problems: list[Problem]
) -> tuple[dict[str, str], Reads]:
    """The text of each template by its source's label; those that fail are missing and in `problems`. And what values
    they read."""
    texts: dict[str, str] = {}
    reads: set[tuple[str, ...]] | None = set()
    waiting = list(templates)
    deadline, stops = time.monotonic() + WALL_SECONDS, 0
    while waiting:
        left = deadline - time.monotonic()
        if stops >= MOST_STOPPED or left <= 0:
            why = "not rendered: the templates before it have taken too much time or memory"
            problems += [Problem(why, source.label) for source in waiting]
            return texts, None
        answers = list(_child(waiting, values, left, MAX_ALL - sum(map(len, texts.values()))))
        for source, answer in zip(waiting, answers, strict=False):
            if "text" in answer:
                texts[source.label] = answer["text"]
                known = answer["reads"]
                reads = None if reads is None or known is None else reads.union(map(tuple, known))
            else:
                problems.append(_problem(source, answer, values))
        if len(answers) < len(waiting):
            stops += 1
            stopped = waiting[len(answers)].label
            problems.append(Problem("the template takes too much time or memory to render", stopped))
        waiting = waiting[len(answers) + 1 :]
    return texts, None if reads is None else frozenset(reads)


def _child(
    templates: Sequence[Source], values: Mapping[str, object], seconds: float, room: int
) -> Iterator[dict[str, Any]]:
    """One answer a template, up to the first that had to be stopped."""
    pairs = [(os.path.abspath(source.path or ""), os.path.abspath(source.root)) for source in templates]
    job = json.dumps({"values": json.dumps(values), "templates": pairs, "room": room})
    # -P: modules are not looked for in the script's own folder; -S: this process has found already where they are
    with subprocess.Popen(
        [sys.executable, "-P", "-S", str(CHILD)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            out, _ = process.communicate(job, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
    for line in out.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return  # cut off in the middle


def _problem(source: Source, answer: dict[str, Any], values: Mapping[str, object]) -> Problem:
    here = os.path.abspath(source.path or "")
    file = source.label if answer["file"] == here else shown(answer["file"])
    message, hint = answer["error"], ""
    if answer.get("kind") == "undefined":
        message, hint = _undefined(message, values)
    line = answer["line"]
    return Problem(f"template: {message}", file, line, 1 if line else 0, "", hint)


def _undefined(message: str, values: Mapping[str, object]) -> tuple[str, str]:
    match = re.fullmatch(r"'dict object' has no attribute '(.*)'", message)
    if match:
        close = nearest(match[1], _names(values))
        hint = f"did you mean {close}?" if close else "give it in a values file or with --set"
        return f"there is no value {match[1]!r}", hint
    if (match := re.fullmatch(r"'(.*)' is undefined", message)) and match[1] in values:
        return message, f"values are read as values.{match[1]}"
    return message, ""


def _names(values: Mapping[str, object]) -> set[str]:
    nested = [_names(value) for value in values.values() if isinstance(value, Mapping)]
    return set(values).union(*nested)
