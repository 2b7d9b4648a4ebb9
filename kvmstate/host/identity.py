"""Which file a volume is: what tells it from another one of the same name, and no guest can write.

libvirt tells paths, and a path is reused. A file is told by its inode and by when it was made, as the host's own
kernel knows them; volumes that are not files, by the key that libvirt has of them, as their pool's type says. Of those
of which libvirt knows the name alone, the storage's own tool tells more, where it can be asked (see `own_ids`).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from html import unescape

from lxml import etree

from kvmstate.host.sight import Sight
from kvmstate.model.pool_types import PoolType
from kvmstate.xmlbind.document import document

# The identity of what cannot be told: it equals nothing
UNKNOWN = "?"
_TRIES = 3
# What the storage's own tool told of it, before what libvirt knows
_OWN = "id:"


def same(one: str, other: str) -> bool | None:
    """Whether two identities are of one object; None where that cannot be told. What was told of `one` by its name
    alone is told of the `other` by its name."""
    if UNKNOWN in (one, other):
        return None
    first, second = _parts(one), _parts(other)
    if first[1] != second[1]:
        return False
    if first[0] and not second[0]:
        return None
    return first[0] in ("", second[0])


def told(recorded: str, seen: str) -> str:
    """What is to be recorded of an object that was seen: no less than is."""
    if seen and (recorded in ("", UNKNOWN) or same(recorded, seen) is not None):
        return seen
    return recorded


def by_libvirt(identity: str) -> str:
    """The part of it that libvirt alone tells."""
    return _parts(identity)[1]


def _parts(identity: str) -> tuple[str, str]:
    own, _, rest = identity.partition(" ")
    return (own, rest) if identity.startswith(_OWN) else ("", identity)


def identity(
    sight: Sight, kind: PoolType | None, key: str, text: str, again: Callable[[], str], own: str | None = None
) -> str:
    """Tell the identity of the volume with this XML, in a pool of this type, which `again` rereads; UNKNOWN when it
    cannot be told. `own` is what the storage's own tool tells of it."""
    if kind is None or kind.identity == "key":
        return f"key:{key}"
    if kind.identity in ("path", "own"):
        named = f"key:{document(text).findtext('target/path') or key}"
        return f"{_OWN}{own} {named}" if own else named
    if kind.identity == "extent":
        return _extent(document(text), key)
    changed, path = _changed(text)
    if not changed:
        # libvirt's test driver has no files
        return f"key:{key}"
    for _ in range(_TRIES):
        before = sight.inode(path)
        for each in before:
            if each.changed == changed:
                return str(each)
        if not before:
            break
        # it is being written to: libvirt's look lies between two of ours when all three are at the same file
        changed, _ = _changed(again())
        after = {each.number: each.changed for each in sight.inode(path)}
        between = {str(each) for each in before if each.changed <= changed <= after.get(each.number, 0)}
        # so does a look at another file that is written to meanwhile, such as another host's of this path
        if len(between) == 1:
            return between.pop()
    return UNKNOWN


def _extent(root: etree._Element, key: str) -> str:
    """Where on which disk a partition is: numbers are given to others when theirs have gone."""
    places = [(device.get("path"), device.find("extent")) for device in root.iterfind("source/device")]
    told = [f"{path}:{each.get('start')}-{each.get('end')}" for path, each in places if each is not None]
    return f"extent:{','.join(told)}" if told else f"key:{root.findtext('target/path') or key}"


# As libvirt writes it; every plan asks of every volume, and to parse the XML takes longer than the look at the file
_TARGET = re.compile(r"<target>\s*<path>([^<]*)</path>.*?<ctime>(\d+(?:\.\d+)?)</ctime>.*?</target>", re.DOTALL)


def _changed(text: str) -> tuple[int, str]:
    """When the volume's file changed last, in ns since 1970, and its path; 0 where libvirt tells no time."""
    target = text[max(text.rfind("<target>"), 0) :]
    if found := _TARGET.match(target):
        path, told = unescape(found[1]), found[2]
    else:
        root = document(text)
        path, told = root.findtext("target/path") or "/", root.findtext("target/timestamps/ctime") or "0"
    return nanoseconds(told), posixpath.normpath(path)


def nanoseconds(told: str) -> int:
    """A time as libvirt writes it, in ns since 1970."""
    seconds, _, rest = told.partition(".")
    return int(seconds) * 10**9 + int((rest or "0").ljust(9, "0"))
