"""Checks of this machine's own files, for hosts that are this machine; they take the connection's URI."""

from __future__ import annotations

import ctypes
import grp
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from kvmstate.doctor.finding import Finding, error, note, ok, warning

RUN = Path("/run/libvirt")
KVM = Path("/dev/kvm")
# an ordinary user's PATH lacks the folders of daemons
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
# program -> what it is for, its packages in Debian and Fedora, and whether nothing goes without it
PROGRAMS = {
    "qemu-img": ("volumes in qcow2", "qemu-utils", "qemu-img", True),
    "dnsmasq": ("DHCP and DNS of networks", "dnsmasq-base", "dnsmasq", True),
    "iptables": ("forwarding of networks", "iptables", "iptables-nft", True),
    "swtpm": ("emulated TPMs", "swtpm-tools", "swtpm-tools", False),
}


def daemon(uri: str) -> Iterator[Finding]:
    """Which daemon there is: the monolithic libvirtd, or virtqemud (https://libvirt.org/daemons.html)."""
    parts = urlsplit(uri)
    if "socket" in parse_qs(parts.query):
        return
    found = {name for name in ("libvirtd", "virtqemud") if (RUN / _socket(name)).exists()}
    if not found:
        say = error if parts.path == "/system" else note
        yield say(
            f"no libvirt daemon of the system's listens in {RUN}",
            "install it (Debian: libvirt-daemon-system, Fedora: libvirt-daemon-driver-qemu), then "
            "`systemctl enable --now libvirtd.socket` (or virtqemud.socket)",
        )
    for name in sorted(found):
        kind = "monolithic" if name == "libvirtd" else "modular"
        if os.access(RUN / _socket(name), os.W_OK):
            yield ok(f"{name} ({kind}) listens in {RUN}")
        else:
            yield error(f"{RUN / _socket(name)} is not open to you", "become a member of the group libvirt, see user")


def _socket(name: str) -> str:
    return "libvirt-sock" if name == "libvirtd" else f"{name}-sock"


def user(uri: str) -> Iterator[Finding]:
    """Only root and the group libvirt may use the system's daemon without a password."""
    if urlsplit(uri).path != "/system" or os.geteuid() == 0:
        yield ok("you are root" if os.geteuid() == 0 else "the session's daemon is your own")
        return
    groups = {group.gr_name for group in grp.getgrall() if group.gr_gid in os.getgroups()}
    if "libvirt" in groups:
        yield ok("you are in the group libvirt")
    else:
        yield warning("you are not in the group libvirt", "`sudo usermod -aG libvirt $USER`, then log in again")


def cpu(uri: str) -> Iterator[Finding]:
    """Whether the processor, or the hypervisor that this machine runs on, offers virtualisation."""
    if platform.machine() != "x86_64":
        yield note(f"a processor of type {platform.machine()} is not looked into")
        return
    text = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    flags = set(text.split())
    if flag := next(iter(flags & {"vmx", "svm"}), ""):
        yield ok(f"the processor virtualises ({flag})")
    elif "hypervisor" in flags:
        yield warning(
            "this is a virtual machine whose host does not pass virtualisation on",
            "switch nested virtualisation on there and give this machine the host's CPU model; without it, guests are "
            "emulated, many times slower",
        )
    else:
        yield warning("the processor's virtualisation is off", "switch VT-x or AMD-V (SVM) on in the firmware's setup")


def kvm_device(uri: str) -> Iterator[Finding]:
    """/dev/kvm; whether it works is another check's matter, `acceleration`."""
    if KVM.exists():
        yield ok(f"{KVM} exists")
    else:
        yield warning(f"there is no {KVM}", "`modprobe kvm_intel` or `modprobe kvm_amd`; `dmesg` says why it fails")


def nested(uri: str) -> Iterator[Finding]:
    for module in ("kvm_intel", "kvm_amd"):
        parameter = Path(f"/sys/module/{module}/parameters/nested")
        if parameter.exists():
            state = "on" if parameter.read_text().strip() in ("1", "Y") else "off"
            yield note(f"guests may run virtual machines of their own: {state} ({module}.nested)")


def iommu(uri: str) -> Iterator[Finding]:
    groups = Path("/sys/kernel/iommu_groups")
    count = len(list(groups.iterdir())) if groups.exists() else 0
    yield note(
        f"PCI devices can be passed through ({count} IOMMU groups)" if count else "no IOMMU: no PCI pass-through"
    )


def huge_pages(uri: str) -> Iterator[Finding]:
    for size in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*")):
        if count := int((size / "nr_hugepages").read_text()):
            yield note(f"{count} huge pages of {size.name.partition('-')[2]} are reserved")


def programs(uri: str) -> Iterator[Finding]:
    """What libvirt's daemon runs."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    for name, (purpose, debian, fedora, needed) in PROGRAMS.items():
        if found := shutil.which(name, path=path):
            yield ok(f"{name} is there: {found}")
        else:
            say = warning if needed else note
            yield say(
                f"{name} is missing: {purpose}", f"apt install {debian} (Debian) or dnf install {fedora} (Fedora)"
            )


def clock(uri: str) -> Iterator[Finding]:
    """Leases and locks tell the time: https://man7.org/linux/man-pages/man2/adjtimex.2.html"""
    time_error = 5
    # all zero: nothing is set; struct timex has 208 bytes
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == time_error:
        yield note("the kernel says that its clock is not synchronised", "install chrony or systemd-timesyncd")
    else:
        yield ok("the clock is synchronised")


CHECKS = (daemon, user, cpu, kvm_device, nested, iommu, huge_pages, programs, clock)
