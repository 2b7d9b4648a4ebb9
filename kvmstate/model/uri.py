"""Connection URIs (https://libvirt.org/uri.html): what a file may say of one, and how any URI is shown.

A URI can name programs to run, keys to log in with and servers to believe. Whoever types one may say all that; a file
that came from somebody else says which host, and how to reach it by the means that are set up here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
_INSTEAD = "say it on the command line (-c URI), or in LIBVIRT_DEFAULT_URI"
TRANSPORTS = ("", "unix", "ssh", "tls")
# What changes neither what is run nor whom is believed; by transport
_FLAG, _PATH, _MODE = r"[01]", r"/[^\x00-\x1f]*", "auto|direct|legacy"
_PARAMETERS = {
    "unix": {"mode": _MODE, "socket": _PATH},
    "ssh": {"mode": _MODE, "no_tty": _FLAG},
    "tls": {},
}
# The drivers of this machine, or of a daemon, that open no file which the URI names
_PLACES = {"qemu": ("/system", "/session"), "test": ("/default",)}
_USER = re.compile(r"[\w.][\w.@+\\-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")
# What libvirt takes for one of the names that its own configuration file (libvirt.conf, uri_aliases) explains
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
# Parameters whose values are not secrets
_SHOWN = frozenset(
    {"socket", "mode", "no_tty", "no_verify", "no_sanity", "known_hosts", "known_hosts_verify", "keyfile", "pkipath"}
    | {"sshauth", "netcat", "name"}
)
_ANY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,60}://[^\s'\"<>]+")


class Refused(ValueError):
    """Why a file must not say this of a connection; `hint` is what to do instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def check(uri: str) -> str:
    """The URI itself, when a file may say it. Raises Refused."""
    if re.search(r"[\x00-\x20\x7f#]", uri):
        raise Refused("a connection URI has no spaces, no control characters and no #")
    if _ALIAS.fullmatch(uri):
        return uri
    try:
        parts = urlsplit(uri)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError as error:
        raise Refused(f"this is not a URI: {error}") from None
    driver, _, transport = parts.scheme.partition("+")
    if driver not in _PLACES or "://" not in uri:
        raise Refused("this is not a connection URI such as qemu:///system or qemu+ssh://root@host/system")
    if transport not in TRANSPORTS:
        words = ", ".join(filter(None, TRANSPORTS))
        raise Refused(f"a file may not choose the transport {transport}", f"it may choose {words}; {_INSTEAD}")
    if parts.path not in _PLACES[driver]:
        raise Refused(f"a file may not choose {parts.path or 'no path'} of {driver}", _INSTEAD)
    if parts.password is not None:
        raise Refused("a connection URI takes no password", "libvirt would not use it: set up a key, or Kerberos")
    if user is not None and not _USER.fullmatch(unquote(user)):
        raise Refused("that is not the name of a user")
    if host is not None and not _HOST.fullmatch(host):
        raise Refused("that is not the name of a host")
    if parts.netloc and transport == "unix":
        raise Refused("the transport unix is for this machine: it takes no host")
    allowed = _PARAMETERS[transport or ("tls" if parts.netloc else "unix")]
    for name, value in parameters(parts.query):
        if name not in allowed:
            guess = nearest(name, allowed)
            known = f"did you mean {guess}=? " if guess else ""
            known += f"it may say {', '.join(allowed)}; " if allowed else ""
            raise Refused(f"a file may not say {name or 'this'}= of a connection", f"{known}{_INSTEAD}")
        if not re.fullmatch(allowed[name], value):
            raise Refused(f"{name}= of a connection cannot be {value!r}")
    return uri


def parameters(query: str) -> Iterator[tuple[str, str]]:
    """Names and values as libvirt splits them, also by semicolons."""
    for part in re.split("[&;]", query) if query else ():
        name, _, value = part.partition("=")
        yield unquote(name), unquote(value)


def redacted(uri: str, hide: Callable[[str], str] = lambda secret: HIDDEN) -> str:
    """The URI, of any kind, as it may be shown: without a password, and without what its query says, but for what is
    known to be harmless there."""
    head, mark, rest = uri.partition("://")
    if not mark:
        return uri
    rest, hashed, fragment = rest.partition("#")
    rest, asked, query = rest.partition("?")
    netloc, slash, path = rest.partition("/")
    user, at, host = netloc.rpartition("@")
    name, colon, password = user.partition(":")
    if at:
        # of http a name alone may be a token
        name = hide(name) if not colon and head.lower() in ("http", "https") else name
        netloc = f"{name}{colon}{hide(password) if colon else ''}@{host}"
    said = "&".join(_parameter(part, hide) for part in re.split("[&;]", query)) if query else ""
    return f"{head}{mark}{netloc}{slash}{path}{asked}{said}{hashed}{hide(fragment) if hashed else ''}"


def _parameter(part: str, hide: Callable[[str], str]) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return name if name.lower() in _SHOWN else hide(name)
    harmless = name.lower() in _SHOWN
    return f"{name}={redacted(value, hide) if harmless else hide(value)}"


