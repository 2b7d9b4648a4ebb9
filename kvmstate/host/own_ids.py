"""What the storage's own tools on the host tell of rbd images and zvols, and libvirt does not: what tells one from
another of its name (its id, its guid), and which image it is a layer over."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import pools, rbd
from kvmstate.host.objects import Pool
from kvmstate.host.on_host import runner
from kvmstate.xmlbind.document import document

if TYPE_CHECKING:
    from kvmstate.host.connection import Host


class Own(NamedTuple):
    """Of one volume. `below` is the image of the same pool that it is a layer over."""

    id: str
    below: str = ""


def own_ids(host: Host, pool: Pool, names: Collection[str] | None = None) -> dict[str, Own]:
    """Tell of all volumes or of these, by their names, as far as it can be told: one process, whatever their number."""
    # a tool that is missing, a server that does not answer, a pool that has gone, another version's words
    with suppress(HostError, ValueError, KeyError, TypeError, AttributeError):
        root = document(pools.xml(pool))
        told = ASKED[root.get("type", "")](host, root, names or ())
        return {name: own for name, own in told if own.id and (names is None or name in names)}
    return {}


def _zfs(host: Host, root: etree._Element, names: Collection[str]) -> Iterator[tuple[str, Own]]:
    place = root.findtext("source/name") or ""
    which = [f"{place}/{name}" for name in names] if len(names) == 1 else ["-r", place]
    words = ["zfs", "get", "-H", "-p", "-o", "name,value", "-tvolume", "guid"]
    for line in run(*words, *which).splitlines() if (run := runner(host)) else ():
        name, _, guid = line.partition("\t")
        yield name.removeprefix(f"{place}/"), Own(guid)


def _images(host: Host, root: etree._Element, names: Collection[str]) -> Iterator[tuple[str, Own]]:
    place = root.findtext("source/name") or ""
    if (run := rbd.command(host, root)) is None:
        return
    if len(names) == 1:
        said = [json.loads(run("info", "--pool", place, "--image", *names, *rbd.JSON))]
    else:
        said = json.loads(run("ls", "--long", place, *rbd.JSON))
    for each in said:
        if "snapshot" not in each:
            parent = each.get("parent") or {}
            below = str(parent.get("image", "")) if parent.get("pool") == place else ""
            # as each of the two calls it
            yield str(each.get("image") or each["name"]), Own(str(each["id"]), below)


# By the types of pools that have one
ASKED = {"rbd": _images, "zfs": _zfs}
