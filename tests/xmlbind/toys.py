"""Sections that have one of each thing that a declaration can say."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from lxml import etree

from kvmstate.model.effect import Effect, Scaling, When
from kvmstate.model.reference import LocalFile
from kvmstate.model.resource import Ref
from kvmstate.xmlbind import Element, Keyed, Section, Sensitive, Xml
from kvmstate.xmlbind.codecs import ON_OFF, present, same_case, same_flag, same_path, size
from kvmstate.xmlbind.overrides import Overrides


class Inner(Section):
    level: Annotated[int | None, Xml("@level")] = None
    note: Annotated[str | None, Xml("note")] = None


class Part(Section):
    """An item of a keyed list."""

    name: Annotated[str, Xml("@name")]
    speed: Annotated[int | None, Xml("speed"), Effect.LIVE] = None
    kind: Annotated[Literal["fast", "slow"], Xml("@kind")] = "fast"


class Step(Section):
    """An item of a list without a key."""

    does: Annotated[str, Xml("@does")]
    times: Annotated[int | None, Xml("@times")] = None


class Round(Section):
    xml_variant: ClassVar[str] = "round"
    type: Annotated[Literal["round"], Xml("@type")]
    radius: Annotated[int | None, Xml("radius")] = None


class Square(Section):
    xml_variant: ClassVar[str] = "square"
    type: Annotated[Literal["square"], Xml("@type")]
    side: Annotated[int | None, Xml("side")] = None


def _read_pair(node: etree._Element, lookup: Any) -> str | None:
    return f"{node.get('a')}:{node.get('b')}" if node.get("a") else None


def _write_pair(node: etree._Element, value: str | None, lookup: Any) -> None:
    for name, text in zip("ab", value.split(":") if value else (), strict=False):
        node.set(name, text)
    if value is None:
        node.attrib.clear()


class Toy(Section):
    text: Annotated[str | None, Xml("text")] = None
    number: Annotated[int | None, Xml("number/@value"), Scaling(Effect.LIVE, Effect.REFUSED, limit="most")] = None
    most: Annotated[int | None, Xml("most")] = None
    yes: Annotated[bool | None, Xml("yes/@is")] = None
    on: Annotated[bool | None, Xml("on/@is", ON_OFF)] = None
    flag: Annotated[bool | None, Xml(".", present("flag"), same=same_flag)] = None
    amount: Annotated[int | None, Xml("amount", size("KiB"))] = None
    path: Annotated[str | None, Xml("path", same=same_path)] = None
    mac: Annotated[str | None, Xml("mac/@address", same=same_case, lasting=True)] = None
    pair: Annotated[str | None, Xml("pair", Element(_read_pair, _write_pair))] = None
    words: Annotated[list[str], Xml("word")] = []
    inner: Annotated[Inner | None, Xml("inner")] = None
    made: Annotated[Inner | None, Xml("made", fresh={"@model": "best", "backend": "x"})] = None
    shared: Annotated[Inner | None, Xml("common", shared=True)] = None
    parts: Annotated[
        list[Part],
        Xml("parts/part", fresh={"@made": "new"}, only={"type": ("a", "b")}),
        Keyed("name"),
        When("kind", ("fast",), then=Effect.LIVE, otherwise=Effect.RESTART),
    ] = []
    steps: Annotated[list[Step], Xml("steps/step"), Effect.REPLACE] = []
    shape: Annotated[Round | Square | None, Xml("shape")] = None
    secret: Annotated[str | None, Xml("secret"), Sensitive()] = None
    half_secret: Annotated[str | None, Xml("half"), Sensitive(lambda text: text.startswith("ok"))] = None
    file: Annotated[str | None, LocalFile()] = None
    friend: Annotated[str | None, Ref("network"), Xml("friend")] = None
    xml: Overrides = {}
    beyond: Annotated[str, Effect.NONE] = "default"
