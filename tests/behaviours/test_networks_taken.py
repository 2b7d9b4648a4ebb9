"""What of a network somebody else has already is told by plan: what libvirt would refuse is blocked."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Project, resource

from kvmstate import sandbox

pytestmark = pytest.mark.real

OTHER = (
    "<network><name>other</name><bridge name='kvmtaken'/><ip address='10.96.0.1' prefix='24'/></network>"
)  # fmt: skip


@pytest.fixture
def other(connection: libvirt.virConnect) -> libvirt.virNetwork:
    made = connection.networkDefineXML(OTHER)
    made.create()
    return made


def lan(**spec: Any) -> dict[str, Any]:
    return resource("Network", "lan", **spec)


def on_host(project: Project, script: str) -> None:
    assert sandbox.execute(project.host, ["sh", "-ec", script]) == 0


def blocked(project: Project, *documents: dict[str, Any]) -> str:
    project.write(*documents)
    planned = project.plan()
    assert "blocked: " in planned.out, planned
    return planned.out


def test_the_bridge_of_another_network(project: Project, connection: Any, other: Any) -> None:
    mine = lan(bridge={"name": "kvmtaken"})
    assert "the bridge kvmtaken is also that of network other" in blocked(project, mine)
    with pytest.raises(libvirt.libvirtError):
        connection.networkDefineXML("<network><name>lan</name><bridge name='kvmtaken'/></network>")
    # its guests may use it
    project.converge(lan(bridge={"name": "kvmtaken"}, forward={"mode": "bridge"}))


def test_a_bridge_that_libvirt_has_chosen(project: Project, connection: Any) -> None:
    project.converge(lan())
    chosen = connection.networkLookupByName("lan").bridgeName()
    project.write(lan(), resource("Network", "office", bridge={"name": chosen}))
    said = project.plan().out
    assert f"the bridge {chosen} is also that of network lan" in said
    assert "plugged in again" not in said
    # its own one may be named
    project.converge(lan(bridge={"name": chosen}))
    # who leaves it leaves it to another one with its restart
    office = resource("Network", "office", bridge={"name": chosen})
    assert f"the bridge {chosen} is also that of network lan" in blocked(
        project, lan(bridge={"name": "kvmlan"}), office
    )
    project.write(resource("Network", "lan", {"restart": "now"}, bridge={"name": "kvmlan"}), office)
    assert "is also that of" not in project.plan().out
    project.apply()
    project.converge()


def test_a_network_that_is_there_does_not_take_the_bridge_of_another_one(project: Project, other: Any) -> None:
    project.converge(lan())
    assert "the bridge kvmtaken is also that of network other" in blocked(project, lan(bridge={"name": "kvmtaken"}))
    other.destroy()
    assert "the bridge kvmtaken is also that of network other" in blocked(project, lan(bridge={"name": "kvmtaken"}))
    project.converge(lan())


def test_the_prefix_of_another_network(project: Project, connection: Any, other: Any) -> None:
    mine = lan(ips=[{"address": "10.96.0.2/24"}])
    assert "10.96.0.0/24 is also the prefix of network other, which runs" in blocked(project, mine)
    text = "<network><name>lan</name><ip address='10.96.0.2' prefix='24'/></network>"
    there = connection.networkDefineXML(text)
    with pytest.raises(libvirt.libvirtError):
        there.create()
    there.undefine()
    # as long as it runs
    other.destroy()
    project.converge()


def test_the_prefix_of_a_network_that_leaves(project: Project) -> None:
    """It goes after the others have come."""
    ips = [{"address": "10.98.0.1/24"}]
    project.converge(lan(ips=ips))
    renamed = resource("Network", "lanx", ips=ips)
    told = blocked(project, renamed)
    assert "10.98.0.0/24 is also the prefix of network lan, which runs" in told
    assert "rename it with `moved` in kvmstate.yaml" in told
    # meanwhile it stays as it is
    assert project.apply("--prune").code == 1
    (project.folder / "kvmstate.yaml").write_text(
        (project.folder / "kvmstate.yaml").read_text() + "moved: [{from: network/lan, to: network/lanx}]\n"
    )
    project.converge(renamed)


def test_a_device_and_a_route_of_the_host(project: Project) -> None:
    on_host(project, "ip link add kvmhost type bridge; ip address add 10.97.0.9/24 dev kvmhost; ip link set kvmhost up")
    try:
        assert "the host has a device kvmhost already" in blocked(project, lan(bridge={"name": "kvmhost"}))
        assert "the host reaches 10.97.0.0/24 through kvmhost" in blocked(
            project, lan(ips=[{"address": "10.97.0.1/24"}])
        )
        # that which is wider, or narrower, is told: it may be meant
        project.write(lan(ips=[{"address": "10.97.0.1/16"}]))
        assert "10.97.0.0/16 overlaps with 10.97.0.0/24, which the host reaches through kvmhost" in project.plan().out
        project.converge()
    finally:
        on_host(project, "ip link delete kvmhost")


def test_a_wider_prefix_of_another_network_is_told(project: Project, other: Any) -> None:
    assert "10.96.0.1 is also the address of network other" in blocked(project, lan(ips=[{"address": "10.96.0.1/16"}]))
    project.write(lan(ips=[{"address": "10.96.1.1/16"}]))
    assert "10.96.0.0/16 overlaps with 10.96.0.0/24 of network other" in project.plan().out
    project.converge()


def test_what_the_host_lacks_is_told(project: Project) -> None:
    for spec in (
        {"forward": {"mode": "bridge"}, "bridge": {"name": "kvmnone"}},
        {"forward": {"mode": "private", "interfaces": [{"dev": "kvmnone"}]}},
        {"forward": {"mode": "nat", "dev": "kvmnone"}, "ips": [{"address": "10.98.0.1/24"}]},
    ):
        project.write(lan(**spec))
        assert "the host has no device kvmnone" in project.plan().out


def test_a_domain_that_another_network_has_is_told(project: Project, connection: Any) -> None:
    text = "<network><name>other</name><domain name='lab.example'/><ip address='10.96.0.1' prefix='24'/></network>"
    connection.networkDefineXML(text)
    mine = [
        resource("Network", name, domain={"name": "lab.example"}, ips=[{"address": f"10.98.{number}.1/24"}])
        for number, name in enumerate(("lan", "office"))
    ]
    project.write(*mine)
    said = project.plan().out
    assert "lab.example is also the domain of network office; lab.example is also the domain of network other" in said
    assert "lab.example is also the domain of network lan; lab.example is also the domain of network other" in said
    project.converge()


def test_ipv6_routes_by_router_advertisements_that_forwarding_ends_are_told(project: Project) -> None:
    on_host(
        project, "ip link add kvmra type bridge; ip address add fd00:96::9/64 dev kvmra nodad; ip link set kvmra up"
    )
    on_host(project, "ip -6 route add default via fd00:96::1 dev kvmra proto ra")
    try:
        six = lan(forward={"mode": "route"}, ips=[{"address": "fd00:97::1/64"}])
        project.write(six)
        assert "set net.ipv6.conf.kvmra.accept_ra=2 there" in project.plan().out
        # none of it where nothing is forwarded, or where they are taken all the same
        project.write(lan(ips=[{"address": "fd00:97::1/64"}]))
        assert "accept_ra" not in project.plan().out
        on_host(project, "echo 2 >/proc/sys/net/ipv6/conf/kvmra/accept_ra")
        project.write(six)
        assert "accept_ra" not in project.plan().out
    finally:
        on_host(project, "ip link delete kvmra")


def test_own_networks_and_their_bridges_are_no_strangers(project: Project, connection: Any) -> None:
    """Also when one takes over what another had, and where only a part is looked at."""
    one = resource("Network", "one", {"restart": "now"}, bridge={"name": "kvmone"}, ips=[{"address": "10.98.0.1/24"}])
    project.converge(one)
    two = {**one, "spec": {**one["spec"], "mtu": 1400}}
    project.converge(two)
    connection.networkLookupByName("one").destroy()
    assert "blocked" not in project.plan().out
    project.converge()
