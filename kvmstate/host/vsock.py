"""The way to a guest's ssh server by vsock, where libvirt has a proxy for that: https://libvirt.org/ssh-proxy.html"""

from __future__ import annotations

from pathlib import Path

from kvmstate.host import domains
from kvmstate.host.connection import Host
from kvmstate.host.objects import Domain
from kvmstate.xmlbind.document import document

# The connections that it looks names up in: behind any other socket there are other machines of these names
_WORDS = {"qemu:///system": "qemu", "qemu:///session": "qemu:session"}
_PROXIES = ("/usr/libexec/libvirt-ssh-proxy", "/usr/lib/libvirt/libvirt-ssh-proxy")


def destination(host: Host, domain: Domain) -> str | None:
    """What ssh takes for the machine, where this machine's ssh knows how; None where it does not."""
    word = _WORDS.get(host.address.replace("qemu+unix:", "qemu:"))
    if word is None or not any(Path(path).exists() for path in _PROXIES):
        return None
    if document(domains.xml(domain, inactive=False)).find("devices/vsock/cid") is None:
        return None
    return f"{word}/{domain.name}"
