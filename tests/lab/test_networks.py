"""What networks promise, looked at in the packets of two guests: VLANs and trunks of Open vSwitch, limits of traffic,
ports that are isolated. All is changed under the guests, which run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from guests import FOLDER, Shell, prepared, tell
from harness import Project, idle, resource, until, wipe
from lab_host import Lab

if TYPE_CHECKING:
    from tests.conftest import Guest

pytestmark = pytest.mark.timeout(1800)
NOW = {"restart": "now"}
OVS = {"type": "openvswitch"}
HOST = ("192.168.97.1", "fd00:97::1")
PORT_ID = "6c1d4a52-3f0b-4f6b-9d5e-0f5a3c9b7a11"
# what limits are measured by, in KiB/s
LIMIT, WIDER = 48, 144


def tags(*ids: int) -> dict[str, Any]:
    return {"tags": [{"id": each} for each in ids]}


def trunk(*ids: int) -> dict[str, Any]:
    return {"trunk": True, **tags(*ids)}


def of(vlan: int, number: int, net: int = 97) -> tuple[str, str]:
    """The addresses of a guest in a VLAN: each VLAN has its prefixes, and so has each card of two's."""
    return f"10.{net}.{vlan}.{number}", f"fd00:{net}:{vlan}::{number}"


def with_prefix(addresses: tuple[str, str]) -> tuple[str, str]:
    return f"{addresses[0]}/24", f"{addresses[1]}/64"


