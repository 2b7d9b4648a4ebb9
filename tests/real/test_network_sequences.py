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


CHANGES = (ranges, hosts, names, texts, services, groups, mtu, domain)


def rules(chance: random.Random) -> list[Any]:
    return [
        {"action": chance.choice(("accept", "drop")), "direction": "in", "tcp": {"dstPortStart": 2000 + number}}
        for number in chance.sample(range(9), chance.randrange(1, 4))
    ]


@pytest.mark.parametrize("seed", range(SEED, SEED + SEQUENCES))
def test_nothing_is_left_after_each_edit_and_all_agree(
    project: Project, connection: libvirt.virConnect, seed: int
) -> None:
    chance = random.Random(seed)
    spec, filters = base(), rules(chance)
    number = None
    for _ in range(EDITS):
        for change in chance.sample(CHANGES, chance.randrange(1, 4)):
            change(spec, chance)
        if chance.random() < 0.4:
            filters = rules(chance)
        if not any(spec["ips"][0].get("dhcp", {}).values()):
            spec["ips"][0].pop("dhcp", None)
        project.converge(
            resource("Network", "lan", {"restart": "now"}, **spec),
            resource("NetworkFilter", "web", rules=filters),
            idle("one", interfaces=[{"network": "lan", "filterref": {"filter": "web"}}]),
        )
        number = number or connection.lookupByName("one").ID()
        agree(project, connection, spec, filters)
        assert connection.lookupByName("one").ID() == number


def agree(project: Project, connection: libvirt.virConnect, spec: Spec, filters: list[Any]) -> None:
    network = connection.networkLookupByName("lan")
    wanted = NetworkSpec.model_validate(spec)
    for flags in (0, libvirt.VIR_NETWORK_XML_INACTIVE):
        seen = parse(NetworkSpec, document(network.XMLDesc(flags)))
        for part in ("ips", "dns", "port_groups", "mtu", "domain"):
            assert said(getattr(seen, part)) == said(getattr(wanted, part)), (part, flags)
    folder = project.host.directory / "lib" / "dnsmasq"
    config = read(folder / "lan.conf")
    dhcp = wanted.ips[0].dhcp
    assert re.findall(r"^dhcp-range=([\d.]+),([\d.]+)", config, re.MULTILINE) == [
        (each.start, each.end) for each in (dhcp.ranges if dhcp else ())
    ]
    leases = re.findall(r"192\.168\.94\.\d+", read(folder / "lan.hostsfile"))
    assert sorted(leases) == sorted(each.ip for each in (dhcp.hosts if dhcp else ()))
    dns = wanted.dns
    told = {line.split()[0]: line.split()[1:] for line in read(folder / "lan.addnhosts").splitlines() if line.strip()}
    declared = {each.ip: each.hostnames for each in (dns.hosts if dns else ())}
    assert {ip: names for ip, names in told.items() if ip in declared or not dhcp or ip not in leases} == declared
    assert sorted(re.findall(r"^txt-record=(\w+),\"?(\w+)", config, re.MULTILINE)) == sorted(
        (each.name, each.value) for each in (dns.txt if dns else ())
    )
    assert len(re.findall(r"^srv-host=", config, re.MULTILINE)) == len(dns.srv if dns else ())
    firewall = project.host.directory / "firewall"
    inside(project.host, f"iptables-save >{firewall}; ls /sys/class/net/kvseq0/brif >>{firewall}")
    ports = set(map(int, re.findall(r"--dport (20\d\d) ", firewall.read_text())))
    assert ports == {rule["tcp"]["dstPortStart"] for rule in filters}
    # plugged in also after a restart
    assert "vnet" in firewall.read_text().rpartition("COMMIT")[2]


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
