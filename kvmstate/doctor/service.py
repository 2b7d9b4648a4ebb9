"""Checks that ask a host's libvirt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kvmstate.doctor.finding import Finding, error, note, ok, warning
from kvmstate.host import Host, domains, networks, pools
from kvmstate.host.acceleration import works as works_with_kvm
from kvmstate.host.access import obstacle, qemu_user, security_model
from kvmstate.host.liveness import in_time
from kvmstate.xmlbind import disk_source, document

# The oldest libvirt that the tests run on
TESTED = (9, 0, 0)
PROBE_SECONDS = 20.0
# Of a pool's capacity
LOW, FULL = 0.10, 0.02


def connection(host: Host) -> Iterator[Finding]:
    version = ".".join(map(str, host.library_version))
    if host.library_version < TESTED:
        yield warning(
            f"libvirt {version} at {host.uri} is older than those that kvmstate is tested with",
            f"update it to {'.'.join(map(str, TESTED))} or newer",
        )
    else:
        yield ok(f"libvirt {version} answers at {host.uri}")


def emulators(host: Host) -> Iterator[Finding]:
    found = {
        arch.get("name", ""): arch.findtext("emulator", "")
        for arch in document(host.capabilities).iterfind("guest/arch")
        if arch.find("emulator") is not None
    }
    native = document(host.capabilities).findtext("host/cpu/arch", "")
    if native in found:
        others = sorted(found.keys() - {native})
        yield ok(f"QEMU for {native}: {found[native]}" + (f", and for {', '.join(others)}" if others else ""))
    elif found:
        yield warning(f"QEMU is there for {', '.join(sorted(found))}, and not for the host's own {native}")
    else:
        yield error("libvirt finds no QEMU", "install it: Debian qemu-system-x86, Fedora qemu-kvm; restart libvirtd")


def acceleration(host: Host) -> Iterator[Finding]:
    """Runs a tiny machine: KVM that is listed may yet not work."""
    if not document(host.capabilities).xpath("guest/arch/domain[@type='kvm']"):
        yield warning("libvirt knows no KVM here: machines are emulated, many times slower", "see cpu and kvm-device")
        return
    try:
        works = in_time(lambda: works_with_kvm(host), PROBE_SECONDS)
    except TimeoutError:
        works = False
    if works:
        yield ok("KVM works: a tiny machine has run with it")
    else:
        yield warning(
            "KVM is there and does not work: a tiny machine did not come up with it",
            "`dmesg | grep -i kvm`; in a virtual machine, see that its host passes virtualisation on",
        )


def firmware(host: Host) -> Iterator[Finding]:
    known = {v.text for v in document(host.domain_capabilities).iterfind("os/enum[@name='firmware']/value")}
    if "efi" in known:
        yield ok("UEFI firmware is there")
    else:
        yield warning("libvirt finds no UEFI firmware", "Debian: apt install ovmf; Fedora: dnf install edk2-ovmf")


def confinement(host: Host) -> Iterator[Finding]:
    if model := security_model(host):
        yield note(f"guests are confined by {model}: images outside of storage pools may be refused")
    else:
        yield note("guests are not confined by AppArmor or SELinux")


def defaults(host: Host) -> Iterator[Finding]:
    """What other tools expect; kvmstate does without."""
    names = {network.name for network in networks.all_networks(host.connection)}
    stores = {pool.name for pool in pools.all_pools(host.connection)}
    for word, there in (("network", "default" in names), ("pool", "default" in stores)):
        yield note(f"there is {'a' if there else 'no'} {word} named default")


def space(host: Host) -> Iterator[Finding]:
    for pool in pools.all_pools(host.connection):
        if not pool.active:
            continue
        capacity, available = pools.space(pool)
        share = available / capacity if capacity else 1.0
        said = f"pool {pool.name}: {share:.0%} of {capacity / 2**30:.1f} GiB free"
        if share >= LOW:
            yield ok(said)
        else:
            say = error if share < FULL else warning
            yield say(said, "free or add storage: guests whose disks cannot grow are paused")


def inactive_pools(host: Host) -> Iterator[Finding]:
    for pool in pools.all_pools(host.connection):
        if not pool.active and pool.autostart:
            yield warning(
                f"pool {pool.name} starts with the host and is not active",
                f"`virsh pool-start {pool.name}` says what is wrong",
            )


def image_paths(host: Host) -> Iterator[Finding]:
    """Whether QEMU's user reaches the images of machines and the folders of pools."""
    user = qemu_user(host)
    if not user or not host.is_local:
        return
    places = {}
    for pool in pools.all_pools(host.connection):
        if folder := document(pools.xml(pool)).findtext("target/path"):
            places[Path(folder) / "image"] = f"pool {pool.name}"
    for domain in domains.all_domains(host.connection):
        for disk in document(domains.xml(domain)).iterfind("devices/disk"):
            source = disk_source.read(disk)
            if source is None or source.type != "file":
                continue
            path = Path(source.path)
            places.setdefault(path, f"domain {domain.name}")
            if path.parent.exists() and not path.exists():
                yield warning(f"domain {domain.name}: its disk {path} is missing")
    blocked: dict[str, list[str]] = {}
    for path, owner in places.items():
        if reason := obstacle(path, *user):
            blocked.setdefault(reason, []).append(owner)
    for reason, owners in blocked.items():
        what, _, fix = reason.partition(": ")
        yield warning(f"{', '.join(dict.fromkeys(owners))}: {what}", fix)
    if not blocked and places:
        yield ok("QEMU's user reaches the folders of all pools and images")


CHECKS = (
    connection,
    emulators,
    acceleration,
    firmware,
    confinement,
    defaults,
    space,
    inactive_pools,
    image_paths,
)
