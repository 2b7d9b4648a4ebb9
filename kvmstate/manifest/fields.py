"""What a model's fields are, by the names that manifests use: for hints, `explain` and the checks of field names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kvmstate.manifest.nodes import Node
from kvmstate.xmlbind import Later

Model = type[BaseModel]


def fields(model: Model) -> dict[str, FieldInfo]:
    """The fields by their manifest spelling."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def models(annotation: object) -> Iterator[Model]:
    """Every model that a value of this type may be, or hold as an item."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if issubclass(annotation, Later):
            yield annotation.section()
        elif issubclass(annotation, BaseModel):
            yield annotation
        return
    if get_origin(annotation) is not Literal:
        for arg in get_args(annotation):
            yield from models(arg)


def literals(annotation: object) -> tuple[object, ...]:
    """The values of every Literal in a type."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(value for arg in get_args(annotation) for value in literals(arg))


def below(candidates: Iterable[Model], name: str) -> tuple[Model, ...]:
    """The models that a field of these models may hold."""
    found = [models(fields(model)[name].annotation) for model in candidates if name in fields(model)]
    return tuple(dict.fromkeys(model for group in found for model in group))


def fitting(candidates: Iterable[Model], node: Node | None) -> tuple[Model, ...]:
    """Those members of a union that agree with what a node says of its type; all when it says nothing."""
    choices = tuple(candidates)
    if node is None or len(choices) < 2:
        return choices
    kept = tuple(model for model in choices if _agrees(model, node))
    return kept or choices


def _agrees(model: Model, node: Node) -> bool:
    for name, info in fields(model).items():
        values, child = literals(info.annotation), node.get(name)
        if len(values) == 1 and child is not None and child.value != values[0]:
            return False
    return True
