"""What people do to a domain that runs, besides starting and stopping it, see `kvmstate.host.domains`."""

from __future__ import annotations

from typing import Any

import libvirt

from kvmstate.errors import HostError
from kvmstate.host.connection import Host
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain
from kvmstate.xmlbind import disk_source
from kvmstate.xmlbind.document import document


def reboot(domain: Domain) -> None:
    """Ask the guest to reboot: by its agent, else by ACPI. QEMU goes on, and so waits what needs a restart."""
    with faults():
        domain.raw.reboot(0)


def reset(domain: Domain) -> None:
    """Press the reset button: the guest is not asked."""
    with faults():
        domain.raw.reset(0)


def save(domain: Domain, paused: bool | None = None, bypass_cache: bool = False) -> None:
    """Write its memory to where libvirt keeps it for the next start, and stop it. `paused`: whether it stands still
    after that start; None: as it does now."""
    with faults():
        domain.raw.managedSave(_flags(paused, bypass_cache))


def save_to(host: Host, domain: Domain, path: str, paused: bool | None = None, bypass_cache: bool = False) -> None:
    """Write its memory to a file of the host's, and stop it. Raises HostError where such a file is: libvirt would write
    over it."""
    if host.sight.inode(path):
        raise HostError(f"{path} is there already on the host", "save to another file, or delete that one")
    with faults():
        domain.raw.saveFlags(path, None, _flags(paused, bypass_cache))


def saved_in(connection: Any, path: str) -> tuple[str, str]:
    """The name and the UUID of the domain whose memory a file of the host's holds. Raises HostError."""
    root = _saved(connection, path)
    return root.findtext("name") or "", root.findtext("uuid") or ""


def _saved(connection: Any, path: str) -> Any:
    """The XML of the domain whose memory a file of the host's holds."""
    with faults():
        return document(connection.saveImageGetXMLDesc(path, 0))


def written_since(host: Host, path: str) -> list[str]:
    """The disks of the domain whose memory a file of the host's holds that were written to after it, by their targets,
    as far as the host's files are seen from here. Raises HostError."""
    saved = max((each.written for each in host.sight.inode(path)), default=0)
    if not saved:
        return []
    found = []
    for disk in _saved(host.connection, path).iterfind("devices/disk"):
        source, target = disk_source.read(disk), disk.find("target")
        if source is None or source.type != "file" or disk.find("readonly") is not None or target is None:
            continue
        if any(each.written > saved for each in host.sight.inode(source.path)):
            found.append(target.get("dev", ""))
    return found


def restore_from(connection: Any, path: str, paused: bool = False) -> None:
    """Start the domain that a file holds from there. The file stays. Raises HostError."""
    with faults():
        connection.restoreFlags(path, None, libvirt.VIR_DOMAIN_SAVE_PAUSED if paused else 0)


def _flags(paused: bool | None, bypass_cache: bool) -> int:
    state = {None: 0, True: libvirt.VIR_DOMAIN_SAVE_PAUSED, False: libvirt.VIR_DOMAIN_SAVE_RUNNING}[paused]
    return int(state | (libvirt.VIR_DOMAIN_SAVE_BYPASS_CACHE if bypass_cache else 0))
