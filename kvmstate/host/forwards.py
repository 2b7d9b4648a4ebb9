"""Ports of this host that lead to machines on its NAT networks, as the metadata of the networks says.

libvirt's networks have none. What is wanted is read from libvirt's own files, and not asked of libvirt: hooks, which it
waits for, must not ask it anything. All rules are written again each time. Addresses are translated in a table of
kvmstate's own; beside it a chain of kvmstate's own comes before libvirt's, whose rules would refuse what is new to a
guest.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host.kernel_links import way_in
from kvmstate.xmlbind import document
from kvmstate.xmlbind.path import NAMESPACES

if TYPE_CHECKING:
    from kvmstate.host.connection import Host

# What libvirt runs when a network, or a machine, comes or goes
HOOKS = tuple(f"etc/libvirt/hooks/{kind}.d/kvmstate" for kind in ("network", "qemu"))
TABLE, CHAIN = "kvmstate_forwards", "KVMSTATE_FWD"
NETWORKS, ACTIVE = Path("etc/libvirt/qemu/networks"), Path("run/libvirt/network")
MACHINES, RUNNING = Path("etc/libvirt/qemu"), Path("run/libvirt/qemu")
_FORWARD = f"metadata/{{{NAMESPACES['port-forwards']}}}forwards/{{{NAMESPACES['port-forwards']}}}forward"
_SECONDS = 30
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, order=True)
class Forwarding:
    """A port `host` that leads to `port` of a machine at `address`, which is on `network`, with this prefix and bridge;
    `why_not` says why there is no rule for it."""

    network: str
    protocol: str
    host: int
    machine: str
    port: int
    address: str = ""
    listen: str = ""
    prefix: str = ""
    why_not: str = ""


def wanted(root: Path = Path("/"), come: str = "", gone: str = "") -> list[Forwarding]:
    """Those of all networks of the host whose files are below `root`. `come` and `gone` are `network/NAME` or
    `machine/NAME` of one that has just come or gone, whose files may not say so yet."""
    found = []
    for file in sorted((root / NETWORKS).glob("*.xml")):
        defined = _read(file)
        if defined is None or (nodes := defined.findall(_FORWARD)) == []:
            continue
        name = defined.findtext("name") or ""
        # what runs may have other addresses than what is defined, until it is restarted
        what, status = f"network/{name}", root / ACTIVE / f"{name}.xml"
        live = _read(status) if what != come else None
        network = live.find("network") if live is not None else None
        runs = _is_there(what, status, come, gone)
        for node in nodes:
            machine = node.get("machine", "")
            there = _is_there(f"machine/{machine}", root / RUNNING / f"{machine}.xml", come, gone)
            found.append(_forwarding(root, name, defined if network is None else network, node, runs, there))
    return sorted(found)


def _is_there(what: str, file: Path, come: str, gone: str) -> bool:
    return what != gone and (what == come or file.exists())


def _read(file: Path) -> etree._Element | None:
    try:
        return document(file.read_text(encoding="utf-8"))
    except (OSError, HostError, UnicodeDecodeError):
        return None


def _forwarding(
    root: Path, name: str, network: etree._Element, node: etree._Element, active: bool, runs: bool
) -> Forwarding:
    """Who may write metadata is not root: nothing of it goes into rules that is not a number or an address."""
    machine, protocol = node.get("machine", ""), node.get("protocol", "tcp")
    address = node.get("address") or _leased(network, machine, _macs(root, machine)) or ""
    listen, why_not, prefix = node.get("listen", ""), "", ""
    ports = [int(text) if text.isascii() and text.isdigit() else 0 for text in map(node.get, ("host", "port"), "00")]
    try:
        prefix = _prefix(network, IPv4Address(address)) if address else ""
        right = protocol in ("tcp", "udp") and all(0 < port < 1 << 16 for port in ports)
        if listen:
            IPv4Address(listen)
    except ValueError:
        right = False
    if not right:
        why_not = "its metadata is not what kvmstate writes"
    elif not active:
        why_not = f"network {name} does not run"
    elif not runs:
        why_not = f"machine {machine} does not run"
    elif not prefix:
        why_not = f"machine {machine} has no address on network {name}"
    return Forwarding(name, protocol, ports[0], machine, ports[1], address, listen, prefix, why_not)


def _prefix(network: etree._Element, address: IPv4Address) -> str:
    for ip in network.iterfind("ip"):
        if ip.get("family", "ipv4") == "ipv4":
            there = IPv4Interface(f"{ip.get('address')}/{ip.get('prefix') or ip.get('netmask') or 24}").network
            if address in there:
                return str(there)
    return ""


def _macs(root: Path, machine: str) -> set[str]:
    found = None if "/" in machine else _read(root / MACHINES / f"{machine}.xml")
    return (
        set()
        if found is None
        else {each.get("address", "").lower() for each in found.iterfind("devices/interface/mac")}
    )


def _leased(network: etree._Element, machine: str, macs: set[str]) -> str | None:
    hosts = [each for each in network.iterfind("ip/dhcp/host") if ":" not in each.get("ip", "")]
    by_name = [each.get("ip") for each in hosts if each.get("name") == machine]
    by_mac = [each.get("ip") for each in hosts if each.get("mac", "").lower() in macs]
    return next(iter([*by_name, *by_mac]), None)


def translation(forwardings: Sequence[Forwarding]) -> str:
    """The table for nft, which takes the place of the one before."""
    into, answers = [], []
    for each in forwardings:
        to = f"ip daddr {each.listen}" if each.listen else "ip daddr != 127.0.0.0/8 fib daddr type local"
        into.append(f"{to} {each.protocol} dport {each.host} dnat to {each.address}:{each.port}")
        answers.append(f"ct status dnat ip saddr {each.prefix} ip daddr {each.address} masquerade")
    lines = [f"table ip {TABLE} {{}}", f"delete table ip {TABLE}"]
    if into:
        lines.append(f"table ip {TABLE} {{")
        lines += _chain("prerouting", "nat hook prerouting priority -100", into)
        lines += _chain("output", "nat hook output priority -100", into)
        # who is on the network itself would answer past the host
        lines += _chain("postrouting", "nat hook postrouting priority 90", dict.fromkeys(answers))
        lines.append("}")
    return "\n".join([*lines, ""])


def _chain(name: str, what: str, rules: Sequence[str] | dict[str, None]) -> Iterator[str]:
    yield f"chain {name} {{"
    yield f"type {what}; policy accept;"
    yield from rules
    yield "}"


Run = Callable[[Sequence[str], str], str]


def execute(words: Sequence[str], text: str) -> str:
    """Run a program with this as its input, and return what it prints. Raises HostError."""
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=True, timeout=_SECONDS)
    except FileNotFoundError:
        hint = f"install the package of {words[0]} (nftables, iptables)"
        raise HostError(f"{words[0]} is not installed", hint) from None
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip() or f"exit code {error.returncode}"
        raise HostError(f"{words[0]}: {why}", "only root may change the firewall of a host") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"{words[0]} does not answer within {_SECONDS} s") from None
    return done.stdout


def open_ports(forwardings: Sequence[Forwarding], run: Run = execute) -> None:
    """Let these ports lead where they are to, and no others. Raises HostError, such as for who is not root."""
    good = [each for each in forwardings if not each.why_not]
    run(["nft", "-f", "-"], translation(good))
    _before_iptables(good, run)
    _before_nftables(good, run)


def _before_iptables(good: Sequence[Forwarding], run: Run) -> None:
    """Where libvirt's rules are those of iptables."""
    if not _says(run, "iptables", "-w", "-n", "-L", CHAIN if not good else "LIBVIRT_FWI"):
        return
    jump = ["FORWARD", "-j", CHAIN]
    rules = [
        f"-A {CHAIN} -d {each.address}/32 -p {each.protocol} -m {each.protocol} --dport {each.port} "
        "-m conntrack --ctstate DNAT -j ACCEPT"
        for each in good
    ]
    run(["iptables-restore", "-w", "--noflush"], "\n".join(["*filter", f":{CHAIN} - [0:0]", *rules, "COMMIT", ""]))
    while _says(run, "iptables", "-w", "-C", *jump):
        run(["iptables", "-w", "-D", *jump], "")
    if good:
        run(["iptables", "-w", "-I", *jump], "")
    else:
        run(["iptables", "-w", "-X", CHAIN], "")


