"""A field in one line says what its type and the marks beside it would say."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from kvmstate.model.effect import Effect
from kvmstate.model.field import LocalFile, Ref, field
from kvmstate.xmlbind import Keyed, Section, Sensitive, Xml, bindings, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, same_case

Named = Annotated[str, Field(pattern="^[a-z]+$", description="Of the type.")]


class Item(Section):
    name: Named = xml("@name", required=True)


class Terse(Section):
    number: int | None = xml("number/@is", ge=1, le=9, multiple_of=2, doc="In bytes.")
    needed: Named = xml("needed", required=True, max_length=3)
    flag: bool | None = xml("flag/@is", ON_OFF, effect=Effect.LIVE)
    word: str = xml("word", default="one", same=same_case, lasting=True, passing=True, recorded=True)
    secret: str | None = xml("secret", sensitive=Sensitive(), examples=["x"])
    items: list[Item] = xml_list("item", key="name", whole=True, shared=True, effect=Effect.REPLACE)
    words: list[str] = xml_list("words", required=True, min_length=1)
    network: str | None = field(ref="network", doc="A network.")
    file: str | None = field(local=True, effect=Effect.NONE)
    count: int = field(3, gt=0)


class Long(Section):
    number: Annotated[int | None, Xml("number/@is"), Field(ge=1, le=9, multiple_of=2, description="In bytes.")] = None
    needed: Annotated[Named, Xml("needed"), Field(max_length=3)]
    flag: Annotated[bool | None, Xml("flag/@is", ON_OFF), Effect.LIVE] = None
    word: Annotated[str, Xml("word", same=same_case, lasting=True, passing=True, recorded=True)] = "one"
    secret: Annotated[str | None, Xml("secret"), Sensitive(), Field(examples=["x"])] = None
    items: Annotated[list[Item], Xml("item", whole=True, shared=True), Keyed("name"), Effect.REPLACE] = []
    words: Annotated[list[str], Xml("words"), Field(min_length=1)]
    network: Annotated[str | None, Ref("network"), Field(description="A network.")] = None
    file: Annotated[str | None, LocalFile(), Effect.NONE] = None
    count: Annotated[int, Field(gt=0)] = 3


def test_both_forms_bind_the_same() -> None:
    assert bindings(Terse) == bindings(Long)


def test_both_forms_have_one_schema() -> None:
    terse, long = Terse.model_json_schema(), Long.model_json_schema()
    assert {**terse, "title": ""} == {**long, "title": ""}
    assert terse["properties"]["needed"]["description"] == "Of the type."


@pytest.mark.parametrize("form", [Terse, Long])
@pytest.mark.parametrize(
    ("values", "at"),
    [
        ({}, "needed"),
        ({"needed": "abcd"}, "needed"),
        ({"needed": "A"}, "needed"),
        ({"number": 11}, "number"),
        ({"number": 3}, "number"),
        ({"words": []}, "words"),
        ({"items": [{"name": "1"}]}, "items"),
        ({"count": 0}, "count"),
    ],
)
def test_both_forms_refuse_the_same(form: type[Section], values: dict[str, object], at: str) -> None:
    good = {"needed": "abc", "words": ["x"]}
    assert form.model_validate(good)
    with pytest.raises(ValidationError) as raised:
        form.model_validate({**good, **values} if values else {"words": ["x"]})
    assert [error["loc"][0] for error in raised.value.errors()] == [at]
