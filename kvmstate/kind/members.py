"""Models of a spec that are loaded when one is met: building one takes a millisecond, and few manifests have many."""

import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

if TYPE_CHECKING:
    from kvmstate.kind.spec import Declaration


class Members:
    """The models of one kind, told apart by the text of the field `by`: a class of a module of `package` for each, or
    a class that is loaded already."""

    def __init__(self, by: str, package: str, places: Mapping[str, "str | type[Declaration]"]) -> None:
        self.by, self._package, self._places = by, package, places

    def named(self, text: object) -> "type[Declaration] | None":
        """The one that has this text in the field; None when there is none."""
        place = self._places.get(text) if isinstance(text, str) else None
        if not isinstance(place, str):
            return place
        module, _, name = place.partition(".")
        loaded: type[Declaration] = getattr(importlib.import_module(f"{self._package}.{module}"), name)
        return loaded

    def __iter__(self) -> "Iterator[type[Declaration]]":
        return iter(dict.fromkeys(filter(None, map(self.named, self._places))))

    @cached_property
    def union(self) -> Any:
        """All of them, as pydantic's annotation."""
        return Annotated[Union[tuple(self)], Field(discriminator=self.by)]  # noqa: UP007
