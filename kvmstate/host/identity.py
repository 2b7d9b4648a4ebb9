"""Which file a volume is: what tells it from another one of the same name, and no guest can write.

libvirt tells paths, and a path is reused. A file is told by its inode and by when it was made, as the host's own
kernel knows them; volumes that are no files, by the key that libvirt gives them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from kvmstate.host.files import FOLDERS
from kvmstate.host.sight import Sight
from kvmstate.xmlbind.document import document

# The identity of what cannot be told: it equals nothing
UNKNOWN = "?"
_TRIES = 3


def identity(sight: Sight, pool_type: str, key: str, text: str, again: Callable[[], str]) -> str:
    """Of the volume with this XML, which `again` reads anew; UNKNOWN when it cannot be told."""
    if pool_type not in FOLDERS:
        return f"key:{key}"
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
        after = sight.inode(path)
        for each in before:
            for other in after:
                if each.number == other.number and each.changed <= changed <= other.changed:
                    return str(each)
    return UNKNOWN


def _changed(text: str) -> tuple[int, str]:
    root = document(text)
    seconds, _, rest = (root.findtext("target/timestamps/ctime") or "0").partition(".")
    path = posixpath.normpath(root.findtext("target/path") or "/")
    return int(seconds) * 10**9 + int((rest or "0").ljust(9, "0")), path
