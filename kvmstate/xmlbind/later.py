"""Sections that are loaded when they are first needed: a machine can have far more than most have."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

    from kvmstate.xmlbind.binding import Section


class Later:
    """Stands in annotations for a Section of a module that is not loaded yet. Names no local files."""

    place: ClassVar[tuple[str, str]]

    @classmethod
    def section(cls) -> type[Section]:
        """The one that it stands for."""
        return _load(cls.place)

    @classmethod
    def is_loaded(cls) -> bool:
        """Whether anybody has needed it."""
        return cls.place in _LOADED

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cls.schema()

    @classmethod
    def schema(cls, **more: Any) -> CoreSchema:
        """How pydantic validates it."""
        # manifests are read strictly, by the names that they use
        return core_schema.lax_or_strict_schema(
            core_schema.with_info_plain_validator_function(cls._validating(strict=False)),
            core_schema.with_info_plain_validator_function(cls._validating(strict=True)),
            **more,
        )

    @classmethod
    def optional(cls) -> CoreSchema:
        """Make what pydantic makes of `… | None`: a machine has many of these, and few are ever used."""
        told = {"pydantic_js_functions": [cls.__get_pydantic_json_schema__]}
        return core_schema.nullable_schema(cls.schema(metadata=told))

    @classmethod
    def _validating(cls, strict: bool) -> Callable[[Any, core_schema.ValidationInfo[Any]], Any]:
        def validate(value: Any, info: core_schema.ValidationInfo[Any]) -> Any:
            context = info.context
            return cls.section().model_validate(
                value, strict=strict, context=context, by_alias=True, by_name=not strict
            )

        return validate

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        section = cls.section()
        section.model_rebuild()
        # said once, however many hold it
        return handler(cast("CoreSchema", {**section.__pydantic_core_schema__, "ref": f"{'.'.join(cls.place)}:0"}))


def later(module: str, name: str, **facts: object) -> type[Later]:
    """What stands for the Section `name` of a module; `facts` are known of it before it is loaded."""
    return type(name, (Later,), {"place": (module, name), **facts})


_LOADED: dict[tuple[str, str], type[Section]] = {}


def _load(place: tuple[str, str]) -> type[Section]:
    if place not in _LOADED:
        module, name = place
        _LOADED[place] = getattr(importlib.import_module(module), name)
    return _LOADED[place]
