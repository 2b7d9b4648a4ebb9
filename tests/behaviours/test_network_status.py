"""Who is on a network: interfaces of running machines with their addresses, and leases."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from harness import Project, idle, resource, until

from kvmstate.host import clients as seen
from kvmstate.host.clients import Address, first

MAC = "52:54:00:00:90:01"


@pytest.mark.real
@pytest.mark.usefixtures("network_boot")
def test_who_is_on_a_network(project: Project) -> None:
    hosts = [{"ip": "192.168.90.7", "mac": MAC, "name": "web-1"}]
    ranges = [{"start": "192.168.90.9", "end": "192.168.90.99"}]
    ips = [{"address": "192.168.90.1/24", "dhcp": {"ranges": ranges, "hosts": hosts}}]
    lan = resource("Network", "lan", bridge={"name": "kvlan0"}, ips=ips)
    # with nothing to boot its firmware asks the network
    web = idle("web", interfaces=[{"network": "lan", "mac": MAC}])
    quiet = idle("quiet", interfaces=[{"network": "lan"}])
    off = idle("off", interfaces=[{"network": "lan"}], state="stopped")
    project.converge(lan, web, quiet, off)

    def told() -> list[dict[str, Any]]:
        [row] = json.loads(project.kvmstate("status network/lan", "--json").out)["resources"]
        return list(row["clients"])

    def addresses_of(machine: str) -> Any:
        return next(each["addresses"] for each in told() if each["machine"] == machine)

    [address] = until(lambda: addresses_of("web"), "a lease")
    assert (address["address"], address["source"], address["name"]) == ("192.168.90.7", "lease", "web-1")
    assert 0 < address["until"] - datetime.now().timestamp() <= 3600
    assert [(each["machine"], each["device"][:4]) for each in told()] == [("quiet", "vnet"), ("web", "vnet")]
    with pytest.MonkeyPatch.context() as patch:
        # what libvirt asks its kernel for this is not there on every one
        patch.setattr(
            seen, "_by_host", lambda domain: [(MAC.upper(), ip) for ip in ("fe80::1", "192.168.90.7", "10.0.0.9")]
        )
        assert [(each["address"], each["source"]) for each in addresses_of("web")] == [
            ("192.168.90.7", "lease"),
            ("10.0.0.9", "ARP"),
        ]
    text = project.kvmstate("status network/lan").out
    assert "used by virtual machine off, virtual machine quiet, virtual machine web" in text
    assert "On network/lan:\nMACHINE  DEVICE  MAC                ADDRESSES\nquiet " in text, text
    assert f"{MAC}  192.168.90.7 (lease of web-1, until " in text, text
    assert "| `web` | `vnet" in project.kvmstate("status network/lan", "--format", "markdown").out
    # one that nobody asked of is not looked at
    assert "On network" not in project.kvmstate("status").out
    # a machine that has gone leaves its lease
    project.converge(lan, quiet, off, options=("--prune",))
    left = told()[-1]
    assert (left["machine"], left["addresses"]) == ("", [address])


def test_an_address_is_told_by_the_first_that_knows_it() -> None:
    lease, agent, arp = (
        {"mac": [Address(f"10.0.0.{own}", source), Address("10.0.0.1", source)]}
        for own, source in ((1, "lease"), (2, "agent"), (3, "ARP"))
    )
    found = [(each.address, each.source) for each in first((lease, agent, arp), "mac")]
    assert found == [("10.0.0.1", "lease"), ("10.0.0.2", "agent"), ("10.0.0.3", "ARP")]
    assert first((lease, agent, arp), "other") == ()
