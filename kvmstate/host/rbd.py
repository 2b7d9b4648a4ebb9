"""rbd(8), asked on the host as libvirt asks Ceph's library: for what libvirt does not tell or do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import libvirt
from lxml import etree

from kvmstate.errors import HostError, NotFound
from kvmstate.host import managed_secrets, pools, volumes
from kvmstate.host.faults import faults
from kvmstate.host.objects import Pool, Secret, Volume
from kvmstate.host.on_host import runner
from kvmstate.host.permit import Permit
from kvmstate.xmlbind.document import document

if TYPE_CHECKING:
    from kvmstate.host.connection import Host

Rbd = Callable[..., str]
# Ceph's own limit is five minutes
_MOUNT_SECONDS = 10
# A key is on no command line, which everybody may read
_WITH_KEY = 'read -r key && CEPH_ARGS="--key=$key" exec "$@"'
# The snapshot that libvirt makes of an image, for a layer to lie on
_LIBVIRTS = re.compile(r"libvirt--?[0-9]+")
JSON = ("--format", "json")


def command(host: Host, root: etree._Element) -> Rbd | None:
    """Says what rbd says, of the cluster of the pool with this XML; None where nobody but libvirt leads to the host."""
    if (run := runner(host)) is None:
        return None
    # libvirt reads no configuration of Ceph's either
    words = ["rbd", "--conf", "/dev/null", "--client-mount-timeout", str(_MOUNT_SECONDS)]
    if monitors := ",".join(map(_monitor, root.iterfind("source/host"))):
        words += ["--mon-host", monitors]
    if (auth := root.find("source/auth")) is None:
        return lambda *said: run(*words, "--auth-client-required", "none", *said)
    words += ["--id", auth.get("username", "")]
    if key := _key(host, auth.find("secret")):
        return lambda *said: run("sh", "-c", _WITH_KEY, "sh", *words, *said, given=f"{key}\n")
    # Ceph looks for the user's keyring
    return lambda *said: run(*words, *said)


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


def delete(host: Host, pool: Pool, volume: Volume, permit: Permit) -> None:
    """Delete an image, and first the snapshots of it that libvirt has made for layers which have gone. Raises HostError
    for one with other snapshots, or with layers: Ceph keeps what an image lies on."""
    permit.check(volume)
    root = document(pools.xml(pool))
    if (rbd := command(host, root)) and (found := _snapshots(rbd, root, volume)):
        if others := [each for each in found if not _LIBVIRTS.fullmatch(each)]:
            raise HostError(
                f"volume {volume.name} has snapshot {others[0]}, which is not kvmstate's",
                "delete it first, if nobody needs it: `rbd snap rm`",
            )
        for each in found:
            at = f"{root.findtext('source/name')}/{volume.name}@{each}"
            # of one that was made and not protected yet there is nothing to unprotect
            with suppress(HostError):
                rbd("snap", "unprotect", at)
            rbd("snap", "rm", "--no-progress", at)
    volumes.delete(volume, permit)


def _snapshots(rbd: Rbd, root: etree._Element, volume: Volume) -> list[str]:
    # without the tool it is libvirt that refuses to delete an image with snapshots
    with suppress(HostError, ValueError):
        said = rbd("snap", "ls", "--pool", root.findtext("source/name") or "", "--image", volume.name, *JSON)
        return [str(each["name"]) for each in json.loads(said)]
    return []
