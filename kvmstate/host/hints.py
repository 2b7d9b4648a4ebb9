"""What people meet, by libvirt's words: the likely cause, and the fix. What its error codes say comes first, see
`kvmstate.host.faults`.

A pattern is looked for anywhere in the message, whatever its case, the first that fits wins; `{0}` in a hint is the
pattern's first group. tests/host/test_hints.py has the messages as real hosts gave them.
"""

from __future__ import annotations

import errno
import re

GROUP = "become a member of the group libvirt (`usermod -aG libvirt $USER`, then log in again), or connect as root"
NOT_LET_IN = f"the daemon does not let you in: {GROUP}"
NO_LOGIN = "ssh does not accept you there: check user and key (keyfile= in the URI), first with ssh by hand"

# How libvirt names who has the job that another call waits for; it names nobody where that is for good
HOLDER = "(held by"

HINTS = (
    (
        r"cannot find character device <null>",
        "it has no serial console: `serials: [{{port: 0}}]` in its manifest adds one",
    ),
    (
        # libvirt 11.3 that is killed as it begins to copy disks does not find this when it is back
        r"Duplicate nodes with node-name='(migration-[^']+)'",
        "a move that was cut off has left it in the machine's QEMU: `virsh qemu-monitor-command MACHINE "
        '\'{{"execute": "blockdev-del", "arguments": {{"node-name": "{}"}}}}\'` takes it out, as its next stop does',
    ),
    (
        # who holds it is told, and will end
        rf"cannot acquire state change lock {re.escape(HOLDER)}",
        "something else is being done with the machine: try again when that has ended",
    ),
    (
        # one that was killed before it had noted QEMU's pid keeps the job of that start or move, also when it is back
        r"cannot acquire state change lock",
        "something else is being done with the machine: try again. If that does not help, `virsh domstate --reason` "
        "says paused (starting up), and the host runs no QEMU for it, a killed libvirtd has left it so: delete "
        "/run/libvirt/qemu/MACHINE.xml there, and restart libvirtd (or virtqemud); running guests survive that",
    ),
    (
        r"Unable to resolve address '|unable to connect to server at '|address resolution failed for \S+:",
        "a machine that moves is sent straight from host to host: see that the one resolves the other's name, and is "
        "let in at ports 49152 to 49215; --migrate-uri tcp://ADDRESS, with --disks-uri tcp://ADDRESS for disks, says "
        "another address (unix:///PATH a socket), and --tunnelled sends memory through the two libvirtd's connection",
    ),
    (
        r"Unable to access credentials (/\S+)/[^/\s]+:",
        "QEMU has no certificates there, on this host or the other one: `*_tls_x509_cert_dir` in qemu.conf says where",
    ),
    (
        r"Permission denied.*SASL|authentication failed|authentication unavailable|polkit",
        NOT_LET_IN,
    ),
    (
        r"cannot execute binary (\S+):",
        "the host lacks {0}, or may not run it: install it there, then restart libvirtd",
    ),
    (
        r"'(/[^']+)'.*: Permission denied",
        "QEMU's user on the host may not open it: look at `namei -l {0}` on the host; a file there needs to be "
        "readable, and every folder above it executable (x) for that user. Images belong in a storage pool's "
        "folder; AppArmor and SELinux refuse others",
    ),
    (
        r"Permission denied",
        "the daemon or QEMU may not open this: check owner and modes there, and AppArmor's or SELinux' log",
    ),
    (
        r"unknown filesystem type '(\w+)'",
        "the host cannot mount {0}: for nfs install nfs-common (Debian) or nfs-utils (Fedora), for cifs cifs-utils",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "the storage is full: free some space, then apply again",
    ),
    (
        r"cannot extend file .*File too large",
        "the file system does not hold files of this size: lower capacity or allocation, or use another pool",
    ),
    (
        r"network '([^']+)' is not active",
        "start it (`virsh net-start {0}`), or let the manifest of network {0} say active: true",
    ),
    (
        r"storage pool '([^']+)' is not active",
        "start it (`virsh pool-start {0}`), or let the manifest of pool {0} say active: true",
    ),
    (
        r"Network is already in use by interface (\S+)",
        "its address range is taken by {0} on the host: choose another subnet",
    ),
    (
        r"error creating bridge interface (\S+): File exists",
        "the host has a device {0} already, perhaps left by a libvirtd that was killed: `ip link delete {0}` there "
        "removes it, or choose another bridge.name",
    ),
    (
        r"bridge name '([^']+)' already in use",
        "another network has the bridge {0}: choose another bridge.name",
    ),
    (
        r"no network with matching name '([^']+)'",
        "declare a Network named {0}, or correct the name",
    ),
    (
        r"no storage vol with matching name '([^']+)'",
        "volume {0} no longer exists on the host meanwhile: apply again, which makes a new plan",
    ),
    (
        r"MTU on '([^']+)': No such device",
        "the host has no bridge or interface {0}: make it there, or correct the name",
    ),
    (
        r'Failed to get (?:shared )?"\w+" lock',
        "another process has this image open, most likely another virtual machine: stop that one, or give this one "
        "a volume of its own (`backing` makes a cheap layer)",
    ),
    (
        r"Failed to reserve port (\d+)|Address already in use",
        "something on the host listens there already: leave the port out, and libvirt chooses a free one",
    ),
    (
        r"Cannot assign requested address",
        "the host has no such address: listen on 0.0.0.0, 127.0.0.1 or one of its own",
    ),
    (
        r"Unable to find any firmware",
        "install UEFI firmware on the host (Debian: ovmf, Fedora: edk2-ovmf); if it is there, none fits the machine "
        "type and the features asked for",
    ),
    (
        r"unable to find any master var store for loader",
        "the firmware file is missing on the host, or unknown to qemu.conf's nvram list: leave the loader out and "
        "say firmware: efi, then libvirt chooses",
    ),
    (
        r"Emulator '[^']+' does not support virt type 'kvm'",
        "KVM is not available on this host: see `kvmstate doctor`; without it say type: qemu (emulation, slow)",
    ),
    (
        r"Emulator '[^']+' does not support (?:os type|machine type|arch|virt type)|No PCI buses available|"
        r"does not support machine type",
        "this QEMU does not know the machine type: `virsh capabilities` lists those it knows",
    ),
    (
        r"No emulator found for arch '([^']+)'",
        "install QEMU for {0} on the host (Debian: qemu-system-arm, qemu-system-misc and so on)",
    ),
    (
        r"CPU mode '(host-\w+)'.* not supported",
        "{0} needs KVM, see `kvmstate doctor`; emulated machines take cpu.mode maximum or a model",
    ),
    (
        r"Unknown CPU model|CPU is incompatible|guest CPU doesn't match|not provide required features|"
        r"unsupported CPU model",
        "`virsh domcapabilities` lists the CPU models that work on this host; cpu.mode: host-model always does with "
        "KVM",
    ),
    (
        r"Maximum CPUs greater than",
        "lower maxCpus, or use a machine type that takes more (q35)",
    ),
    (
        r"cannot set up guest memory|Cannot allocate memory",
        "the host has not enough free memory: lower memory",
    ),
    (
        r"hugetlbfs",
        "the host has no huge pages: reserve some (sysctl vm.nr_hugepages), mount hugetlbfs, restart libvirtd",
    ),
    (
        r"passthrough of host PCI devices",
        "the host's IOMMU is off: switch it on in its firmware and on the kernel's command line (intel_iommu=on or "
        "amd_iommu=on)",
    ),
    (
        r"TPM version '[^']+' is not supported|swtpm",
        "install swtpm on the host (Debian: swtpm swtpm-tools)",
    ),
    (
        r"Image is not in (\w+) format|Could not read (\w+) header",
        "the disk's format in the manifest is not that of its image: `qemu-img info` tells it",
    ),
    (
        r"could not open kernel file '([^']+)'|Cannot access storage file '([^']+)'|cannot open directory '([^']+)'",
        "the path is one of the host's, not of the machine that kvmstate runs on: put it there, or correct the path",
    ),
    (
        r"No more available PCI slots",
        "the machine has no free PCI slot for a hot-plugged device until it is restarted",
    ),
    (
        r"Cannot check dnsmasq binary",
        "install dnsmasq on the host (Debian: dnsmasq-base)",
    ),
    (
        r"missing backend for pool type \d+ \((\w+)\)",
        "install libvirt's storage driver for {0} on the host (Debian: libvirt-daemon-driver-storage-{0})",
    ),
    (
        r"Storage source conflict with pool: '([^']+)'",
        "pool {0} has the same folder or source: use that one",
    ),
    (
        r"already exists|exists already",
        "something that kvmstate does not own has this name; `kvmstate adopt` takes ownership of it",
    ),
    (
        r"referenced filter '([^']+)' is missing",
        "the host has no nwfilter {0}: `virsh nwfilter-list` shows those it has",
    ),
    (
        r"unresolvable variables or unavailable list elements: (.+)",
        "a running machine's interface refers to it, and gives no value to {0}: have its filterref.parameters say "
        "one in an apply before this one; a security group has no variables but IP and MAC",
    ),
    (
        r"there is another transaction running",
        "somebody changes the host's interfaces at this moment, or was cut off: `virsh iface-rollback` there ends "
        "that, and brings back what was before it",
    ),
    (
        r"is not active",
        "start it first, or let its manifest say active: true",
    ),
    (
        r"already in use",
        "another virtual machine or network holds it",
    ),
)

