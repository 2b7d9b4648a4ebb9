"""XML that no field models, kept beside the fields: comparing it with a document, and writing it into one.

A remainder is a part of a document. It holds where every element of it is found in the document, with at least its
attributes, text and children; elements of one tag may stand among others, in any order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any

from lxml import etree
from pydantic import AfterValidator, Field

from kvmstate.model.effect import Effect
from kvmstate.xmlbind.binding import Sensitive
from kvmstate.xmlbind.document import element
from kvmstate.xmlbind.overrides import holds_secret

# What tells siblings of one tag apart, the surest first.
_KEYS = ("target/@dev", "mac/@address", "target/@name", "@index", "@id", "@name", "@ip", "@address", "@domain")
# Stands for a password: that there is one, not which.
HIDDEN = "*****"


@lru_cache(maxsize=16)
def tag(text: str) -> str:
    """That of the document element. Raises XMLSyntaxError. What is validated is asked about several times."""
    return str(element(text).tag)


def _check(text: str) -> str:
    try:
        tag(text)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"this is not XML: {error.msg}") from None
    return text


_DESCRIBED = Field(
    description="XML that no field models, as `kvmstate import` writes it: the object is made from it, with the fields "
    "written in, and the host is compared with it. With a remainder, kvmstate adds no defaults of its own."
)
_Text = Annotated[str, AfterValidator(_check)]
_SHOWN = Sensitive(harmless=lambda text: not holds_secret("", text), document=True)
Remainder = Annotated[_Text | None, _DESCRIBED, _SHOWN, Effect.RESTART]
NeededRemainder = Annotated[_Text, _DESCRIBED, _SHOWN, Effect.RESTART]
Difference = tuple[tuple[str, ...], str | None, str | None]


def meaning(node: etree._Element) -> object:
    """Equal for documents that say the same: libvirt regards the order of elements among those of one tag only, and of
    some only among those of one type."""
    children = sorted(((_group(child), meaning(child)) for child in node), key=lambda pair: pair[0])
    tail = node.tail if node.tail and node.tail.strip() else ""
    return (str(node.tag), tuple(sorted(node.attrib.items())), text_of(node), tail, tuple(children))


def _group(node: etree._Element) -> tuple[str, int]:
    """PCI controllers stand in the order of their numbers, wherever that is; forwards of the guest's network have
    addresses of their own, unlike other channels."""
    tag = str(node.tag)
    if tag == "controller" and node.get("type") == "pci":
        index = node.get("index", "")
        return tag, int(index) if index.isdecimal() else -1
    return tag, int(tag == "channel" and node.find("target[@type='guestfwd']") is not None)


def contained(want: etree._Element, seen: etree._Element) -> bool:
    """Whether the remainder holds in the document. Comments count for nothing."""
    if len(want) and etree.tostring(want, with_tail=False) == etree.tostring(seen, with_tail=False):
        # most is to the letter what libvirt says
        return True
    if any(seen.get(name) != value for name, value in shown(want)) or text_of(want) not in ("", text_of(seen)):
        return False
    return all(None not in matched(wants, seens, contained) for wants, seens in groups(want, seen))


def differences(want: etree._Element, seen: etree._Element, at: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Where the remainder does not hold: the path, what it says there, and what the document does."""
    for name, value in shown(want):
        if seen.get(name) != value:
            yield (*at, f"@{name}"), value, seen.get(name)
    if text_of(want) not in ("", text_of(seen)):
        yield at, text_of(want), text_of(seen)
    for wants, seens in groups(want, seen):
        for child, found in zip(wants, _paired(wants, seens), strict=True):
            if found is None:
                yield (*at, label(child, len(wants) > 1)), brief(child), None
            elif not contained(child, found):
                yield from differences(child, found, (*at, label(child, len(wants) > 1)))


