"""A reference to a network filter, with the values of its variables: interfaces have one, and so have other filters."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import named_values


def _value(value: object) -> object:
    if isinstance(value, list) and value:
        return [_value(each) for each in value]
    # libvirt drops a parameter that is otherwise, and says nothing
    if isinstance(value, bool) or not re.fullmatch("[a-zA-Z0-9_.:]+", str(value)):
        raise ValueError("expected letters, digits, and any of _ . : or a list of such values")
    return str(value)


# In a filter's name: libvirt writes it into the XML of filters and machines as it is, which nobody can read then
UNWRITABLE = "<>&'\""


def _written(name: str) -> str:
    if found := sorted({*UNWRITABLE} & {*name}):
        raise ValueError(f"a network filter cannot have {' '.join(found)} in its name: libvirt does not escape it")
    return name


FilterName = Annotated[str, AfterValidator(_written)]
_SAID = {"type": ["string", "integer"]}
Variable = Annotated[str, Field(pattern="^[a-zA-Z0-9_]+$")]
Values = Annotated[
    str | list[str],
    BeforeValidator(_value),
    WithJsonSchema({"anyOf": [_SAID, {"type": "array", "items": _SAID, "minItems": 1}]}),
]


class FilterRef(Section):
    """A network filter."""

    filter: FilterName = xml(
        "@filter",
        required=True,
        ref="nwfilter",
        effect=Effect.LIVE,
        doc="Its name: one of the manifests, of the host, or one that comes with libvirt such as clean-traffic.",
    )
    parameters: dict[Variable, Values] | None = xml(
        ".",
        named_values("parameter"),
        effect=Effect.LIVE,
        doc="Values of its variables, such as IP; each may have several.",
    )
