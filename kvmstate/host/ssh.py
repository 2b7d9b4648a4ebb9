"""The way to a host that libvirt reaches by ssh, for other programs: https://libvirt.org/uri.html#ssh-transport"""

from __future__ import annotations

import shlex
from urllib.parse import parse_qs, unquote, urlsplit


def is_ssh(address: str) -> bool:
    """Whether a connection URI goes by ssh."""
    return urlsplit(address).scheme.endswith(("+ssh", "+libssh", "+libssh2"))


def words(address: str, *options: str) -> list[str]:
    """The command that logs in where a connection URI leads, without what is to be done there."""
    parts = urlsplit(address)
    said = {name: values[0] for name, values in parse_qs(parts.query).items()}
    found = [said.get("command", "ssh")]
    found += ["-p", str(parts.port)] if parts.port else []
    found += ["-l", unquote(parts.username)] if parts.username else []
    found += ["-i", said["keyfile"]] if "keyfile" in said else []
    found += ["-o", "StrictHostKeyChecking=no"] if said.get("no_verify") == "1" else []
    return [*found, *options, "--", parts.hostname or ""]


def unattended(address: str, *options: str) -> list[str]:
    """The same for commands that nobody sits at: no terminal, and no question about a password."""
    return words(address, "-T", "-o", "BatchMode=yes", "-e", "none", *options)


def proxy(address: str) -> str:
    """A ProxyCommand (ssh_config(5)) that leads through the host to what only it can reach."""
    return shlex.join(words(address, "-W", "%h:%p"))


def tunnel(address: str, here: int, there: str) -> list[str]:
    """The command that listens at this port of this machine, and leads to what the host sees as HOST:PORT, or to a
    socket of its."""
    options = ("-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{here}:{there}")
    return words(address, *options)
