"""A field of a section in one line: `mtu: int | None = xml("mtu/@size", ge=68, le=65535, doc="In bytes.")`."""

from collections.abc import Callable
from typing import Any, Unpack, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from kvmstate.model.field import Told, field
from kvmstate.xmlbind.alike import Alike
from kvmstate.xmlbind.binding import Keyed, OneOrMore, Only, Sensitive, Xml
from kvmstate.xmlbind.codecs import Element, Scalar


class Place(Told, total=False):
    """What `Xml` says of a field, besides what every field may say."""

    same: Callable[[Any, Any], bool]
    shared: bool
    lasting: bool
    passing: bool
    recorded: bool
    remembered: bool
    open: bool
    whole: bool
    unique: bool
    throughout: bool
    by_parts: bool
    in_parts: bool
    given: tuple[str, ...]
    sensitive: Sensitive


_PLACE = frozenset(Xml.__dataclass_fields__)


def xml(path: str, codec: Scalar | Element | None = None, *, default: object = None, **told: Unpack[Place]) -> Any:
    """Declare a field that lives at `path` in its section's element; see `Xml` and `Told`.

    Unless it is `required`, it may be left out, and is its default (None) then.
    """
    return _declared(path, codec, default, told)


def xml_list(
    path: str, codec: Scalar | Element | None = None, *, key: str = "", one_or_more: bool = False, **told: Unpack[Place]
) -> Any:
    """Declare a list of the elements at `path`, empty by default. Its items are told apart by the field `key` of
    theirs, and by their order without one. Of `one_or_more` the only item may be written without a list."""
    marks = [Keyed(key)] if key else [OneOrMore(), _AS_WRITTEN] if one_or_more else []
    return _declared(path, codec, [], told, *marks)


def _listed(value: Any, validate: Any) -> Any:
    if value is None or (isinstance(value, list) and not isinstance(value, Only)):
        return validate(value or [])
    return Only(validate(value if isinstance(value, list) else [value]))


def _alone(value: Any, dump: Any) -> Any:
    items = dump(value)
    return items[0] if isinstance(items, list) and len(items) == 1 else items


class _AsWritten:
    """What pydantic's WrapValidator and WrapSerializer do, which look at these functions again for each field."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        made = core_schema.no_info_wrap_validator_function(_listed, handler(source))
        made["serialization"] = core_schema.wrap_serializer_function_ser_schema(_alone)
        return made


_AS_WRITTEN = _AsWritten()


def _declared(path: str, codec: Scalar | Element | None, default: object, told: Place, *marks: object) -> object:
    said: dict[str, Any] = {**told}
    place = {name: said.pop(name) for name in _PLACE & said.keys()}
    secret = said.pop("sensitive", None)
    return field(default, Xml(path, codec, **place), *marks, secret, Alike(said), **cast("Told", said))
