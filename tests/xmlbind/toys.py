"""Sections that have one of each thing that a declaration can say."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from lxml import etree

from kvmstate.model.effect import Effect, Given, Scaling, When
from kvmstate.model.field import field
from kvmstate.xmlbind import Element, Section, Sensitive, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, present, same_case, same_flag, same_path, size
from kvmstate.xmlbind.overrides import Overrides


class Inner(Section):
    level: int | None = xml("@level")
    note: str | None = xml("note")


class Made(Inner):
    bare = True
    made_with = {"@model": "best", "backend": "x"}


class Part(Section):
    """An item of a keyed list."""

    made_with = {"@made": "new"}
    only = {"type": ("a", "b")}

    name: str = xml("@name", required=True)
    speed: int | None = xml("speed", effect=Effect.LIVE)
    kind: Literal["fast", "slow"] = xml("@kind", default="fast")


class Tuned(Section):
    """One whose fields each have a cost of their own."""

    share: int | None = xml("share", effect=Given(Effect.LIVE, unset=Effect.RESTART))
    quota: int | None = xml("quota", effect=Effect.LIVE)
    pins: list[Part] = xml_list("pin", key="name", effect=Given(Effect.LIVE, unset=Effect.RESTART))


class Step(Section):
    """An item of a list without a key."""

    does: str = xml("@does", required=True)
    times: int | None = xml("@times")


class Round(Section):
    xml_variant: ClassVar[str] = "round"
    type: Literal["round"] = xml("@type", required=True)
    radius: int | None = xml("radius")


class Square(Section):
    xml_variant: ClassVar[str] = "square"
    type: Literal["square"] = xml("@type", required=True)
    side: int | None = xml("side")


def _read_pair(node: etree._Element, lookup: Any) -> str | None:
    return f"{node.get('a')}:{node.get('b')}" if node.get("a") else None


def _write_pair(node: etree._Element, value: str | None, lookup: Any) -> None:
    for name, text in zip("ab", value.split(":") if value else (), strict=False):
        node.set(name, text)
    if value is None:
        node.attrib.clear()


class Toy(Section):
    text: str | None = xml("text")
    number: int | None = xml("number/@value", effect=Scaling(Effect.LIVE, Effect.REFUSED, limit="most"))
    most: int | None = xml("most")
    yes: bool | None = xml("yes/@is")
    on: bool | None = xml("on/@is", ON_OFF)
    flag: bool | None = xml(".", present("flag"), same=same_flag)
    amount: int | None = xml("amount", size("KiB"))
    path: str | None = xml("path", same=same_path)
    mac: str | None = xml("mac/@address", same=same_case, lasting=True)
    pair: str | None = xml("pair", Element(_read_pair, _write_pair))
    words: list[str] = xml_list("word")
    inner: Inner | None = xml("inner")
    made: Made | None = xml("made")
    tuned: Tuned | None = xml("tuned", in_parts=True)
    shared: Inner | None = xml("common", shared=True)
    parts: list[Part] = xml_list(
        "parts/part",
        key="name",
        effect=When("kind", ("fast",), then=Effect.LIVE, otherwise=Effect.RESTART),
    )
    steps: list[Step] = xml_list("steps/step", effect=Effect.REPLACE)
    shape: Round | Square | None = xml("shape")
    secret: str | None = xml("secret", sensitive=Sensitive())
    half_secret: str | None = xml("half", sensitive=Sensitive(lambda text: text.startswith("ok")))
    file: str | None = field(local=True)
    friend: str | None = xml("friend", ref="network")
    xml: Overrides = {}
    beyond: str = field("default", effect=Effect.NONE)
