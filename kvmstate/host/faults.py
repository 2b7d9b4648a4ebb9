"""libvirt's errors, as sentences with a likely cause and a mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from kvmstate.errors import HostError, NotFound

_NOT_FOUND = {
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_NO_SECRET,
    libvirt.VIR_ERR_NO_DOMAIN_METADATA,
}

# What users meet, by a part of libvirt's message.
_HINTS = (
    ("Permission denied", "QEMU's user cannot read this file: check its owner, the modes of the folders above it, and "
     "AppArmor's or SELinux' log; images belong in a storage pool"),
    ("network is not active", "start it: `virsh net-start NAME`, or declare it as a Network with active: true"),
    ("is not active", "start it first, or let its manifest say active: true"),
    ("Failed to get \"write\" lock", "another virtual machine has this image open"),
    ("Network is already in use by interface", "this address range is taken on the host: choose another subnet"),
    ("already in use", "another virtual machine or network holds it"),
    ("already exists", "something that kvmstate does not own has this name; `kvmstate adopt` takes ownership of it"),
    ("No more available PCI slots", "the machine has no free PCI slot for a hot-plugged device until it is restarted"),
    ("No space left on device", "the storage is full: free some space, then apply again"),
    ("Cannot check dnsmasq binary", "install dnsmasq (Debian: dnsmasq-base)"),
    ("Unable to find any firmware", "install UEFI firmware (Debian: ovmf, Fedora: edk2-ovmf)"),
)  # fmt: skip


def translate(error: libvirt.libvirtError) -> HostError:
    message = (error.get_error_message() or str(error)).strip()
    hint = next((hint for part, hint in _HINTS if part.lower() in message.lower()), "")
    code = error.get_error_code() or 0
    return (NotFound if code in _NOT_FOUND else HostError)(message, hint, code)


@contextmanager
def faults() -> Iterator[None]:
    """Raises HostError, or NotFound, for what libvirt raises inside."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise translate(error) from error


def described(thing: Any, inactive: int) -> str:
    """The XML of a libvirt object; `inactive` is the flag for its configuration, 0 for what runs."""
    with faults():
        try:
            return str(thing.XMLDesc(inactive))
        except libvirt.libvirtError as error:
            # the test driver knows no such flag: its networks and pools have one configuration
            if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG or not inactive:
                raise
            return str(thing.XMLDesc(0))
