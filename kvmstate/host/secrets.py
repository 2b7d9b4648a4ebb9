"""Secrets, which keep small values on the host itself: https://libvirt.org/formatsecret.html"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

import libvirt

from kvmstate.errors import HostError, NotFound
from kvmstate.host.faults import faults

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


def write(connection: Any, name: str, description: str, value: bytes) -> None:
    try:
        with faults():
            secret = connection.secretLookupByUsage(_USAGE, name)
    except NotFound:
        text = (
            f"<secret ephemeral='no' private='no'><description>{escape(description)}</description>"
            f"<usage type='ceph'><name>{escape(name)}</name></usage></secret>"
        )
        with faults():
            secret = connection.secretDefineXML(text, 0)
    with faults():
        secret.setValue(value, 0)


def delete(connection: Any, name: str) -> None:
    try:
        with faults():
            connection.secretLookupByUsage(_USAGE, name).undefine()
    except NotFound:
        pass