def without_secrets(text: str, *uris: str) -> str:
    """A message with every URI in it redacted, `uris` and their passwords above all."""
    for uri in uris:
        text = text.replace(uri, redacted(uri))
        for secret in _secrets(uri):
            text = text.replace(secret, HIDDEN)
    return replaced(text, lambda secret: HIDDEN)


def replaced(text: str, hide: Callable[[str], str]) -> str:
    """A text with what URIs in it hold of secrets hidden."""
    return _ANY.sub(lambda match: redacted(match[0], hide), text)


def _secrets(uri: str) -> list[str]:
    """What redacting takes out, as it stands and decoded; not what is too short to be told from other words."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return []
    found = [parts.password or ""]
    found += [value for name, value in parameters(parts.query) if name.lower() not in _SHOWN]
    both = {form for secret in found for form in (secret, unquote(secret))}
    return sorted((form for form in both if len(form) > 3), key=len, reverse=True)


_KNOWN_DRIVERS = ("qemu", "test", "xen", "lxc", "vbox", "bhyve", "ch", "vz", "openvz", "esx", "gsx", "vpx", "hyperv")
_KNOWN_TRANSPORTS = ("unix", "ssh", "tls", "tcp", "ext", "libssh", "libssh2")
# https://libvirt.org/uri.html#transport-configuration, by transport; any of them takes `name` and `auth` as well
_OF_SSH = ("socket", "netcat", "keyfile", "mode", "proxy")
_OF_LIBSSH = (*_OF_SSH, "known_hosts", "known_hosts_verify", "sshauth")
_OF_TRANSPORT = {
    "": ("socket", "mode"),
    "unix": ("socket", "mode"),
    "ssh": (*_OF_SSH, "command", "no_verify", "no_tty"),
    "libssh": _OF_LIBSSH,
    "libssh2": _OF_LIBSSH,
    "tls": ("pkipath", "no_verify", "tls_priority"),
    "ext": ("command",),
    "tcp": (),
}
# The remaining ones that libvirt knows; `root` is that of qemu:///embed
_KNOWN_PARAMETERS = {"name", "auth", "no_sanity", "root"}.union(*_OF_TRANSPORT.values())
# Those whose parameters are the transport's alone
_PLAIN_DRIVERS = ("qemu", "test", "xen", "lxc", "bhyve", "ch", "vz")
# A driver and how to get there, then a colon, slashes or both, as they were meant
_SHAPE = re.compile(r"([A-Za-z]\w*)(?:\+(\w*))?(:?/+|:)([^?#]*)(.*)", re.ASCII | re.DOTALL)
_ONLY_HOST = re.compile(r"(?:[\w.-]+@)?(?:[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:]+\])(?::\d+)?", re.ASCII)


def meant(uri: str) -> str:
    """What somebody who typed this has most likely meant, or nothing where it may be right as it is."""
    if uri.strip("/") in ("system", "session"):
        return f"qemu:///{uri.strip('/')}"
    shape = _SHAPE.fullmatch(uri)
    driver = nearest(shape[1], _KNOWN_DRIVERS) if shape else ""
    if shape is None or (shape[3] == ":" and not driver):
        host = uri if "@" in uri else f"root@{uri}"
        return f"qemu+ssh://{host}/system" if _ONLY_HOST.fullmatch(uri) and len(uri) < 256 else ""
    said, transport, between, rest, more = shape.groups()
    if not driver:
        # ssh://host, http://host, and KVM's own name
        driver, transport = "qemu", transport or (None if said.lower() in ("kvm", "libvirt") else "ssh")
    if transport is not None and transport not in _KNOWN_TRANSPORTS:
        transport = nearest(transport, _KNOWN_TRANSPORTS) or ("unix" if between == ":///" else "ssh")
    elsewhere = between == "://" or (transport in _KNOWN_TRANSPORTS[1:] and len(between) < 4 and "/" in rest)
    place, _, path = rest.partition("/") if elsewhere else ("", "", rest)
    if driver == "qemu" and path not in ("system", "session", "embed"):
        path = nearest(path.strip("/"), ("system", "session")) or "system"
    found = f"{driver}{'+' + transport if transport else ''}://{place}/{path}{more}"
    return "" if found == uri or (between == ":/" and found.replace(":///", ":/", 1) == uri) else found


def misspelt(uri: str) -> tuple[str, str] | None:
    """What is wrong with a parameter that libvirt does not know, and would pass over without a word, and what to do."""
    head, mark, rest = uri.partition("://")
    driver, _, transport = head.lower().partition("+")
    if not mark or driver not in _PLAIN_DRIVERS or transport not in _OF_TRANSPORT:
        return None
    takes = _OF_TRANSPORT[transport or ("" if rest.startswith("/") else "tls")]
    for name, _ in parameters(rest.partition("#")[0].partition("?")[2]):
        if name and name.lower() not in _KNOWN_PARAMETERS:
            guess = nearest(name, takes) or nearest(name, sorted(_KNOWN_PARAMETERS))
            hint = f"did you mean {guess}=? " if guess else ""
            hint += f"It takes {', '.join(takes)}" if takes else "It takes none"
            return f"libvirt does not know the parameter {name}=", f"{hint}; see https://libvirt.org/uri.html"
    return None


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of a few words that is written almost like this one, or nothing."""
    if not word:
        return ""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)), "")
