"""A resource with all that it has, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvmstate.kinds import BY_WORD
from kvmstate.manifest import Manifests
from kvmstate.manifest.provenance import Path, Provenance, Source, Value, Word, item_key
from kvmstate.manifest.write import entry
from kvmstate.model.change import Change
from kvmstate.model.resource import ResourceId
from kvmstate.views.formats import Output
from kvmstate.views.text import terminal_width
from kvmstate.views.values import overlaid, plain

FORMAT_VERSION = "1.0"
# Columns where nobody has a terminal
_WIDTH = 80
# YAML's lines end with the first word that is too long for them
_WORD = 16
# Between a value and its comment, until these are aligned; and after the first line of a value that has several
_MARK, _ABOVE = "\0", "\1"


@dataclass(frozen=True)
class Resolved:
    """`whole` is its spec in JSON, and `values` are those in it. `there`: the host has it, and libvirt's values are
    known."""

    id: ResourceId
    there: bool
    whole: Any
    values: Sequence[Value]


def of(manifests: Manifests, change: Change, project: str) -> Resolved:
    """What a resource that a plan wants has in the end: as its manifest says, with defaults, and over what is there."""
    assert change.desired
    complete = BY_WORD[change.id.kind].complete(change.desired, change.observed, project)
    whole = overlaid(change.observed.config, complete) if change.observed else complete
    said, complete_, whole_ = (plain(spec)[0] for spec in (change.desired.spec, complete, whole))
    values = Provenance(manifests, change.desired, said, complete_, whole_).values()
    return Resolved(change.id, change.observed is not None, whole_, [*values])


def output(found: Sequence[Resolved]) -> Output:
    """What `kvmstate explain --resolved` prints."""
    width = terminal_width() or _WIDTH
    return Output(
        lambda: {"format_version": FORMAT_VERSION, "resources": [_data(each) for each in found]},
        lambda: "\n".join(_aligned((line for each in found for line in _lines(each, each is found[0], width)), width)),
    )


def _data(each: Resolved) -> dict[str, Any]:
    return {
        "address": str(each.id),
        "present": each.there,
        "values": [
            {
                "path": list(value.path),
                "value": value.value,
                "source": str(value.source.word),
                "file": value.source.file,
                "line": value.source.line,
                "by": value.source.by,
                "kept": value.source.kept,
            }
            for value in each.values
        ],
    }


def _lines(each: Resolved, first: bool, width: int) -> Iterator[str]:
    if not first:
        yield "---"
    yield f"# {each.id}"
    if not each.there:
        yield "# not on the host yet: libvirt adds more when it is made"
    sources = {value.path: value.source for value in each.values}
    yield from _drawn(each.whole, (), sources, width)


def _drawn(fields: Any, at: Path, sources: Mapping[Path, Source], width: int) -> Iterator[str]:
    for key, value in fields.items():
        path = (*at, key)
        if source := sources.get(path):
            first, *more = entry(key, value, width - _WORD).rstrip().split("\n")
            yield f"{first}{_ABOVE if more else _MARK}{told(source)}"
            yield from more
            continue
        yield f"{key}:"
        if isinstance(value, dict):
            yield from (f"  {line}" for line in _drawn(value, path, sources, width - 2))
            continue
        for number, item in enumerate(value):
            lines = _drawn(item, (*path, item_key(item, number)), sources, width - 4)
            yield from (f"  {'  ' if n else '- '}{line}" for n, line in enumerate(lines))


def _aligned(lines: Iterable[str], width: int) -> Iterator[str]:
    """A comment stands behind a value where both fit into a line, else above it."""
    split = [(*line.partition(_MARK), *line.partition(_ABOVE)) for line in lines]
    column = max((len(value) for value, mark, *_ in split if mark and len(value) <= width // 2), default=0)
    for value, mark, text, first, above, comment in split:
        room = width - len(f"  # {text}")
        if above or (mark and len(value) > room):
            value, text = (first, comment) if above else (value, text)
            yield f"{' ' * (len(value) - len(value.lstrip()))}# {text}:"
            yield value
        elif mark:
            yield f"{value:<{min(column, room)}}  # {text}"
        else:
            yield value


def told(source: Source) -> str:
    """Where it comes from, in words."""
    place = f"{source.file}:{source.line}" if source.line else ""
    if source.word is Word.MANIFEST:
        return place
    if source.word is Word.INHERITED:
        return f"{source.by}, {'as it was then' if source.kept else place}"
    if source.word is Word.DERIVED:
        return f"from {place}" if place else "kvmstate"
    return str(source.word)