def merge(want: etree._Element, into: etree._Element) -> None:
    """Make the remainder hold in the document."""
    for name, value in shown(want):
        into.set(name, value)
    if text_of(want):
        into.text = want.text
    for wants, seens in list(groups(want, into)):
        for child, found in zip(wants, _paired(wants, seens), strict=True):
            if found is None:
                into.append(copy.deepcopy(child))
            else:
                merge(child, found)


def shown(node: etree._Element) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in node.attrib.items() if value != HIDDEN]


def text_of(node: etree._Element) -> str:
    """The text of a node as it is; white space alone is only there to be looked at."""
    return node.text if node.text and node.text.strip() else ""


def groups(want: etree._Element, seen: etree._Element) -> Iterator[tuple[list[etree._Element], list[etree._Element]]]:
    """Children by their tag: those of the remainder, and those of the document."""
    wants: dict[str, list[etree._Element]] = {}
    for child in want:
        if isinstance(child.tag, str):
            wants.setdefault(child.tag, []).append(child)
    for tag, children in wants.items():
        yield children, [child for child in seen if child.tag == tag]


def matched(
    wants: list[etree._Element], seens: list[etree._Element], fits: Callable[[Any, Any], bool]
) -> list[etree._Element | None]:
    """For each of `wants` one of `seens` of its own, as many as can be (bipartite matching by augmenting paths)."""
    holder: dict[int, int] = {}
    for want in range(len(wants)):
        _place(want, wants, seens, fits, holder, set())
    found: list[etree._Element | None] = [None] * len(wants)
    for number, want in holder.items():
        found[want] = seens[number]
    return found


def _place(
    want: int,
    wants: list[etree._Element],
    seens: list[etree._Element],
    fits: Callable[[Any, Any], bool],
    holder: dict[int, int],
    tried: set[int],
) -> bool:
    """No closure: one that calls itself is garbage that keeps two documents until a collector comes by."""
    # the one at its own place first, which it mostly is
    own = (want,) if want < len(seens) else ()
    for number in chain(own, (n for n in range(len(seens)) if n != want)):
        if number not in tried and fits(wants[want], seens[number]):
            tried.add(number)
            if number not in holder or _place(holder[number], wants, seens, fits, holder, tried):
                holder[number] = want
                return True
    return False


def _paired(wants: list[etree._Element], seens: list[etree._Element]) -> list[etree._Element | None]:
    """What each is in the document, although it may differ there: by content, else by key, or as the only one."""
    found = matched(wants, seens, contained)
    free = [seen for seen in seens if seen not in found]
    rest = iter(matched([want for want, at in zip(wants, found, strict=True) if at is None], free, alike))
    if len(wants) == len(seens) == 1:
        return list(seens)
    return [next(rest) if at is None else at for at in found]


def alike(want: etree._Element, seen: etree._Element) -> bool:
    places = [child.find("address") for child in (want, seen)]
    if None not in places and places[0].attrib == places[1].attrib:  # type: ignore[union-attr]
        # two devices are never at one address
        return True
    if want.get("type") and seen.get("type") and want.get("type") != seen.get("type"):
        return False
    keys = next(((key, value) for key in _KEYS if (value := _key(want, key))), None)
    return keys is not None and _key(seen, keys[0]) == keys[1]


def told_apart(one: etree._Element, other: etree._Element) -> bool:
    """Whether they are two things for sure: both have a key, or a type, and not the same."""
    pairs = ((_key(one, path), _key(other, path)) for path in ("@type", *_KEYS))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _key(node: etree._Element, path: str) -> str | None:
    tag, _, attribute = path.rpartition("@")
    target = node.find(tag.rstrip("/")) if tag else node
    return target.get(attribute) if target is not None else None


def label(node: etree._Element, several: bool) -> str:
    name = etree.QName(node).localname
    key = next((value for path in _KEYS if several and (value := _key(node, path))), None)
    return f"{name}[{key}]" if key else name


def brief(node: etree._Element) -> str:
    text = etree.tostring(node, encoding="unicode")
    return text if len(text) <= 100 else f"{text[:97]}…"