def _before_nftables(good: Sequence[Forwarding], run: Run) -> None:
    """Where they are those of nft, in a table of libvirt's own (from 10.4 on)."""
    table, before = "ip libvirt_network", "guest_input"
    if not (told := _says(run, "nft", "-a", "list", "chain", *table.split(), before)):
        return
    lines = [
        f"delete rule {table} {before} handle {line.rpartition('# handle ')[2]}"
        for line in told.splitlines()
        if f"jump {TABLE} " in line
    ]
    lines += [f"add chain {table} {TABLE}", f"flush chain {table} {TABLE}"]
    for each in good:
        match = f"ct status dnat ip daddr {each.address} {each.protocol} dport {each.port}"
        lines.append(f"add rule {table} {TABLE} {match} accept")
    lines.append(f"insert rule {table} {before} jump {TABLE}" if good else f"delete chain {table} {TABLE}")
    run(["nft", "-f", "-"], "\n".join([*lines, ""]))


def _says(run: Run, *words: str) -> str:
    """What a question is answered; empty where it is answered by no."""
    try:
        return run(words, "") or " "
    except HostError:
        return ""


def may(host: Host) -> bool:
    """Whether this process may change the host's firewall: it runs there, as root."""
    return os.geteuid() == 0 and way_in(host) is not None


