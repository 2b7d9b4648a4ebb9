"""Which file a volume is: what tells it from another one of the same name, and no guest can write.

libvirt tells paths, and a path is reused. A file is told by its inode and by when it was made, as the host's own
kernel knows them; volumes that are not files, by the key that libvirt has of them, as their pool's type says.
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


def identity(sight: Sight, kind: PoolType | None, key: str, text: str, again: Callable[[], str]) -> str:
    """Tell the identity of the volume with this XML, in a pool of this type, which `again` rereads; UNKNOWN when it
    cannot be told."""
    if kind is None or kind.identity == "key":
        return f"key:{key}"
    if kind.identity == "path":
        return f"key:{document(text).findtext('target/path') or key}"
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
