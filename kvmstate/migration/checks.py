"""What would not work of a machine on another host, or be lost on the way: told all at once, before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from lxml import etree

from kvmstate.errors import HostError, NotFound
from kvmstate.host import Host, domains, managed_secrets, migrations, network_filters, networks, snapshots
from kvmstate.host.links import links
from kvmstate.host.migrations import Way
from kvmstate.host.objects import Domain
from kvmstate.kind import Fault
from kvmstate.migration.storage import missing
from kvmstate.model.quantity import about
from kvmstate.xmlbind import document

# What a machine may have of its host itself, by its element
_OF_THE_HOST = {
    "devices/hostdev": "a device of the host (hostdev)",
    "devices/filesystem": "a folder of the host (filesystem)",
    "devices/tpm/backend[@type='passthrough']": "the host's TPM",
    "devices/interface[@type='hostdev']": "a network card of the host (interface of type hostdev)",
    "launchSecurity": "memory that its host encrypts (launchSecurity)",
}


def ways(way: Way, copies: bool) -> Iterator[Fault]:
    """What libvirt cannot do together; docs/jobs/migrate.md has the table."""
    if way.tunnelled and not way.peer:
        yield Fault((), "--tunnelled goes through the two libvirtd, which speak with each other", "leave --direct out")
    if way.tunnelled and copies:
        yield Fault((), "libvirt tunnels memory only, not the copy of disks", "--tls, or a network that is safe")
    if way.tunnelled and way.tls:
        yield Fault((), "--tls is for connections between the two QEMU, and a tunnel has none", "choose one of them")
    if way.tunnelled and way.post_copy:
        yield Fault((), "libvirt tunnels no post-copy", "leave --tunnelled or --post-copy out")


def machine(source: Host, target: Host, domain: Domain, live: bool) -> Iterator[Fault]:
    """All but its storage and the way there. Raises HostError."""
    root = document(migrations.text_for(domain, live))
    yield from _names(target, domain)
    yield from _states(domain, live)
    for path, what in _OF_THE_HOST.items():
        if live and root.find(path) is not None:
            yield Fault((), f"it has {what}, which stays where it is", "unplug it first, or shut the machine down")
    yield from _hardware(source, target, root, live)
    yield from _networks(target, root)
    yield from _others(target, root, live)


def _names(target: Host, domain: Domain) -> Iterator[Fault]:
    found = migrations.place(target.connection, domain.uuid).domain
    if found is not None:
        yield Fault((), f"{target.uri} has a machine of its UUID: {found.name}", "look which of both is the right one")
        return
    with suppress(NotFound):
        domains.find(target.connection, domain.name)
        yield Fault((), f"{target.uri} has another machine {domain.name}", "rename one of both")


def _states(domain: Domain, live: bool) -> Iterator[Fault]:
    if found := snapshots.all_of(domain):
        names = ", ".join(each.name for each in found)
        yield Fault((), f"it has snapshots, which do not move with it: {names}", "merge or delete them first")
    if names := ", ".join(snapshots.checkpoints(domain)):
        hint = "delete them first: the next backup is a full one"
        yield Fault((), f"it has checkpoints, which do not move with it: {names}", hint)
    if not live and domains.saved(domain.connection, {domain.name})(domain):
        yield Fault((), "it has saved memory, which does not move with it", f"`virsh start {domain.name}` goes on")
    if live:
        root = document(domains.xml(domain, inactive=False))
        for node in root.iterfind("devices/disk/target"):
            with suppress(HostError):
                if job := snapshots.job(domain, node.get("dev", "")):
                    yield Fault((), f"disk {node.get('dev')} has a block job ({job})", "let it end, or abort it")


def _hardware(source: Host, target: Host, root: etree._Element, live: bool) -> Iterator[Fault]:
    if why := migrations.lacks_machine(target.connection, root):
        machine = root.find("os/type").get("machine")  # type: ignore[union-attr]
        yield Fault((), f"its machine type {machine} is not known on {target.uri}: {why}", "install a newer QEMU there")
    elif live and (why := migrations.lacks_cpu(target.connection, root, migrations.host_cpu(source.capabilities))):
        yield Fault((), why, "give it a CPU that both hosts have (`cpu: {model: …}`), or move it while it is off")
    wanted = int(root.findtext("memory") or 0) * 1024
    if live and 0 < (free := migrations.free_memory(target.connection)) < wanted:
        yield Fault(
            (), f"it needs {about(wanted)} of memory, and {target.uri} has {about(free)} left", "free some there"
        )


def _networks(target: Host, root: etree._Element) -> Iterator[Fault]:
    known = links(target)
    for node in root.iterfind("devices/interface"):
        said = node.find("source")
        name = said.get("network") if said is not None else None
        if name and not networks.exists(target.connection, name):
            yield Fault((), f"there is no network {name} on {target.uri}", "define it there, and start it")
        elif name and not networks.is_active(networks.find(target.connection, name)):
            yield Fault((), f"network {name} is not active on {target.uri}", f"`virsh net-start {name}` there")
        device = (said.get("bridge") or said.get("dev")) if said is not None and not name else None
        if device and known and known.devices is not None and device not in known.devices:
            yield Fault((), f"{target.uri} has no network device {device}", "make it there")
        filter_ = node.find("filterref")
        if filter_ is not None and network_filters.supported(target.connection):
            try:
                network_filters.find(target.connection, filter_.get("filter", ""))
            except NotFound:
                yield Fault(
                    (), f"there is no network filter {filter_.get('filter')} on {target.uri}", "define it there"
                )


def _others(target: Host, root: etree._Element, live: bool) -> Iterator[Fault]:
    there = {name for each in managed_secrets.all_secrets(target.connection) for name in managed_secrets.names_of(each)}
    for uses in sorted({*managed_secrets.uses(root)} - there):
        yield Fault((), f"there is no secret {uses} on {target.uri}", "define it there, with its value")
    for path in ("os/kernel", "os/initrd", "os/dtb", "os/loader"):
        if (file := root.findtext(path)) and (fault := missing(target, file)):
            yield fault
    if not live:
        for path in filter(None, [root.findtext("os/nvram")]):
            if fault := missing(target, path):
                hint = "copy it there, or start the machine: it takes its variables along while it runs"
                yield Fault((), f"its firmware variables are in {path}, which {target.uri} does not have", hint)
        if root.find("devices/tpm/backend[@type='emulator']") is not None:
            yield Fault((), "the state of its TPM does not move while it is off", "move it while it runs")
