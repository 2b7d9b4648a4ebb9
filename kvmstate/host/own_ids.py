"""What tells an rbd image or a zvol from another one of its name: its id, and its guid. libvirt tells neither, so the
storage's own tools on the host are asked, in the way that libvirt would ask."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import libvirt
from lxml import etree

from kvmstate.errors import HostError, NotFound
from kvmstate.host import managed_secrets, pools
from kvmstate.host.faults import faults
from kvmstate.host.objects import Pool, Secret
from kvmstate.host.on_host import Run, runner
from kvmstate.xmlbind.document import document

if TYPE_CHECKING:
    from kvmstate.host.connection import Host

# Ceph's own limit is five minutes
_MOUNT_SECONDS = 10
# A key is on no command line, which everybody may read
_WITH_KEY = 'read -r key && CEPH_ARGS="--key=$key" exec "$@"'


def own_ids(host: Host, pool: Pool, names: Collection[str]) -> dict[str, str]:
    """By their names, of those of which it can be told: one process, whatever their number."""
    # a tool that is missing, a server that does not answer, a pool that has gone, another version's words
    with suppress(HostError, ValueError, KeyError, TypeError):
        root = document(pools.xml(pool))
        if run := runner(host):
            told = ASKED[root.get("type", "")](host, run, root, names)
            return {name: id_ for name, id_ in told if name in names and id_}
    return {}


def _zfs(host: Host, run: Run, root: etree._Element, names: Collection[str]) -> Iterator[tuple[str, str]]:
    place = root.findtext("source/name") or ""
    which = [f"{place}/{name}" for name in names] if len(names) == 1 else ["-r", place]
    for line in run("zfs", "get", "-H", "-p", "-o", "name,value", "-t", "volume", "guid", *which).splitlines():
        name, _, guid = line.partition("\t")
        yield name.removeprefix(f"{place}/"), guid


def _rbd(host: Host, run: Run, root: etree._Element, names: Collection[str]) -> Iterator[tuple[str, str]]:
    place = root.findtext("source/name") or ""
    # libvirt reads no configuration of Ceph's either
    words = ["rbd", "--conf", "/dev/null", "--client-mount-timeout", str(_MOUNT_SECONDS), "--format", "json"]
    if monitors := ",".join(map(_monitor, root.iterfind("source/host"))):
        words += ["--mon-host", monitors]
    key = ""
    if (auth := root.find("source/auth")) is not None:
        words += ["--id", auth.get("username", "")]
        key = _key(host, auth.find("secret"))
    else:
        words += ["--auth-client-required", "none"]
    words += ["info", "--pool", place, "--image", *names] if len(names) == 1 else ["ls", "--long", place]
    # without it, Ceph looks for the user's keyring
    said = json.loads(run("sh", "-c", _WITH_KEY, "sh", *words, given=f"{key}\n") if key else run(*words))
    if len(names) == 1:
        yield str(said["name"]), str(said["id"])
        return
    yield from ((str(each["image"]), str(each["id"])) for each in said if "snapshot" not in each)


def _monitor(host: etree._Element) -> str:
    name, port = host.get("name", ""), host.get("port", "")
    shown = f"[{name}]" if ":" in name and not name.startswith("[") else name
    return f"{shown}:{port}" if port else shown


def _key(host: Host, said: etree._Element | None) -> str:
    """As text, as Ceph writes keys; empty where libvirt tells it nobody."""
    if said is None:
        return ""
    from base64 import b64encode

    connection: Any = host.connection
    with suppress(NotFound), faults():
        if uuid := said.get("uuid"):
            secret = Secret(connection.secretLookupByUUIDString(uuid))
        else:
            secret = Secret(connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, said.get("usage", "")))
        return b64encode(managed_secrets.value(secret) or b"").decode()
    return ""


# By the types of pools that have one
ASKED = {"rbd": _rbd, "zfs": _zfs}
