"""Secrets as hashes: what is recorded or saved tells whether a secret is the same one, and not which.

A hash stands where the secret stood: as a field's value, in a URL, at a place in XML. It needs the host's key, so that
nobody who has it finds a short password by trying. Whoever has the key and the secret knows the hash again; no manifest
holds one, so that sealing twice is sealing once.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from lxml import etree
from pydantic import BaseModel

from kvmstate.model.change import FieldChange
from kvmstate.model.uri import replaced
from kvmstate.xmlbind.binding import Binding, Section, bindings, owned
from kvmstate.xmlbind.overrides import holds_secret, is_secret
from kvmstate.xmlbind.remainder import HIDDEN

PREFIX = "hmac-sha256-"
HASH = re.compile(PREFIX + "[0-9a-f]{32}")
# What stands in place of a secret
Hide = Callable[[str], str]
# White space between elements counts: what has no secrets is to stay as it is
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)


class Seal:
    """Makes hashes with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, secret: str) -> str:
        if not secret or HASH.fullmatch(secret):
            return secret
        from hmac import digest  # few runs have secrets

        return PREFIX + digest(self._key, secret.encode(errors="surrogatepass"), "sha256").hex()[:32]


def is_sealed(value: object) -> bool:
    """Whether a hash stands anywhere in a value of JSON."""
    if isinstance(value, dict):
        return any(map(is_sealed, value.values()))
    if isinstance(value, list | tuple):
        return any(map(is_sealed, value))
    return isinstance(value, str) and PREFIX in value and HASH.search(value) is not None


def sealed(value: object, hide: Hide, sections: tuple[type[Section], ...] = ()) -> Any:
    """A value of JSON, as the dump of one of these `sections` is, with its secrets hidden."""
    if isinstance(value, dict):
        named = _by_alias(sections)
        return {name: _member(name, each, hide, named.get(name, ())) for name, each in value.items()}
    if isinstance(value, list):
        return [sealed(each, hide, sections) for each in value]
    return _hidden_in_urls(value, hide) if isinstance(value, str) else value


def _member(name: str, value: object, hide: Hide, declared: tuple[Binding, ...]) -> object:
    if isinstance(value, str):
        marked = [b.sensitive for b in declared if b.hides(value)]
        if any(mark and mark.document for mark in marked):
            return sealed_xml(value, hide)
        return hide(value) if marked or (not declared and is_secret(name)) else _hidden_in_urls(value, hide)
    if isinstance(value, dict | list) and any(b.hides(value) for b in declared):
        return _hidden_whole(value, hide)
    return sealed(value, hide, tuple(section for b in declared for section in b.sections))


def _hidden_whole(value: object, hide: Hide) -> object:
    """Every text in it is a secret."""
    if isinstance(value, dict):
        return {name: _hidden_whole(each, hide) for name, each in value.items()}
    if isinstance(value, list):
        return [_hidden_whole(each, hide) for each in value]
    return hide(value) if isinstance(value, str) else value


@cache
def _by_alias(sections: tuple[type[Section], ...]) -> Mapping[str, tuple[Binding, ...]]:
    found: dict[str, tuple[Binding, ...]] = {}
    for b in (b for section in sections for b in bindings(section)):
        found[b.alias] = (*found.get(b.alias, ()), b)
    return found


def _hidden_in_urls(text: str, hide: Hide) -> str:
    return replaced(text, hide) if "://" in text else text


# As it stands in an attribute
_QUOTED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;", "\n": "&#10;", "\t": "&#9;", "\r": "&#13;"}
)
_MAY_HOLD = re.compile(r"://[^\s'\"<>]*[@?#]")


def sealed_xml(text: str, hide: Hide) -> str:
    """A document with what may be a secret in it hidden, by its place; as it is where there is none."""
    if not (holds_secret("", text) or _MAY_HOLD.search(text)):
        return text
    try:
        root = etree.fromstring(text.encode(), _PARSER)
    except etree.XMLSyntaxError:
        return hide(text)
    hidden: list[str] = []

    def told(secret: str) -> str:
        if secret == HIDDEN or not (found := hide(secret)):
            return secret
        hidden.append(found)
        return found

    _seal_element(root, "", told)
    return etree.tostring(root.getroottree(), encoding="unicode") if hidden else text


def _seal_element(node: etree._Element, at: str, hide: Hide) -> None:
    for name, value in node.attrib.items():
        secret = is_secret(f"{at}/@{etree.QName(name).localname}")
        node.set(name, hide(str(value)) if secret else _hidden_in_urls(str(value), hide))
    if node.text and node.text.strip():
        node.text = hide(node.text.strip()) if is_secret(at) else _hidden_in_urls(node.text, hide)
    for child in node.iterchildren(etree.Element):
        _seal_element(child, f"{at}/{etree.QName(child).localname}", hide)