class World:
    """Two guests, each with a card on a network of the host's own and one on a switch, where two has a second one."""

    def __init__(self, lab: Lab, project: Project) -> None:
        self.lab, self.project = lab, project
        self.one, self.two = Shell(lab, "one"), Shell(lab, "two")

    def documents(
        self,
        lan: dict[str, Any] | None = None,
        groups: dict[str, Any] | None = None,
        **nics: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """`nics` say more of interfaces, by their names (one_lan), or in place of all (None: it is not there)."""
        ips = [{"address": f"{HOST[0]}/24"}, {"address": f"{HOST[1]}/64"}]
        of_groups = {"office": tags(10), "lab": trunk(10, 20), **(groups or {})}
        port_groups = [
            {"name": name, "vlan": vlan, **({"default": True} if name == "office" else {})}
            for name, vlan in of_groups.items()
        ]
        networks = [
            resource("Network", "lan", NOW, bridge={"name": "kvnets0", "stp": False}, ips=ips, **(lan or {})),
            resource(
                "Network", "switch", forward={"mode": "bridge"}, bridge={"name": "ovsnets"}, virtualPort=OVS,
                portGroups=port_groups,
            ),
        ]  # fmt: skip
        there = {
            "one_lan": {"network": "lan", "mac": "52:54:00:00:97:11"},
            "one_switch": {"network": "switch", "mac": "52:54:00:00:97:12"},
            "two_lan": {"network": "lan", "mac": "52:54:00:00:97:21"},
            "two_switch": {"network": "switch", "mac": "52:54:00:00:97:22"},
            "two_group": {"network": "switch", "mac": "52:54:00:00:97:23", "portgroup": "lab"},
            **({"one_more": {}} if "one_more" in nics else {}),
        }
        machines = [
            Shell.machine(
                name,
                [
                    {"name": nic, **spec, **nics.get(nic, {})}
                    for nic, spec in there.items()
                    if nic.startswith(name) and nics.get(nic, {}) is not None
                ],
            )
            for name in ("one", "two")
        ]
        return [*networks, *machines]

    def becomes(self, **changes: Any) -> str:
        """Have it so, with both guests running on; what the apply says."""
        before = self.processes()
        applied = self.project.converge(*self.documents(**changes))
        assert self.processes() == before
        return applied.out

    def processes(self) -> str:
        return self.lab.run("cat /run/libvirt/qemu/one.pid /run/libvirt/qemu/two.pid")

    def port(self, mac: str, columns: str) -> str:
        """What the switch says of the port of a guest's card."""
        listed = "{ virsh domiflist one; virsh domiflist two; }"
        name = f"$({listed} | awk '/{mac}/ {{print $1}}')"
        return self.lab.run(f"ovs-vsctl --bare --columns={columns} find port name={name}")


@pytest.fixture(scope="module")
def world(lab: Lab, guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    wipe(lab.uri)
    prepared(lab, guest.vmlinuz.read_bytes(), guest.initrd.read_bytes())
    lab.run("ovs-vsctl --may-exist add-br ovsnets")
    made = World(lab, Project(lab.uri, tmp_path_factory.mktemp("networks") / "shop"))
    try:
        made.project.converge(*made.documents())
        for number, shell in enumerate((made.one, made.two), 1):
            shell.ready()
            assert shell.run("cat /sys/class/net/eth0/address") == f"52:54:00:00:97:{number}1"
            shell.takes("eth0", f"192.168.97.1{number}/24", f"fd00:97::1{number}/64")
        addressed(made.one)
        made.two.takes("eth1", *(each for vlan in (10, 20, 30) for each in with_prefix(of(vlan, 2))))
        tagged(made.two, "eth2")
        yield made
    finally:
        wipe(lab.uri)
        lab.run(f"ovs-vsctl --if-exists del-br ovsnets; rm -rf {FOLDER}", False)


def addressed(one: Shell) -> None:
    """One is in all prefixes, whichever VLAN its card is in."""
    nets = [(vlan, net) for vlan in (10, 20, 30) for net in (97, 98)]
    one.takes("eth1", *(each for vlan, net in nets for each in with_prefix(of(vlan, 1, net))))


def tagged(shell: Shell, device: str) -> None:
    """Interfaces in the VLANs 10, 20 and 30 on a card of the guest's, which is asked by these alone."""
    shell.run("echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore")
    shell.takes(device)
    for vlan in (10, 20, 30):
        shell.run(f"ip link add link {device} name {device}.{vlan} type vlan id {vlan}")
        shell.takes(f"{device}.{vlan}", *with_prefix(of(vlan, 2, 98)))


def only(reached: tuple[str, ...], *others: tuple[str, ...]) -> dict[str, bool]:
    return {**dict.fromkeys(reached, True), **dict.fromkeys((each for other in others for each in other), False)}


def test_guests_of_one_vlan_reach_each_other_and_no_others(world: World) -> None:
    """Of the default port group, then of VLANs of their own, changed while they run."""
    world.becomes()
    assert world.port("97:12", "tag") == world.port("97:22", "tag") == "10"
    there = of(10, 2)
    assert world.one.reaches(*there) == only(there)
    world.becomes(two_switch={"vlan": tags(20)})
    assert world.port("97:22", "tag") == "20"
    assert world.one.reaches(*there) == only((), there)
    world.becomes(one_switch={"vlan": tags(20)}, two_switch={"vlan": tags(20)})
    assert world.one.reaches(*there) == only(there)
    world.becomes(one_switch={"vlan": tags(20)})
    assert world.port("97:22", "tag") == "10"
    assert world.one.reaches(*there) == only((), there)
    assert world.two.reaches(*of(10, 1)) == only((), of(10, 1))


def test_a_trunk_leads_to_its_vlans_and_to_no_others(world: World) -> None:
    """Two's second card is of a port group with a trunk; one moves from VLAN to VLAN."""
    world.becomes()
    assert sorted(world.port("97:23", "trunks").split()) == ["10", "20"]
    all_of = {vlan: of(vlan, 2, 98) for vlan in (10, 20, 30)}
    asked = [each for addresses in all_of.values() for each in addresses]
    for vlan in (10, 20, 30):
        world.becomes(one_switch={"vlan": tags(vlan)})
        reached = all_of[vlan] if vlan != 30 else ()
        assert world.one.reaches(*asked) == {each: each in reached for each in asked}, vlan
    # a trunk of its own, with another VLAN
    world.becomes(one_switch={"vlan": tags(30)}, two_group={"vlan": trunk(10, 20, 30)})
    assert world.one.reaches(*asked) == {each: each in all_of[30] for each in asked}
    world.becomes(one_switch={"vlan": tags(30)}, two_group={"vlan": trunk(20, 30)})
    assert world.one.reaches(*all_of[30]) == only(all_of[30])
    world.becomes(one_switch={"vlan": tags(10)}, two_group={"vlan": trunk(20, 30)})
    assert world.one.reaches(*asked) == only((), *all_of.values())


def test_what_a_trunk_has_without_a_tag(world: World) -> None:
    native = {"trunk": True, "tags": [{"id": 20, "nativeMode": "untagged"}, {"id": 10}]}
    world.becomes(one_switch={"vlan": tags(20)}, two_switch={"vlan": native})
    assert world.port("97:22", "vlan_mode") == "native-untagged"
    assert world.one.reaches(*of(20, 2)) == only(of(20, 2))
    world.becomes(one_switch={"vlan": tags(10)}, two_switch={"vlan": native})
    assert world.one.reaches(*of(20, 2), *of(10, 2)) == only((), of(20, 2), of(10, 2))


def test_a_port_group_that_changes_holds_for_what_is_plugged_in_later(world: World) -> None:
    there = of(30, 2, 98)
    world.becomes(one_switch={"vlan": tags(30)})
    assert world.one.reaches(*there) == only((), there)
    wider = {"lab": trunk(10, 20, 30)}
    world.becomes(one_switch={"vlan": tags(30)}, groups=wider)
    assert world.one.reaches(*there) == only((), there)
    plugged_again(world, groups=wider)
    assert world.one.reaches(*there) == only(there)
    plugged_again(world)
    assert world.one.reaches(*there) == only((), there)


def plugged_again(world: World, **changes: Any) -> None:
    """Take the card out that is in the port group, and put it in again."""
    world.becomes(one_switch={"vlan": tags(30)}, two_group=None, **changes)
    world.becomes(one_switch={"vlan": tags(30)}, **changes)
    until(lambda: "eth2" in world.two.run("ls /sys/class/net"), "the card", 120)
    tagged(world.two, "eth2")


def test_a_port_of_the_bridge_itself_says_what_the_switch_calls_it(world: World) -> None:
    """Without a network, as another card of one's."""
    port = {"bridge": "ovsnets", "mac": "52:54:00:00:97:13", "vlan": tags(20)}
    world.becomes(one_more={**port, "virtualport": {**OVS, "interfaceid": PORT_ID}})
    assert PORT_ID in world.lab.run(
        "ovs-vsctl --bare --columns=external_ids find interface 'external_ids:attached-mac=\"52:54:00:00:97:13\"'"
    )
    until(lambda: "eth2" in world.one.run("ls /sys/class/net"), "the card", 120)
    # of one card alone
    world.one.run("ip addr flush dev eth1")
    world.one.takes("eth2", *with_prefix(of(20, 1, 98)), *with_prefix(of(30, 1, 98)))
    asked = (*of(20, 2, 98), *of(30, 2, 98))
    assert world.one.reaches(*asked) == only(asked[:2], asked[2:])
    world.becomes(one_more={**port, "vlan": tags(30), "virtualport": {**OVS, "interfaceid": PORT_ID}})
    assert world.one.reaches(*asked) == only((), asked)
    world.becomes()
    addressed(world.one)


def test_a_card_goes_from_a_switch_to_a_bridge_and_back_with_a_restart(world: World, tmp_path: Path) -> None:
    project = Project(world.lab.uri, tmp_path / "cards")
    over = {"forward": {"mode": "bridge"}, "bridge": {"name": "ovsnets"}, "virtualPort": OVS}
    networks = [
        resource("Network", "cards-a", **over),
        resource("Network", "cards-b", **over),
        resource("Network", "cards-c"),
    ]

    def plugged(name: str, lifecycle: dict[str, Any] | None = None) -> dict[str, Any]:
        return idle("cards", lifecycle, interfaces=[{"name": "one", "network": name}])

    try:
        project.converge(*networks, plugged("cards-a"))
        for before, after in (("a", "b"), ("b", "c"), ("c", "a")):
            project.write(*networks, plugged(f"cards-{after}"))
            said = project.plan().out
            assert f"cards-{before} -> cards-{after}   (restart required)" in said, said
            refused = plugged(f"cards-{after}", {"restart": "never"})
            project.write(*networks, refused)
            assert "blocked: lifecycle.restart: never refuses a restart" in project.plan().out
            project.converge(*networks, plugged(f"cards-{after}", NOW))
            assert f"cards-{after}" in world.lab.run("virsh domiflist cards")
    finally:
        project.converge()


def carried(world: World) -> dict[str, float]:
    """In KiB a second: from the host, and to it, by either family."""
    return {f"{way} {at}": world.one.carries(way, at) for at in HOST for way in ("in", "out")}


def holds(limit: int, found: dict[str, float]) -> bool:
    """An emulated machine may carry less at times, but never more than what its burst leaves."""
    return all(0.6 * limit <= each <= 1.15 * limit for each in found.values())


def both_ways(rate: int) -> dict[str, Any]:
    return {"bandwidth": {"inbound": {"average": rate}, "outbound": {"average": rate}}}


def test_limits_of_an_interface_hold_and_go(world: World) -> None:
    world.becomes()
    free = carried(world)
    world.becomes(one_lan=both_ways(LIMIT))
    limited = carried(world)
    world.becomes(one_lan=both_ways(WIDER))
    wider = carried(world)
    world.becomes()
    again = carried(world)
    tell({"free": free, "limited": limited, "wider": wider, "free again": again})
    assert holds(LIMIT, limited)
    assert holds(WIDER, wider)
    assert min(*free.values(), *again.values()) > 2 * WIDER


def test_limits_of_a_network_hold_for_its_guests(world: World) -> None:
    """It starts again with them, and its guests stay in it."""
    said = world.becomes(lan=both_ways(LIMIT))
    assert "the running machines one, two are plugged in again" in said
    limited = carried(world)
    world.becomes(lan=both_ways(WIDER))
    wider = carried(world)
    world.becomes()
    free = carried(world)
    tell({"limited": limited, "wider": wider, "free": free})
    assert holds(LIMIT, limited)
    assert holds(WIDER, wider)
    assert min(free.values()) > 2 * WIDER


def test_isolated_guests_reach_the_host_alone(world: World) -> None:
    world.becomes()
    there = ("192.168.97.12", "fd00:97::12")
    assert world.one.reaches(*HOST, *there) == only((*HOST, *there))
    world.becomes(one_lan={"isolated": True}, two_lan={"isolated": True})
    assert world.one.reaches(*HOST, *there) == only(HOST, there)
    assert world.two.reaches(*HOST) == only(HOST)
    world.becomes(one_lan={"isolated": True})
    assert world.one.reaches(*HOST, *there) == only((*HOST, *there))


def test_a_network_isolates_all_that_are_on_it(world: World) -> None:
    there = ("192.168.97.12", "fd00:97::12")
    world.becomes(lan={"isolated": True})
    assert world.one.reaches(*HOST, *there) == only(HOST, there)
    assert world.two.reaches(*HOST) == only(HOST)
    world.becomes()
    assert world.one.reaches(*HOST, *there) == only((*HOST, *there))
