"""The way to a guest's ssh server by vsock, where libvirt has a proxy for that: libvirt-ssh-proxy(1), since 10.8."""

from __future__ import annotations

from pathlib import Path

from kvmstate.host import domains
from kvmstate.host.connection import Host
from kvmstate.host.objects import Domain
from kvmstate.xmlbind.document import document

_PROXIES = ("/usr/libexec/libvirt-ssh-proxy", "/usr/lib/libvirt/libvirt-ssh-proxy")


def destination(host: Host, domain: Domain) -> str | None:
    """What ssh takes for the machine, where this machine's ssh knows how; None where it does not."""
    if not host.is_local or not any(Path(path).exists() for path in _PROXIES):
        return None
    if document(domains.xml(domain, inactive=False)).find("devices/vsock/cid") is None:
        return None
    return f"qemu{':session' if host.address.endswith('/session') else ''}/{domain.name}"
