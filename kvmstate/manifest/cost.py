"""What a change of a field costs, in a sentence: for the schema and `explain`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic.alias_generators import to_camel

from kvmstate.kind import Kind
from kvmstate.model.effect import Cost, Effect, Given, Scaling, When, Where
from kvmstate.xmlbind import Section, bindings

_SENTENCES = {
    Effect.NONE: "Used when it is made; a later change does nothing.",
    Effect.LIVE: "A change is made live.",
    Effect.RESTART: "A change takes effect at the next restart.",
    Effect.REPLACE: "A change replaces the object: only when lifecycle.replace allows it.",
    Effect.REFUSED: "A change is refused.",
}
_SHRINK = {
    Effect.NONE: "changes nothing",
    Effect.RESTART: "takes effect at the next restart",
    Effect.REPLACE: "needs a replacement",
}


PARTS = "that of its fields"


def label(effect: Cost) -> str:
    """In a word or a few: `live`, `grow: live up to maxCpus, shrink: restart`."""
    text = str(effect)
    limit = effect.limit if isinstance(effect, Scaling) else None
    return text.replace(limit, to_camel(limit)) if limit else text


def table(kind: Kind) -> Iterator[tuple[str, str]]:
    """Every field of a kind, such as `disks[].cache`, with what a change of it costs. A list, or a section, costs that
    when an item of it comes or goes, or the whole of it."""
    rows: dict[str, str] = {}
    for section in kind.sections:
        for where, cost in _fields(section):
            rows.setdefault(where, cost if isinstance(cost, str) else label(cost))
    return iter(rows.items())


def _fields(section: type[Section], at: str = "") -> Iterator[tuple[str, Cost | str]]:
    for b in bindings(section):
        yield f"{at}{b.alias}", PARTS if b.xml and b.xml.in_parts else b.effect
        for inner in b.sections:
            yield from _fields(inner, f"{at}{b.alias}{'[]' if b.repeated else ''}.")


def sentence(effect: Cost) -> str:
    if isinstance(effect, Effect):
        return _SENTENCES[effect]
    if isinstance(effect, When):
        return f"{effect.condition.capitalize()}: {_lower(effect.then)} Otherwise: {_lower(effect.otherwise)}"
    if isinstance(effect, Where):
        return f"Where {effect.told}: {_lower(effect.then)} Otherwise: {_lower(effect.otherwise)}"
    if isinstance(effect, Given) and effect.first is not None:
        return f"{_SENTENCES[effect.set][:-1]}; where there was none, it {_SHRINK[effect.first]}."
    if isinstance(effect, Given):
        return f"{_SENTENCES[effect.set][:-1]}; taken out, it {_SHRINK[effect.unset]}."
    limit = f" up to {to_camel(effect.limit)}" if effect.limit else ""
    if effect.grow is effect.shrink and effect.beyond is not None:
        return f"{_SENTENCES[effect.grow][:-1]}{limit}; beyond, it {_SHRINK[effect.beyond]}."
    return f"Grows {effect.grow}{limit}; shrinking {_SHRINK.get(effect.shrink, str(effect.shrink))}."


def _lower(effect: Effect) -> str:
    return _SENTENCES[effect][0].lower() + _SENTENCES[effect][1:]


_ANY = "|".join(re.escape(text[1:]) for text in _SENTENCES.values())
_TOLD = re.compile(
    rf" ?(?:[A-Z][^.:]*: [a-z](?:{_ANY}) Otherwise: [a-z](?:{_ANY})|[A-Z](?:{_ANY})|Grows [^.;]*; shrinking [^.]*\."
    rf"|A change (?:is made live|replaces the object)[^;]*; (?:taken out|beyond|where there was none), it [^.]*\.)"
)


def without(text: str) -> str:
    """A description without the sentence of the cost, for those who tell that elsewhere."""
    return _TOLD.sub("", text).strip()
