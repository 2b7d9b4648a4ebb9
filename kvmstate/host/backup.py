"""A copy of what a running domain's disk holds at one moment, while its guest goes on writing: a backup job of QEMU's.

https://libvirt.org/kbase/live_full_disk_backup.html, https://libvirt.org/formatbackup.html
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import libvirt
from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import agent, domains
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain, Volume
from kvmstate.host.permit import Permit
from kvmstate.xmlbind.document import document, to_text

Jobs = Callable[[int, int], None]
_LOOK = 0.1
# A domain has one such job at a time
_ONE = threading.Lock()
# Thaws the guest when its standard input ends: also when who froze it was killed
_GUARD = """
import os, sys, libvirt
domain = libvirt.open(os.environ["KVMSTATE_GUARD"] or None).lookupByUUIDString(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
domain.fsThaw()
"""
_GUARD_SECONDS = 20


def copy(uri: str, domain: Domain, target: str, volume: Volume, format_: str, permit: Permit, progress: Jobs) -> bool:
    """Write what a disk holds at this moment to a volume that has just been made. Whether its file systems were
    quiesced for that: where the guest agent answers. Raises HostError when the copy fails, or another job runs."""
    permit.check(volume)
    with _ONE:
        settle(domain, volume.path)
        with _quiesced(uri, domain) as quiesced, faults():
            domain.raw.backupBegin(
                _described(domain, target, volume, format_), None, libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
            )
        try:
            _follow(domain, progress)
        except BaseException:
            settle(domain, volume.path)
            raise
    return quiesced


def settle(domain: Domain, path: str) -> None:
    """End a job that a dead run has left, whose copy does not count. Raises HostError for another one."""
    try:
        text = domain.raw.backupGetXMLDesc(0)
    except libvirt.libvirtError:
        # there is none
        return
    if path not in {each.get("file") or each.get("dev") for each in document(text).iterfind("disks/disk/target")}:
        hint = f"let it end, or abort it: `virsh domjobabort {domain.name}`"
        raise HostError(f"virtual machine {domain.name} has a backup job of somebody else", hint)
    with suppress(libvirt.libvirtError):
        domain.raw.abortJob()
    with faults():
        while domain.raw.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            time.sleep(_LOOK)


def _described(domain: Domain, target: str, volume: Volume, format_: str) -> str:
    root = etree.Element("domainbackup", mode="push")
    disks = etree.SubElement(root, "disks")
    is_file = volume.raw.info()[0] == libvirt.VIR_STORAGE_VOL_FILE
    for each in document(domains.xml(domain, inactive=False)).iterfind("devices/disk/target"):
        if (name := each.get("dev", "")) != target:
            etree.SubElement(disks, "disk", name=name, backup="no")
            continue
        disk = etree.SubElement(disks, "disk", name=name, backup="yes", type="file" if is_file else "block")
        etree.SubElement(disk, "driver", type=format_)
        etree.SubElement(disk, "target", {"file" if is_file else "dev": volume.path})
    return to_text(root)


def _follow(domain: Domain, progress: Jobs) -> None:
    while True:
        with faults():
            found = domain.raw.jobStats(0)
        if found.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE:
            break
        progress(int(found.get("disk_processed", 0)), int(found.get("disk_total", 0)))
        time.sleep(_LOOK)
    with faults():
        done = domain.raw.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    if not done.get("success"):
        why = done.get("errmsg") or "the machine was stopped"
        raise HostError(f"the copy of a disk of virtual machine {domain.name} failed: {why}", "apply again")


@contextmanager
def _quiesced(uri: str, domain: Domain) -> Iterator[bool]:
    """Freeze the guest's file systems meanwhile, if its agent answers."""
    if not _has_agent(domain):
        yield False
        return
    words, said = [sys.executable, "-c", _GUARD, domain.uuid], {**os.environ, "KVMSTATE_GUARD": uri}
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, env=said
    ) as guard:
        assert guard.stdin
        assert guard.stdout
        timer = threading.Timer(_GUARD_SECONDS, guard.kill)
        timer.start()
        ready = guard.stdout.readline().strip() == "ready"
        timer.cancel()
        frozen = False
        try:
            if ready:
                with suppress(HostError), faults():
                    frozen = domain.raw.fsFreeze() >= 0
            yield frozen
        finally:
            # it thaws the guest now
            guard.stdin.close()
            guard.wait()


def _has_agent(domain: Domain) -> bool:
    with suppress(HostError):
        return agent.is_connected(domains.xml(domain, inactive=False)) and agent.answers(domain)
    return False
