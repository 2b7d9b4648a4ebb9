"""libvirt's errors, as sentences with a likely cause and a mend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from kvmstate.errors import ConnectionFailed, HostError, NotFound
from kvmstate.host.hints import CONNECTING, DAEMON, hint_for
from kvmstate.model.uri import redacted, without_secrets

_NOT_FOUND = {
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_NO_SECRET,
    libvirt.VIR_ERR_NO_DOMAIN_METADATA,
    libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT,
}
# How libvirt's client says that its daemon is gone (errors of its RPC layer; others there are about messages)
_LOST = {libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR}

_NO_START = "QEMU did not start: "
# What libvirt and QEMU put around the words that matter, in the order in which it is taken off
_WRAPPING = (
    (r"^internal error: ", ""),
    (r"\r|(?s:@{20,}.*?(?=Host key for ))", ""),  # ssh's banner about a changed key
    (
        r"(?i)^(?:process exited while connecting to|qemu unexpectedly closed the) monitor(?: \(vm='.*?'\))?: ",
        _NO_START,
    ),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z ", ""),
    (r"(?<= )qemu(?:-system-\w+)?: ", ""),
    (r"-(?:device|blockdev|netdev|object|chardev) \{[^\n]*\}: ", ""),
)


def readable(message: str) -> str:
    for pattern, instead in _WRAPPING:
        message = re.sub(pattern, instead, message)
    return message.strip()


def translate(error: libvirt.libvirtError) -> HostError:
    message = readable(error.get_error_message() or str(error))
    code = error.get_error_code() or 0
    if error.get_error_domain() == libvirt.VIR_FROM_RPC and code in _LOST:
        return ConnectionFailed(
            f"the connection to the host was lost: {message}",
            "nothing is lost: see that libvirtd (or virtqemud) runs there, then apply again, which goes on from here",
            code,
        )
    return (NotFound if code in _NOT_FOUND else HostError)(message, hint_for(message), code)


def unreachable(uri: str, error: libvirt.libvirtError) -> ConnectionFailed:
    """The error of a connection that could not be opened."""
    message = without_secrets(readable(error.get_error_message() or str(error)), uri)
    return ConnectionFailed(f"cannot connect to {redacted(uri)}: {message}", hint_for(message, CONNECTING, DAEMON))


@contextmanager
def faults() -> Iterator[None]:
    """Raises HostError, NotFound, or ConnectionFailed, for what libvirt raises inside."""
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
