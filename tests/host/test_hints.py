"""The words of real hosts (libvirt 9.0, QEMU 7.2, OpenSSH 9.2) are made readable, and lead to a fix."""

from __future__ import annotations

import pytest

from kvmstate.host.faults import readable
from kvmstate.host.hints import CONNECTING, DAEMON, hint_for

QEMU = "internal error: process exited while connecting to monitor: "
AT = "2026-11-24T23:54:22.019119Z qemu-system-x86_64: "
BLOCKDEV = '-blockdev {"driver":"file","filename":"/a/b.img","node-name":"libvirt-1-storage"}: '

MESSAGES = [
    ("Cannot access storage file '/srv/x.img': No such file or directory", "is one of the host's"),
    ("Cannot access storage file '/srv/x.img' (as uid:64055, gid:108): Permission denied", "namei -l /srv/x.img"),
    (f"{QEMU}{AT}{BLOCKDEV}Could not open '/a/b.img': Permission denied", "namei -l /a/b.img"),
    (f"{QEMU}qemu: could not open kernel file '/boot/vmlinuz': Permission denied", "namei -l /boot/vmlinuz"),
    (f"{QEMU}qemu: could not open kernel file '/nope/vmlinuz': No such file or directory", "is one of the host's"),
    (
        f"internal error: QEMU unexpectedly closed the monitor (vm='web'): {AT}could not open kernel file '/nope/v': "
        "No such file or directory",
        "is one of the host's",
    ),
    (f'{QEMU}{AT}{BLOCKDEV}Failed to get "write" lock\nIs another process using the image [/a/b.img]?', "image open"),
    (f"{QEMU}{AT}{BLOCKDEV}Image is not in qcow2 format", "qemu-img info"),
    (f"{QEMU}{AT}-vnc 10.1.2.3:56,audiodev=audio1: Failed to bind socket: Cannot assign requested address", "0.0.0.0"),
    (f"{QEMU}{AT}cannot set up guest memory 'pc.ram': Cannot allocate memory", "lower memory"),
    ("internal error: Failed to reserve port 5955", "leave the port out"),
    (
        "internal error: unable to execute QEMU command 'blockdev-add': Duplicate nodes with "
        "node-name='migration-vda-storage'",
        '"arguments": {"node-name": "migration-vda-storage"}',
    ),
    (
        "Timed out during operation: cannot acquire state change lock "
        "(held by monitor=remoteDispatchDomainMigratePerform3Params)",
        "try again when that has ended",
    ),
    ("Timed out during operation: cannot acquire state change lock", "delete /run/libvirt/qemu/MACHINE.xml there"),
    ("internal error: cannot find character device <null>", "serials: [{port: 0}]"),
    ("Unable to resolve address 'host-2' service '49152': Temporary failure in name resolution", "--migrate-uri"),
    ("unable to connect to server at '10.1.2.3:49152': Network is unreachable", "--migrate-uri"),
    (
        "internal error: unable to execute QEMU command 'object-add': Unable to access credentials "
        "/etc/pki/qemu/ca-cert.pem: No such file or directory",
        "QEMU has no certificates there",
    ),
    ("Requested operation is not valid: network 'lan' is not active", "virsh net-start lan"),
    ("Requested operation is not valid: storage pool 'images' is not active", "virsh pool-start images"),
    ("Network not found: no network with matching name 'lan'", "declare a Network named lan"),
    ("Cannot get interface MTU on 'br0': No such device", "no bridge or interface br0"),
    ("internal error: Network is already in use by interface virbr0", "taken by virbr0"),
    ("error creating bridge interface virbr0: File exists", "ip link delete virbr0"),
    ("internal error: bridge name 'virbr0' already in use.", "another network has the bridge virbr0"),
    (
        "unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support virt type 'kvm'",
        "kvmstate doctor",
    ),
    ("unsupported configuration: No emulator found for arch 'aarch64'", "install QEMU for aarch64"),
    (
        "unsupported configuration: CPU mode 'host-passthrough' for x86_64 qemu domain on x86_64 host is not supported "
        "by hypervisor",
        "host-passthrough needs KVM",
    ),
    ("internal error: Unknown CPU model Nonsense", "virsh domcapabilities"),
    ("unsupported configuration: Maximum CPUs greater than specified machine type limit 255", "maxCpus"),
    ("operation failed: Unable to find any firmware to satisfy 'efi'", "ovmf"),
    ("operation failed: unable to find any master var store for loader: /usr/share/nope.fd", "firmware: efi"),
    ("internal error: hugetlbfs filesystem is not mounted or disabled by administrator config", "nr_hugepages"),
    ("unsupported configuration: host doesn't support passthrough of host PCI devices", "IOMMU"),
    ("unsupported configuration: TPM version '2.0' is not supported", "swtpm"),
    ("cannot allocate 9437184 bytes in file '/mnt/raw': No space left on device", "free some space"),
    ("cannot extend file '/tmp/big': File too large", "lower capacity"),
    ("operation failed: domain 'a' already exists with uuid b31a2d87-f37a-4689-a029-ced77d5880b8", "kvmstate adopt"),
    ("storage volume 'v' exists already", "kvmstate adopt"),
    ("operation failed: Storage source conflict with pool: 'pp'", "pool pp has the same folder"),
    ("internal error: missing backend for pool type 9 (rbd)", "libvirt-daemon-driver-storage-rbd"),
    ("internal error: referenced filter 'nofilter' is missing", "nwfilter-list"),
    ("Requested operation is not valid: there is another transaction running.", "virsh iface-rollback"),
    ("Cannot instantiate filter due to unresolvable variables or unavailable list elements: PORT", "value to PORT"),
    (
        "internal error: Failed to apply firewall rules /usr/sbin/iptables -w --table filter --list-rules: libvirt:  "
        "error : cannot execute binary /usr/sbin/iptables: Permission denied",
        "the host lacks /usr/sbin/iptables",
    ),
    (
        "internal error: Child process (/sbin/pvs --noheadings -o pv_name,vg_name) unexpected exit status 127: "
        "libvirt:  error : cannot execute binary /sbin/pvs: No such file or directory",
        "the host lacks /sbin/pvs",
    ),
    (
        "internal error: Child process (/bin/mount -o nodev,nosuid,noexec -t nfs nas.example:/export/images "
        "/srv/images) unexpected exit status 32: mount: /srv/images: unknown filesystem type 'nfs'.",
        "install nfs-common",
    ),
]

