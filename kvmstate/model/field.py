"""A field of a manifest in one line: `autostart: bool | None = field(effect=Effect.LIVE, doc="…")`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, Unpack, cast

from pydantic import Field
from pydantic_core import PydanticUndefined

from kvmstate.model.effect import Cost


@dataclass(frozen=True)
class Ref:
    """Marks a field whose value names another resource of this kind (a libvirt word)."""

    kind: str


@dataclass(frozen=True)
class LocalFile:
    """Marks a field that names a file where kvmstate runs; relative to the manifest, absolute once it is loaded.

    Two checkouts of one project have it in different folders: files of one name are taken for the same.

    One that is read `into` another field is that field's text when it is loaded, and nothing knows of the file then.
    """

    into: str = ""


class Limits(TypedDict, total=False):
    """What a value must keep, in pydantic's words."""

    ge: int
    gt: int
    le: int
    multiple_of: int
    min_length: int
    max_length: int
    pattern: str


class Told(Limits, total=False):
    """What every field may say besides its default: `doc` is its description, `effect` what a change costs, `ref` the
    kind (libvirt's word) of the resource that it names; a `local` one names a file beside the manifest, which is read
    `into` another field."""

    required: bool
    doc: str
    examples: list[object]
    effect: Cost
    ref: str
    local: bool
    into: str


def field(default: object = None, *marks: object, **told: Unpack[Told]) -> Any:
    """Declare a field that is in no XML, with its default unless it is `required`; see `Told`."""
    doc, required = told.pop("doc", ""), told.pop("required", False)
    effect, ref, local = told.pop("effect", None), told.pop("ref", None), told.pop("local", False)
    into = told.pop("into", "")
    # the type may have a description of its own
    described = {"description": doc} if doc else {}
    holds: dict[str, Any] = {"default": PydanticUndefined if required else default}
    if not required and default in ([], {}):
        # pydantic copies a default that may change, for every model, ten times slower than making one
        holds = {"default_factory": _no_list if default == [] else _no_dict, "json_schema_extra": {"default": default}}
    info = cast("Any", Field)(**holds, **described, **told)
    own = (effect, Ref(ref) if ref else None, LocalFile(into) if local else None)
    info.metadata += [mark for mark in (*marks, *own) if mark is not None]
    return info


# not `list` and `dict` themselves: pydantic asks each factory for its signature, and Python has to parse theirs
def _no_list() -> list[object]:
    return []


def _no_dict() -> dict[str, object]:
    return {}
