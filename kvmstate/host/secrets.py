"""Secrets, which keep small values on the host itself: https://libvirt.org/formatsecret.html"""

from __future__ import annotations

from html import escape
from typing import Any
from uuid import uuid4

import libvirt

from kvmstate.errors import HostError, NotFound
from kvmstate.host.faults import faults
from kvmstate.xmlbind import document

# How the usage names of kvmstate's own begin
OWN = "kvmstate:"
# libvirt's limit for one value (VIR_SECRET_VALUE_MAX, remote_protocol.x)
VALUE_MAX = 65_536
# A usage type whose name is free text
_USAGE = libvirt.VIR_SECRET_USAGE_TYPE_CEPH


def supported(connection: Any) -> bool:
    """Whether this driver keeps secrets (the test driver does not)."""
    try:
        with faults():
            connection.numOfSecrets()
    except HostError as error:
        if error.code == libvirt.VIR_ERR_NO_SUPPORT:
            return False
        raise
    return True


def names(connection: Any, prefix: str) -> list[str]:
    """The usage names that begin so."""
    with faults():
        return [
            str(secret.usageID())
            for secret in connection.listAllSecrets(0)
            if secret.usageType() == _USAGE and secret.usageID().startswith(prefix)
        ]


def read_all(connection: Any, prefix: str) -> dict[str, bytes]:
    """The values of all secrets whose usage name begins so."""
    found = {}
    with faults():
        for secret in connection.listAllSecrets(0):
            if secret.usageType() == _USAGE and secret.usageID().startswith(prefix):
                try:
                    found[secret.usageID()] = bytes(secret.value(0))
                except libvirt.libvirtError as error:
                    # defined, and its maker was killed before it set a value
                    if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
                        raise
    return found


def read(connection: Any, name: str) -> bytes | None:
    """The value of the secret of this usage name; None when there is none, or none yet."""
    try:
        with faults():
            return bytes(connection.secretLookupByUsage(_USAGE, name).value(0))
    except NotFound:
        return None


def define_new(connection: Any, name: str, description: str) -> str:
    """The UUID of a new secret, without a value; empty when there is one of this name. libvirt decides, see `claim`."""
    uuid = str(uuid4())
    return uuid if claim(connection, name, uuid, description) else ""


def set_value(connection: Any, uuid: str, value: bytes) -> None:
    """Set the value of a secret. Raises NotFound."""
    with faults():
        connection.secretLookupByUUIDString(uuid).setValue(value, 0)


def write(connection: Any, name: str, description: str, value: bytes) -> None:
    try:
        with faults():
            secret = connection.secretLookupByUsage(_USAGE, name)
    except NotFound:
        secret = _define(connection, name, description)
    with faults():
        secret.setValue(value, 0)


def _define(connection: Any, name: str, description: str, uuid: str = "") -> Any:
    identity = f"<uuid>{uuid}</uuid>" if uuid else ""
    with faults():
        return connection.secretDefineXML(
            f"<secret ephemeral='no' private='no'>{identity}<description>{escape(description)}</description>"
            f"<usage type='ceph'><name>{escape(name)}</name></usage></secret>",
            0,
        )


def claim(connection: Any, name: str, uuid: str, description: str) -> bool:
    """Define a secret without a value, or describe it again; False when another UUID holds the name.

    libvirt decides in one go, whoever else asks at the same time: it refuses a second UUID for one usage name. It has
    no code for that, and its words are in its machine's language: who holds the name is asked.
    """
    for last in (False, False, True):
        try:
            _define(connection, name, description, uuid)
        except HostError:
            found = holder(connection, name)
            if found and found[0] != uuid:
                return False
            # given up in this very moment, perhaps
            if last or found:
                raise
        else:
            return True
    raise AssertionError


def holder(connection: Any, name: str) -> tuple[str, str] | None:
    """The UUID and the description of the secret of this name."""
    try:
        with faults():
            secret = connection.secretLookupByUsage(_USAGE, name)
            return str(secret.UUIDString()), document(secret.XMLDesc(0)).findtext("description") or ""
    except NotFound:
        return None


def release(connection: Any, uuid: str) -> None:
    """Undefine this very secret; one of another UUID that has its name by now stays."""
    try:
        with faults():
            connection.secretLookupByUUIDString(uuid).undefine()
    except NotFound:
        pass


def delete(connection: Any, name: str) -> None:
    try:
        with faults():
            connection.secretLookupByUsage(_USAGE, name).undefine()
    except NotFound:
        pass