def hides(field: FieldChange) -> bool:
    """Whether the values of a difference are not to be shown."""
    return field.sensitive or (
        field.path[0] in ("xml", "remainder") and holds_secret(str(field.path[-1]), field.old, field.new)
    )


def sealed_fields(fields: Iterable[FieldChange], hide: Hide) -> list[tuple[object, ...]]:
    """Differences as JSON, without secrets."""
    return [(f.path, *(_plain(v, hide, hides(f)) for v in (f.old, f.new)), str(f.effect)) for f in fields]


def _plain(value: object, hide: Hide, secret: bool = False) -> object:
    if isinstance(value, Section):
        dump = value.model_dump(mode="json", exclude_unset=True, warnings=False)
        return sealed(dump, hide, (type(value),))
    if isinstance(value, list):
        return [_plain(each, hide, secret) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each, hide, secret or is_secret(name)) for name, each in value.items()}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True, warnings=False)
    if isinstance(value, str):
        return hide(value) if secret else _hidden_in_urls(value, hide)
    return value


@cache
def _hiding(section: type[Section]) -> tuple[Binding, ...]:
    """The fields that may be secrets, or hold some: few of all."""
    return tuple(b for b in bindings(section) if b.sensitive or isinstance(b.default, dict) or b.below(_hiding))


def has_secrets(model: type[BaseModel]) -> bool:
    """Whether a field of its own may be a secret."""
    return issubclass(model, Section) and any(b.sensitive for b in bindings(model))


def holds_secrets(spec: Section) -> bool:
    """Whether a field of it is a secret, or a path; URLs are not looked into."""
    for b in owned(spec, _hiding):
        if not (value := getattr(spec, b.name)):
            continue
        if isinstance(value, dict):
            if any(map(is_secret, value)):
                return True
        elif b.sensitive:
            if b.hides(value):
                return True
        elif any(holds_secrets(each) for each in (value if isinstance(value, list) else [value])):
            return True
    return False


@cache
def _asking(section: type[Section]) -> tuple[Binding, ...]:
    """The fields that hold what libvirt shows only to who asks for secrets: none, of most kinds."""
    return tuple(b for b in bindings(section) if b.below(lambda each: _asked(each) or _asking(each)))


@cache
def _asked(section: type[Section]) -> bool:
    return any(b.sensitive and b.sensitive.asked for b in bindings(section))


def asks(spec: Section) -> bool:
    """Whether something in it has to be asked for, as what libvirt shows to everybody does not have it."""
    if _asked(type(spec)):
        return True
    for b in owned(spec, _asking):
        value = getattr(spec, b.name)
        if value and any(asks(e) for e in (value if isinstance(value, list) else [value]) if isinstance(e, Section)):
            return True
    return False


def secrets(value: object, sections: tuple[type[Section], ...] = ()) -> set[str]:
    """Those in a value of JSON; see `sealed`."""
    found = _Found()
    sealed(value, found, sections)
    return found


def secrets_in_xml(text: str) -> set[str]:
    found = _Found()
    sealed_xml(text, found)
    return found


def by_hash(value: object, seal: Seal, sections: tuple[type[Section], ...] = ()) -> dict[str, str]:
    """The secrets in a value of JSON, and the texts that they are in, by what stands for them."""
    hidden = sealed(value, seal, sections)
    return {seal(secret): secret for secret in secrets(value, sections)} | dict(_pairs(hidden, value))


def _pairs(hidden: Any, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name in value:
            yield from _pairs(hidden[name], value[name])
    elif isinstance(value, list):
        for one, other in zip(hidden, value, strict=True):
            yield from _pairs(one, other)
    elif hidden != value:
        yield hidden, value


class _Found(set[str]):
    """Hides nothing, and keeps what would be hidden, but for hashes."""

    def __call__(self, secret: str) -> str:
        if secret and not HASH.fullmatch(secret):
            self.add(secret)
        return secret


def opened(value: object, known: Mapping[str, str], sections: tuple[type[Section], ...] = ()) -> Any:
    """A value of JSON with those secrets and texts in place that are `known` by what stands for them."""
    if isinstance(value, dict):
        named = _by_alias(sections)
        return {name: _opened_member(each, known, named.get(name, ())) for name, each in value.items()}
    if isinstance(value, list):
        return [opened(each, known, sections) for each in value]
    if isinstance(value, str) and PREFIX in value:
        return known.get(value) or HASH.sub(lambda match: known.get(match[0], match[0]), value)
    return value


def _opened_member(value: object, known: Mapping[str, str], declared: tuple[Binding, ...]) -> object:
    if isinstance(value, str) and value not in known and any(b.sensitive and b.sensitive.document for b in declared):
        return opened(value, {name: secret.translate(_QUOTED) for name, secret in known.items()})
    return opened(value, known, tuple(section for b in declared for section in b.sections))
