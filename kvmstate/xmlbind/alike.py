"""How pydantic validates fields that are alike, worked out once: a machine may have a thousand."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema

from kvmstate.model.field import Limits
from kvmstate.xmlbind.later import Later

_LIMITS = frozenset(Limits.__annotations__)


class Alike:
    """The last mark of a field, which pydantic asks first: where another field has the same type and the same limits,
    its other marks are not asked at all."""

    __slots__ = ("limits",)
    known: ClassVar[dict[object, CoreSchema]] = {}

    def __init__(self, told: Mapping[str, object]) -> None:
        self.limits = tuple((name, told[name]) for name in sorted(_LIMITS & told.keys()))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if (later := _later(source)) is not None:
            return later.optional()
        if not is_plain(source):
            return handler(source)
        key = source, self.limits
        if (found := self.known.get(key)) is None:
            found = self.known[key] = handler(source)
        return found


def _later(source: Any) -> type[Later] | None:
    """Of `Numa | None`, where that is not loaded yet, what stands for it."""
    if get_origin(source) not in (Union, UnionType):
        return None
    first, *others = get_args(source)
    return first if others == [NoneType] and isinstance(first, type) and issubclass(first, Later) else None


def is_plain(source: Any) -> bool:
    """`int | None` and its like, whose validation hangs on nothing else. Another type may have been `Annotated`,
    which nobody can tell from it any more."""
    return get_origin(source) in (Union, UnionType) and all(
        each in (str, int, bool, NoneType) or get_origin(each) is Literal for each in get_args(source)
    )
