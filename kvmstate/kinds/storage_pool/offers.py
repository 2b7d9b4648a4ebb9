"""What a host, or a server, has that could be a pool: as libvirt finds it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host, pools
from kvmstate.kinds.storage_pool.spec import MEMBERS
from kvmstate.model.resource import FOUND, Metadata, Resource, ResourceId
from kvmstate.xmlbind import document, parse

# Those that libvirt looks for: on a server, or on the host itself
SERVED = ("netfs", "iscsi", "iscsi-direct", "gluster")
LOCAL = ("logical",)
# That one libvirt does not look for
ZFS = "zfs"
# Where the volumes are to be seen
_TARGETS = {"netfs": "/srv/NAME", "iscsi": "/dev/disk/by-path"}
# By which an offer is known to be a pool already
_PLACES = ("host/@name", "dir/@path", "device/@path", "name/text()")


def offers(host: Host, type_: str, server: str) -> Iterator[Resource | HostError]:
    """Those of one type, or of all that can be looked for so; what is a pool of the host already is left out."""
    there = pools.all_pools(host.connection)
    known, names = {_place(document(pools.xml(pool))) for pool in there}, {pool.name for pool in there}
    for each in [type_] if type_ else _searched(host, server):
        try:
            found = _zpools(host) if each == ZFS else pools.sources(host.connection, each, server)
        except ConnectionFailed:
            raise
        except HostError as error:
            hint = error.hint or ("name the server: --server HOST" if each in SERVED and not server else "")
            yield HostError(f"pools of type {each}: {error.message}", hint)
            continue
        for source in found:
            pool = etree.Element("pool", type=each)
            pool.append(source)
            if _place(pool) not in known:
                made = _resource(pool, each, names)
                if made:
                    yield made


def _zpools(host: Host) -> list[etree._Element]:
    """libvirt does not look for them: this process does, where it is on the host."""
    if not (host.sight.near and shutil.which("zpool")):
        raise HostError("libvirt does not look for them", "where kvmstate runs on the host, `zpool list` is asked")
    done = subprocess.run(["zpool", "list", "-H", "-o", "name"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"zpool list: {done.stderr.strip()}", "may this user see them?")
    found = []
    for name in done.stdout.split():
        source = etree.Element("source")
        etree.SubElement(source, "name").text = name
        found.append(source)
    return found


def _searched(host: Host, server: str) -> Iterable[str]:
    types = SERVED if server else LOCAL
    return [each for each in types if not host.pool_types or each in host.pool_types]


def _place(pool: etree._Element) -> tuple[str, ...]:
    """What tells the sources of pools of one type apart."""
    source = pool.find("source")
    if source is None:
        return ()
    said: Any = [source.xpath(path) for path in _PLACES]
    if pool.get("type") == "logical":
        # its disks are the group's own affair
        said[2] = []
    return (str(pool.get("type")), *(str(found[0]).rstrip("/") if found else "" for found in said))


def _resource(pool: etree._Element, type_: str, names: set[str]) -> Resource | None:
    """A resource that a manifest can say, with a name that is free."""
    section: Any = MEMBERS.named(type_)
    if section is None:
        return None
    _, _, folder, device, name = _place(pool)
    name = _free(re.split(r"[/:]", name or folder or device)[-1] or type_, names)
    spec = parse(section, pool).model_dump(exclude_unset=True)
    spec["type"] = type_
    if type_ == "logical":
        spec["source"].pop("devices", None)
    if target := _TARGETS.get(type_):
        spec["target"] = {"path": target.replace("NAME", name)}
    try:
        made = section.model_validate(spec)
    except ValueError:
        # what has to be said besides, such as an initiator, nobody knows here
        made = section.model_validate({**spec, "remainder": f"<pool type='{type_}'/>"})
    return Resource(ResourceId("pool", name), made, Metadata(name=name), origin=FOUND)


def _free(wanted: str, names: set[str]) -> str:
    wanted = re.sub(r"[^A-Za-z0-9_.-]+", "-", wanted).strip("-.") or "pool"
    number, name = 1, wanted
    while name in names:
        number += 1
        name = f"{wanted}-{number}"
    names.add(name)
    return name