CONNECTING = (
    (
        r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED",
        "the host's key is unknown or has changed: see that it is the right one, then log in once with ssh by hand",
    ),
    (
        # libvirt passes on 1,024 bytes of what ssh says, and this instead of more
        r"Value too large for defined data type",
        "ssh said more than libvirt passes on, as when the host's key has changed: log in once with ssh by hand",
    ),
    (
        # what nc and virt-ssh-helper say of the daemon's socket on the host: they are there, and ssh lets in
        r"unix connect failed: Permission denied|socket.* Permission denied|socket to '[^']+': Permission denied",
        GROUP,
    ),
    (
        r"unix connect failed: (?:No such file|Connection refused)",
        "ssh lets you in, and no libvirt daemon listens there: start libvirtd (or virtqemud) on the host",
    ),
    (
        r"Permission denied(?: \(|, please)|Authentications? that can continue|authentication fail|"
        r"Too many authentication failures",
        NO_LOGIN,
    ),
    (
        r"password (?:has|is) expired|Password change required|account has expired",
        "the account there has expired: log in once with ssh by hand",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "the name of the host is unknown: check its spelling, and DNS",
    ),
    (
        r"No route to host|Connection timed out|Network is unreachable",
        "the host does not answer: is it up, and reachable from here?",
    ),
    (
        r"(?:virt-ssh-helper|nc|netcat)['\"]?: (?:command )?not found|command not found|"
        r"nc: (?:invalid|unrecognized) option",
        "the host has neither virt-ssh-helper (libvirt-daemon 6.8 and newer) nor an nc that knows -U: install libvirt "
        "there",
    ),
    (
        r"ssh: connect to .*Connection refused",
        "no ssh server listens there: check name and port",
    ),
    (
        r"packet \d+ bytes received from server too large",
        "something there speaks before libvirt does, such as a start-up file of the shell (.bashrc) that prints a "
        "greeting: it must be silent where there is no terminal",
    ),
    (
        r"authentication unavailable|polkit",
        NOT_LET_IN,
    ),
    (
        r"(?:CA|client|server) (?:certificate|key)|certificate|gnutls|TLS (?:handshake|session)",
        "TLS needs certificates on both sides: https://libvirt.org/kbase/tlscerts.html; qemu+ssh:// needs none",
    ),
)
DAEMON = "is libvirtd (or virtqemud) running there, and are you in the group libvirt? -c URI chooses another host"


