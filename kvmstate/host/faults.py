"""libvirt's errors, as sentences with a likely cause and a fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ECONNREFUSED, ECONNRESET, ENOENT, EPERM, EPIPE
from typing import Any

import libvirt

from kvmstate.errors import ConnectionFailed, HostError, NotFound, Unseen
from kvmstate.host.hints import (
    BY_ERRNO,
    CONNECTING,
    DAEMON,
    GROUP,
    NO_DAEMON,
    NO_LOGIN,
    NOT_LET_IN,
    SILENT_SSH,
    hint_for,
)
from kvmstate.host.reasons import keep_reasons
from kvmstate.model.uri import HIDDEN, meant, redacted, without_secrets

keep_reasons()

_NOT_FOUND = {
    libvirt.VIR_ERR_NO_DOMAIN,
    libvirt.VIR_ERR_NO_NETWORK,
    libvirt.VIR_ERR_NO_NWFILTER,
    libvirt.VIR_ERR_NO_INTERFACE,
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_NO_SECRET,
    libvirt.VIR_ERR_NO_DOMAIN_METADATA,
    libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT,
    libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT,
}
# How libvirt's client says that its daemon is gone (errors of its RPC layer; others there are about messages)
_LOST = {libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR}
# ... but this is the host's own connection to another one
_ONWARD = re.compile(r"(?i)unable to (resolve address|connect to server at) '.*'")

# Who asks is not let in
_DENIED = {
    libvirt.VIR_ERR_AUTH_FAILED,
    libvirt.VIR_ERR_AUTH_CANCELLED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    libvirt.VIR_ERR_ACCESS_DENIED,
}
_OWNED_BY_OTHERS = "something that kvmstate does not own has this name; `kvmstate adopt` takes ownership of it"
# What a code says for sure, whatever the words
_CERTAIN = {
    **dict.fromkeys(_DENIED, NOT_LET_IN),
    libvirt.VIR_ERR_DOM_EXIST: _OWNED_BY_OTHERS,
    libvirt.VIR_ERR_NETWORK_EXIST: _OWNED_BY_OTHERS,
    libvirt.VIR_ERR_STORAGE_VOL_EXIST: _OWNED_BY_OTHERS,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: "is the guest up, and qemu-guest-agent running in it?",
}
# How a program that libvirt speaks through has ended
_ENDED = {EPIPE, ECONNRESET}

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

# What QEMU's arguments, and XML, call a secret
_NAMED = re.compile(
    r"""(?i)(\b[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|cookie)\w*["']?\s*[=:]\s*)"""
    r"""("[^"]*"|'[^']*'|(?<==)[^\s,;'"<>]+)"""
)


def readable(message: str) -> str:
    for pattern, instead in _WRAPPING:
        message = re.sub(pattern, instead, message)
    # of a program's output; a tab would be shown as \t
    message = message.replace("\t", " ")
    return _NAMED.sub(rf"\1{HIDDEN}", without_secrets(message)).strip()


def translate(error: libvirt.libvirtError) -> HostError:
    message = readable(error.get_error_message() or str(error))
    code, errno = error.get_error_code() or 0, _errno(error)
    if error.get_error_domain() == libvirt.VIR_FROM_RPC and code in _LOST and not _ONWARD.match(message):
        return ConnectionFailed(
            f"the connection to the host was lost: {message}",
            "nothing is lost: see that libvirtd (or virtqemud) runs there, then apply again, which goes on from here",
            code,
            errno,
        )
    hint = _CERTAIN.get(code) or hint_for(message) or BY_ERRNO.get(errno, "")
    kind = NotFound if code in _NOT_FOUND else HostError
    if code == libvirt.VIR_ERR_OPERATION_INVALID and error.get_error_domain() == libvirt.VIR_FROM_STORAGE:
        # of a pool that is not active
        kind = Unseen
    return kind(message, hint, code, errno)


def unreachable(uri: str, error: libvirt.libvirtError) -> ConnectionFailed:
    """The error of a connection that could not be opened."""
    message = without_secrets(readable(error.get_error_message() or str(error)), uri)
    code, errno = error.get_error_code() or 0, _errno(error)
    hint = _mend(uri, message, code, error.get_error_domain(), errno)
    return ConnectionFailed(f"cannot connect to {redacted(uri)}: {message}", hint, code, errno)


def _mend(uri: str, message: str, code: int, domain: int, errno: int) -> str:
    """What the URI itself tells, then the error's code and number, then its words."""
    guess = f"did you mean {redacted(better)}?" if (better := meant(uri)) else ""
    transport = uri.partition(":")[0].partition("+")[2]
    said = hint_for(message, CONNECTING)
    if code in _DENIED:
        said = NO_LOGIN if domain in (libvirt.VIR_FROM_SSH, libvirt.VIR_FROM_LIBSSH) else said or NOT_LET_IN
    elif code == libvirt.VIR_ERR_SYSTEM_ERROR and transport == "ssh" and not said and errno in _ENDED:
        said = SILENT_SSH
    elif code == libvirt.VIR_ERR_SYSTEM_ERROR and transport in ("", "unix") and domain == libvirt.VIR_FROM_RPC:
        # of a socket of this machine
        said = GROUP if errno in (EACCES, EPERM) else said or (NO_DAEMON if errno in (ENOENT, ECONNREFUSED) else "")
    if guess:
        # what ssh says of the host is as sure as what the URI says of itself
        return f"{guess} And {said}" if said and transport == "ssh" else guess
    return said or DAEMON


def _errno(error: libvirt.libvirtError) -> int:
    """The number of the system call's error, which libvirt hands over beside its words."""
    number = error.get_int1() if error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR else 0
    return max(number or 0, 0)


@contextmanager
def faults() -> Iterator[None]:
    """Translate libvirt's errors. Raises HostError, NotFound, or ConnectionFailed, for what libvirt raises inside."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise translate(error) from error
    except SystemError as error:
        # a signal that came while the call ran the handler of errors, which is Python
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


def described(raw: Any, inactive: int) -> str:
    """The XML of a libvirt object; `inactive` is the flag for its configuration, 0 for what runs."""
    with faults():
        try:
            return str(raw.XMLDesc(inactive))
        except libvirt.libvirtError as error:
            # the test driver knows no such flag: its networks and pools have one configuration
            if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG or not inactive:
                raise
            return str(raw.XMLDesc(0))