def refresh(host: Host) -> None:
    """Open the ports of a host whose firewall this process `may` change. Raises HostError."""
    if (way := way_in(host)) is None:
        raise HostError("the network of the host is not to be seen any more", "apply again")
    pid, into = way
    open_ports(wanted(Path(f"/proc/{pid}/root")), lambda words, text: execute([*into, *words], text))


@contextmanager
def passing(host: Host, bridge: str) -> Iterator[None]:
    """While this lasts, what is known to the kernel's connection tracking passes a network's bridge, whatever libvirt's
    rules say: with a change of leases it takes all rules of the network out, and puts those that refuse in first. Only
    where this process `may` change the firewall. Raises HostError."""
    way = way_in(host) if os.geteuid() == 0 else None
    if way is None or not _PLAIN.fullmatch(bridge):
        yield
        return
    _, into = way
    known = ["-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"]
    rules = [["FORWARD", side, bridge, *known] for side in ("-i", "-o")]

    def own(words: Sequence[str], text: str = "") -> str:
        return execute([*into, *words], text)

    def take_out() -> None:
        for rule in rules:
            # one that a killed run has left, too
            while _says(own, "iptables", "-w", "-C", *rule):
                own(["iptables", "-w", "-D", *rule])

    if not _says(own, "iptables", "-w", "-n", "-L", "LIBVIRT_FWI"):
        # of rules of nft nobody has seen that they refuse meanwhile
        yield
        return
    take_out()
    for rule in rules:
        own(["iptables", "-w", "-I", *rule])
    try:
        yield
    finally:
        take_out()


def keeps(host: Host) -> bool | None:
    """Whether libvirt runs the hook there which opens ports again after a start; None where that cannot be seen."""
    for pid in sorted(host.sight.daemons()):
        with suppress(OSError):
            root = Path(f"/proc/{pid}/root")
            os.listdir(root / "etc")
            return (root / HOOKS[0]).exists()
    return None
