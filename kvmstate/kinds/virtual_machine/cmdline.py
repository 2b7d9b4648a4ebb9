"""What of a kernel's command line may be shown: words that are well known, as any other may hold a secret."""

from __future__ import annotations

import re

# https://docs.kernel.org/admin-guide/kernel-parameters.html, and what installers and systemd add that is not a secret
_KEYS = frozenset(
    [
        "acpi",
        "apparmor",
        "audit",
        "biosdevname",
        "boot",
        "clocksource",
        "console",
        "cloud-init",
        "crashkernel",
        "default_hugepagesz",
        "earlyprintk",
        "elevator",
        "fsck.mode",
        "hugepages",
        "hugepagesz",
        "init",
        "init_on_alloc",
        "intel_iommu",
        "iommu",
        "ipv6.disable",
        "isolcpus",
        "lang",
        "locale",
        "loglevel",
        "maxcpus",
        "mem",
        "mitigations",
        "modprobe.blacklist",
        "net.ifnames",
        "nohz_full",
        "nokaslr",
        "noapic",
        "nomodeset",
        "nosmp",
        "panic",
        "pci",
        "preempt",
        "printk.time",
        "quiet",
        "rcu_nocbs",
        "rd.lvm.lv",
        "rdinit",
        "reboot",
        "resume",
        "root",
        "rootdelay",
        "rootflags",
        "rootfstype",
        "rootwait",
        "selinux",
        "security",
        "splash",
        "swapaccount",
        "systemd.unit",
        "systemd.unified_cgroup_hierarchy",
        "transparent_hugepage",
        "tsc",
        "video",
    ]
)
_PLAIN = re.compile(r"[\w.,:/=-]{0,80}", re.ASCII)
_FLAG = re.compile(r"[a-z_.-]{1,24}", re.ASCII)


def harmless_cmdline(text: str) -> bool:
    """Whether all of its words are well known parameters, or flags without a value."""
    for word in text.split():
        key, equals, value = word.partition("=")
        known = key in _KEYS and _PLAIN.fullmatch(value) and "://" not in value
        if not known and (equals or not _FLAG.fullmatch(word)):
            return False
    return True