CONNECTIONS = [
    ("Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory", DAEMON),
    ("Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied", "usermod -aG libvirt"),
    (
        "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
        "usermod",
    ),
    ("unable to connect to server at '127.0.0.1:1': Connection refused", DAEMON),
    ("Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory", "tlscerts"),
    (
        "Cannot recv data: ssh: connect to host 127.0.0.1 port 9: Connection refused: Connection reset by peer",
        "no ssh server listens there",
    ),
    (
        "Cannot recv data: ssh: Could not resolve hostname nohost.invalid: Name or service not known: Connection reset "
        "by peer",
        "check its spelling",
    ),
    ("Cannot recv data: Host key verification failed.: Connection reset by peer", "log in once"),
    ("Cannot recv data: Value too large for defined data type", "log in once"),
    ("Cannot recv data: root@127.0.0.1: Permission denied (publickey).: Connection reset by peer", "keyfile="),
    ("Cannot recv data: sh: 1: nc: not found: Connection reset by peer", "virt-ssh-helper"),
    ("Cannot recv data: nc: invalid option -- 'U': Connection reset by peer", "nc that knows -U"),
    ("Cannot recv data: nc: unix connect failed: Permission denied: Connection reset by peer", "usermod -aG libvirt"),
    (
        "Cannot recv data: nc: unix connect failed: No such file or directory: Connection reset by peer",
        "no libvirt daemon listens there",
    ),
    ("Cannot recv data: WARNING: Your password has expired.: Connection reset by peer", "has expired: log in once"),
    ("packet 1466264671 bytes received from server too large, want 33554432", "prints a greeting"),
    ("Cannot recv data: root@kvm1: Permission denied, please try again.: Connection reset by peer", "keyfile="),
]


@pytest.mark.parametrize(("message", "fix"), MESSAGES, ids=lambda text: text[-40:])
def test_what_hosts_say_has_a_mend(message: str, fix: str) -> None:
    assert fix in hint_for(readable(message))


@pytest.mark.parametrize(("message", "fix"), CONNECTIONS, ids=lambda text: text[-40:])
def test_a_connection_that_fails_has_a_mend(message: str, fix: str) -> None:
    assert fix in hint_for(readable(message), CONNECTING, DAEMON)


def test_what_libvirt_wraps_around_qemus_words_is_taken_off() -> None:
    assert (
        readable(f"{QEMU}{AT}{BLOCKDEV}Could not open '/a/b.img': Permission denied")
        == "QEMU did not start: Could not open '/a/b.img': Permission denied"
    )
    assert readable("internal error: Unknown CPU model X") == "Unknown CPU model X"
    assert readable("rpcinfo:\tno such host") == "rpcinfo: no such host"


def test_unknown_words_stay_as_they_are_without_a_hint() -> None:
    assert readable("quantum flux") == "quantum flux"
    assert hint_for("quantum flux") == ""
