"""Secrets that people manage: https://libvirt.org/html/libvirt-libvirt-secret.html

Those that kvmstate keeps its record, its lock and its key in (see `kvmstate.host.secrets`) are none of these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

import libvirt
from lxml import etree

from kvmstate.errors import NotFound
from kvmstate.host.faults import described, faults
from kvmstate.host.objects import Secret
from kvmstate.host.permit import Configuration, Permit
from kvmstate.host.secrets import OWN, supported
from kvmstate.xmlbind.document import document


def all_secrets(connection: Any) -> list[Secret]:
    """In the order of their UUIDs: of two of one name, for different usages, the first is always the same one."""
    if not supported(connection):
        return []
    with faults():
        found = [Secret(raw) for raw in connection.listAllSecrets(0)]
    return sorted((each for each in found if not each.name.startswith(OWN)), key=lambda each: each.uuid)


def named(connection: Any, names: Collection[str]) -> list[Secret]:
    """Those of these names that exist."""
    found: dict[str, Secret] = {}
    for each in all_secrets(connection):
        if each.name in names:
            found.setdefault(each.name, each)
    return [*found.values()]


def find(connection: Any, name: str) -> Secret:
    """Find a secret by its name. Raises NotFound."""
    for each in named(connection, {name}):
        return each
    raise NotFound(f"there is no secret {name}")


def name_of(connection: Any, uuid: str) -> str:
    """The name of the secret of this UUID; empty where there is none."""
    with suppress(NotFound), faults():
        return Secret(connection.secretLookupByUUIDString(uuid)).name
    return ""


def xml(each: Secret) -> str:
    return described(each.raw, 0)


def value(each: Secret) -> bytes | None:
    """None of a private one, which libvirt tells nobody, and where there is none yet."""
    with faults():
        try:
            return bytes(each.raw.value(0))
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_SECRET, libvirt.VIR_ERR_NO_SECRET):
                raise
    return None


def configuration(each: Secret) -> Configuration[Secret]:
    """What is defined, to be edited for `redefine`."""
    return Configuration(each, xml(each), xml)


def redefine(before: Configuration[Secret], text: str) -> Secret:
    """Define a secret otherwise; its value stays. Raises Changed when it is no longer what `before` says, of which
    `text` was made."""
    before.check()
    return define(before.thing.connection, text)


def define(connection: Any, text: str) -> Secret:
    """Define a secret that is not there: libvirt refuses the usage of one that is, with another UUID."""
    with faults():
        return Secret(connection.secretDefineXML(text, 0))


def set_value(each: Secret, value: bytes) -> None:
    with faults():
        each.raw.setValue(value, 0)


def undefine(each: Secret, permit: Permit) -> None:
    permit.check(each)
    with faults():
        each.raw.undefine()


def uses(root: etree._Element) -> Iterator[str]:
    """The UUIDs, and the IDs of usages, of the secrets that a machine's or a pool's XML names."""
    for each in root.iter("secret"):
        yield from filter(None, (each.get("uuid", "").lower(), each.get("usage")))
    for each in root.iter("encryption"):
        if uuid := each.get("secret"):
            yield uuid.lower()


def names_of(each: Secret) -> set[str]:
    """How XML names it."""
    usage = next((said.text or "" for said in document(xml(each)).iterfind("usage/*")), "")
    return {each.uuid.lower(), usage} - {""}