NO_DAEMON = "is libvirtd (or virtqemud) running there? -c URI chooses another host"
SILENT_SSH = "ssh ended before the daemon said anything: log in once with ssh by hand, to see what it says"

# By the number of a system call's error, whatever language the host speaks; what words tell is more
BY_ERRNO = {
    errno.ENOSPC: "the storage is full: free some space, then apply again",
    errno.EDQUOT: "the storage is full: free some space, then apply again",
    errno.EFBIG: "the file system does not hold files of this size: lower capacity or allocation, or use another pool",
    errno.EACCES: "the daemon or QEMU may not open this: check owner and modes there, and AppArmor's or SELinux' log",
    errno.EPERM: "the daemon or QEMU may not do this: see AppArmor's or SELinux' log, and that it runs as root",
    errno.EROFS: "the file system there is mounted read-only",
    errno.ENOENT: "the path is on the host, not on the machine that kvmstate runs on: create it there, or correct it",
    errno.ENOMEM: "the host has not enough free memory: lower memory",
    errno.EADDRINUSE: "something on the host listens there already: leave the port out, and libvirt chooses a free one",
    errno.EADDRNOTAVAIL: "the host has no such address: listen on 0.0.0.0, 127.0.0.1 or one of its own",
}


def hint_for(message: str, table: tuple[tuple[str, str], ...] = HINTS, otherwise: str = "") -> str:
    for pattern, hint in table:
        if match := re.search(pattern, message, re.IGNORECASE | re.DOTALL):
            return hint.format(*(group for group in match.groups() if group))
    return otherwise
