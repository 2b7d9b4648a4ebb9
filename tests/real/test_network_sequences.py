"""Random edits of networks and filters, one after the other, with machines on them: after each, nothing is left to do,
and what libvirt, dnsmasq and the firewall have is what was declared.

KVMSTATE_NETWORK_SEQUENCES is how many sequences, KVMSTATE_SEED the first one's seed; `script/trials networks` runs 300.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, idle, resource
from trouble import inside

from kvmstate.kinds.network.spec import NetworkSpec
from kvmstate.xmlbind import document, parse

pytestmark = pytest.mark.real

SEED = int(os.environ.get("KVMSTATE_SEED", "1"))
SEQUENCES = int(os.environ.get("KVMSTATE_NETWORK_SEQUENCES", "3"))
EDITS = 5
NAMES = ("a", "b", "c")
Spec = dict[str, Any]


def base() -> Spec:
    return {
        "bridge": {"name": "kvseq0", "stp": False},
        "forward": {"mode": "nat"},
        "ips": [{"address": "192.168.94.1/24"}],
    }


def some(chance: random.Random, make: Callable[[int], Any]) -> list[Any]:
    return [make(number) for number in sorted(chance.sample(range(3), chance.randrange(4)))]


def ranges(spec: Spec, chance: random.Random) -> None:
    def one(number: int) -> Spec:
        start = 100 + 20 * number
        lease = chance.choice([{}, {"lease": "2h"}, {"lease": "infinite"}])
        return {"start": f"192.168.94.{start}", "end": f"192.168.94.{start + chance.randrange(1, 19)}", **lease}

    spec["ips"][0].setdefault("dhcp", {})["ranges"] = some(chance, one)


def hosts(spec: Spec, chance: random.Random) -> None:
    def one(number: int) -> Spec:
        name = {"name": f"{chance.choice(NAMES)}{number}"} if chance.random() < 0.7 else {}
        lease = {"lease": "3h"} if chance.random() < 0.3 else {}
        return {
            "ip": f"192.168.94.{10 + number}",
            "mac": f"52:54:00:00:94:{chance.randrange(8)}{number}",
            **name,
            **lease,
        }

    spec["ips"][0].setdefault("dhcp", {})["hosts"] = some(chance, one)


def names(spec: Spec, chance: random.Random) -> None:
    spec.setdefault("dns", {})["hosts"] = some(
        chance,
        lambda number: {
            "ip": f"192.168.94.{50 + number}",
            "hostnames": [f"{name}{number}" for name in chance.sample(NAMES, chance.randrange(1, 4))],
        },
    )


def texts(spec: Spec, chance: random.Random) -> None:
    spec.setdefault("dns", {})["txt"] = some(
        chance, lambda number: {"name": f"t{number}", "value": f"v{chance.randrange(3)}"}
    )


def services(spec: Spec, chance: random.Random) -> None:
    spec.setdefault("dns", {})["srv"] = some(
        chance,
        lambda number: {"service": f"s{number}", "protocol": "tcp", "target": "dc", "port": chance.randrange(1, 9)},
    )


def groups(spec: Spec, chance: random.Random) -> None:
    spec["portGroups"] = some(
        chance, lambda number: {"name": f"g{number}", "trustGuestRxFilters": chance.random() < 0.5}
    )


def mtu(spec: Spec, chance: random.Random) -> None:
    """What is for a restart of the network."""
    spec["mtu"] = chance.randrange(1300, 1500)


def domain(spec: Spec, chance: random.Random) -> None:
    spec["domain"] = {"name": f"{chance.choice(NAMES)}.example", "localOnly": chance.random() < 0.5}


def forward(spec: Spec, chance: random.Random) -> None:
    first = chance.randrange(1024, 2048)
    ports = {"mode": "nat", "nat": {"port": {"start": first, "end": first + chance.randrange(1, 999)}}}
    spec["forward"] = chance.choice([{"mode": "nat"}, ports, {"mode": "route"}, {"mode": "open"}])


def ipv6(spec: Spec, chance: random.Random) -> None:
    """A second address, which leases some, or not."""
    del spec["ips"][1:]
    if chance.random() < 0.8:
        leased = {"ranges": [{"start": "fd00:94::100", "end": f"fd00:94::{chance.randrange(200, 300)}"}]}
        fixed = {"hosts": [{"ip": "fd00:94::5", "name": chance.choice(NAMES)}]}
        dhcp = chance.choice([{}, {"dhcp": leased}, {"dhcp": {**leased, **fixed}}])
        spec["ips"].append({"address": "fd00:94::1/64", **dhcp})


def routes(spec: Spec, chance: random.Random) -> None:
    spec["routes"] = some(chance, lambda number: {"to": f"10.94.{number}.0/24", "gateway": "192.168.94.2"})


def forwarders(spec: Spec, chance: random.Random) -> None:
    spec.setdefault("dns", {})["forwarders"] = some(chance, lambda number: {"addr": f"127.0.0.{50 + number}"})


LIVE = (ranges, hosts, names, texts, services, groups)
# what is for a restart of the network is rarer
CHANGES = (*LIVE, *LIVE, mtu, domain, forward, ipv6, routes, forwarders)


def rules(chance: random.Random) -> list[Any]:
    return [
        {"action": chance.choice(("accept", "drop")), "direction": "in", "tcp": {"dstPortStart": 2000 + number}}
        for number in chance.sample(range(9), chance.randrange(1, 4))
    ]


@pytest.mark.parametrize("seed", range(1000 * SEED, 1000 * SEED + SEQUENCES))
def test_nothing_is_left_after_each_edit_and_all_agree(
    project: Project, connection: libvirt.virConnect, seed: int
) -> None:
    chance = random.Random(seed)
    spec, filters, other = base(), rules(chance), "stopped"
    number = None
    for _ in range(EDITS):
        for change in chance.sample(CHANGES, chance.randrange(1, 4)):
            change(spec, chance)
        if chance.random() < 0.4:
            filters = rules(chance)
        if chance.random() < 0.3:
            other = chance.choice(("running", "stopped"))
        if not any(spec["ips"][0].get("dhcp", {}).values()):
            spec["ips"][0].pop("dhcp", None)
        project.converge(
            resource("Network", "lan", {"restart": "now"}, **spec),
            resource("NetworkFilter", "web", rules=filters),
            idle("one", interfaces=[{"network": "lan", "filterref": {"filter": "web"}}]),
            idle("two", state=other, interfaces=[{"network": "lan"}]),
        )
        number = number or connection.lookupByName("one").ID()
        agree(project, connection, spec, filters, 1 + (other == "running"))
        assert connection.lookupByName("one").ID() == number


def agree(project: Project, connection: libvirt.virConnect, spec: Spec, filters: list[Any], machines: int) -> None:
    network = connection.networkLookupByName("lan")
    wanted = NetworkSpec.model_validate(spec)
    for flags in (0, libvirt.VIR_NETWORK_XML_INACTIVE):
        seen = parse(NetworkSpec, document(network.XMLDesc(flags)))
        for part in ("ips", "routes", "dns", "port_groups", "mtu", "domain"):
            assert said(getattr(seen, part)) == said(getattr(wanted, part)), (part, flags)
        assert mode(seen) == mode(wanted), flags
    told(project.host.directory / "lib" / "dnsmasq", wanted)
    carried_out(project, wanted, {rule["tcp"]["dstPortStart"] for rule in filters}, machines)


def told(folder: Path, wanted: NetworkSpec) -> None:
    """What dnsmasq was told."""
    config = read(folder / "lan.conf")
    dhcp = [ip.dhcp for ip in wanted.ips if ip.dhcp]
    dns = wanted.dns
    assert sorted(re.findall(r"^dhcp-range=([\da-f.:]+),([\da-f.:]+),", config, re.MULTILINE)) == sorted(
        (each.start, each.end) for of in dhcp for each in of.ranges
    )
    leases = re.findall(r"192\.168\.94\.\d+|fd00:94::\d+", read(folder / "lan.hostsfile"))
    assert sorted(leases) == sorted(each.ip for of in dhcp for each in of.hosts)
    names = {line.split()[0]: line.split()[1:] for line in read(folder / "lan.addnhosts").splitlines() if line.strip()}
    declared = {each.ip: each.hostnames for each in (dns.hosts if dns else ())}
    assert {ip: found for ip, found in names.items() if ip in declared or ip not in leases} == declared
    assert sorted(re.findall(r"^txt-record=(\w+),\"?(\w+)", config, re.MULTILINE)) == sorted(
        (each.name, each.value) for each in (dns.txt if dns else ())
    )
    assert len(re.findall(r"^srv-host=", config, re.MULTILINE)) == len(dns.srv if dns else ())
    assert sorted(re.findall(r"^server=(127\.0\.0\.5\d)$", config, re.MULTILINE)) == sorted(
        each.addr or "" for each in (dns.forwarders if dns else ())
    )


def carried_out(project: Project, wanted: NetworkSpec, ports: set[int], machines: int) -> None:
    """What the host's firewall, addresses, routes and bridge are."""
    said = project.host.directory / "said"

    def ask(command: str) -> str:
        inside(project.host, f"{{ {command}; }} >{said} 2>/dev/null")
        return said.read_text()

    firewall = ask("iptables-save; nft list table ip libvirt_network || true")
    assert ports == set(map(int, re.findall(r"--dport (20\d\d) ", firewall)))
    assert bool(re.search("masquerade", firewall, re.IGNORECASE)) == (mode(wanted) == "nat")
    if wanted.forward and (nat := wanted.forward.nat) and nat.port:
        assert f"{nat.port.start}-{nat.port.end}" in firewall
    # plugged in also after a restart
    assert len(ask("ls /sys/class/net/kvseq0/brif").split()) == machines
    found = set(re.findall(r"inet6? (192[\d./]+|fd00[\da-f:/]+)", ask("ip address show dev kvseq0")))
    assert found == {ip.address for ip in wanted.ips}
    assert set(re.findall(r"10\.94[\d./]+", ask("ip route"))) == {route.to for route in wanted.routes}


def mode(network: NetworkSpec) -> str | None:
    return network.forward.mode if network.forward else None


def said(value: Any) -> Any:
    """What is said of it, without what is empty."""
    if isinstance(value, list):
        return sorted((said(each) for each in value), key=str)
    if hasattr(value, "model_dump"):
        found = {name: said(getattr(value, name)) for name in type(value).model_fields}
        return {name: each for name, each in found.items() if each not in (None, [], {}, False)} or None
    return value


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
