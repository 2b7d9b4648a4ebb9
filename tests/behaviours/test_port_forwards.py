"""Ports of the host lead to machines on NAT networks, as long as both run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Guest, Project, await_answer, await_old, idle, kvmstate, resource
from trouble import inside

from kvmstate import sandbox
from kvmstate.errors import HostError
from kvmstate.host.forwards import Forwarding, open_ports, translation, wanted

URI = "https://kvmstate.dev/xmlns/port-forwards/1.0"


def lan(*forwards: dict[str, Any], at: str = "192.168.91.7", **spec: Any) -> dict[str, Any]:
    hosts = [{"ip": at, "name": "web", "mac": "52:54:00:00:91:07"}]
    ips = [{"address": "192.168.91.1/24", "dhcp": {"hosts": hosts}}]
    told = {"portForwards": [*forwards]} if forwards else {}
    return resource(
        "Network",
        "lan",
        bridge={"name": "kvfwd0", "stp": False},
        **{"forward": {"mode": "nat"}, "ips": ips, **told, **spec},
    )


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Project]:
    """A project on a host of this test's own, with somebody outside of it, whose libvirt has the hooks."""
    tree = None
    started = sandbox.start(f"forwards-{tmp_path.parent.name}", tree)
    try:
        project = Project(started, tmp_path / "shop")
        # nothing of the host itself answers there
        inside(started, "iptables -A INPUT -p tcp --dport 8080 -j DROP; iptables -A INPUT -p tcp --dport 8081 -j DROP")
        inside(started, "ip netns add out && ip link add o0 type veth peer name o1 netns out")
        inside(started, "ip addr add 10.77.0.1/24 dev o0; ip link set o0 up")
        inside(started, "ip -n out addr add 10.77.0.2/24 dev o1; ip -n out link set o1 up")
        yield project
    finally:
        sandbox.stop(started.name)


def reached(project: Project, port: int = 8080, seconds: int = 1) -> bool:
    """Nobody listens in the guest, which says so itself for what reaches it."""
    connects = f"import socket; socket.create_connection(('10.77.0.1', {port}), {seconds})"
    once = f'ip netns exec out python3 -c "{connects}" 2>&1 | grep -q refused'
    script = f"for i in {'1 2 3 4 5' if seconds > 3 else '1'}; do {once} && exit 0; done; exit 1"
    return sandbox.execute(project.host, ["sh", "-c", script]) == 0


@pytest.mark.real
def test_a_port_that_leads_nowhere_is_told(project: Project, connection: libvirt.virConnect) -> None:
    forward = {"host": 8080, "machine": "web", "port": 80, "address": "192.168.91.9"}
    project.write(lan(forward))
    assert "port 8080 leads to web, which is not there" in project.plan().out
    project.write(lan(forward), idle("web"))
    assert "port 8080 leads to web, which has no interface on it" in project.plan().out
    project.write(lan(forward), idle("web", interfaces=[{"network": "lan"}]))
    assert "port 8080 leads" not in project.plan().out
    # somebody else's may be on it
    connection.defineXML("<domain type='qemu'><name>web</name><memory>32768</memory><os><type>hvm</type></os></domain>")
    project.write(lan(forward))
    assert "port 8080 leads" not in project.plan().out


@pytest.mark.real
def test_a_port_of_the_host_leads_to_a_machine(own: Project, tiny: Guest) -> None:
    web = tiny.machine("web", interfaces=[{"network": "lan", "mac": "52:54:00:00:91:07"}])
    forward = {"host": 8080, "machine": "web", "port": 80}
    own.converge(lan(), web)
    assert tiny.says(r"nics=[^ ,]*=(192\.168\.91\.7) ")
    assert not reached(own)
    own.write(lan(forward), web)
    planned = own.plan().out
    assert "portForwards" in planned
    assert "`kvmstate service forwards install` there keeps them open after a start" in planned
    own.converge()
    assert reached(own, seconds=20)
    # changed and taken out while both run
    own.converge(lan({**forward, "host": 8081}), web)
    assert (reached(own, 8081, 20), reached(own, 8080)) == (True, False)
    # and while the machine goes and comes, of which no hook tells
    own.converge(lan(forward), web | {"spec": {**web["spec"], "state": "stopped"}})
    assert "dnat to 192.168.91.7:80" not in rules(own)
    own.converge(lan(forward), web)
    assert "dnat to 192.168.91.7:80" in rules(own)
    assert tiny.says(r"nics=[^ ,]*=(192\.168\.91\.7) ")
    # and with the machine's lease, of which the guest hears later
    own.converge(lan(forward, at="192.168.91.8"), web)
    assert "dnat to 192.168.91.8:80" in rules(own)
    own.converge(lan(forward), web)

    # a start of the network makes libvirt's rules again, before which ours come
    folder = own.folder / "root"
    assert kvmstate("service", "forwards", "install", "--root", str(folder)).code == 0
    inside(own.host, f"mkdir -p /etc/libvirt/hooks && cp -r {folder}/etc/libvirt/hooks/. /etc/libvirt/hooks/")
    os.kill(await_old(own.host), signal.SIGTERM)
    await_answer(own.host)
    own.converge(lan(forward, mtu=1400) | {"lifecycle": {"restart": "now"}}, web)
    assert "service forwards" not in own.plan().out
    assert reached(own, seconds=20)
    connection = libvirt.open(own.uri)
    try:
        network, machine = connection.networkLookupByName("lan"), connection.lookupByName("web")
        machine.destroy()
        assert "dnat to 192.168.91.7:80" not in rules(own)
        network.destroy()
        network.create()
        machine.create()
        assert "dnat to 192.168.91.7:80" in rules(own)
    finally:
        connection.close()
    # gone with the network
    assert own.kvmstate("destroy", "--auto-approve").code == 0
    assert "dnat to 192.168.91.7:80" not in rules(own)


def rules(project: Project) -> str:
    said = project.host.directory / "rules"
    inside(project.host, f"nft list ruleset >{said}")
    return said.read_text()


HEAD = (
    "<network><name>lan</name><forward mode='nat'/><ip address='10.9.0.1' netmask='255.255.255.0'>{}</ip>"
    "<metadata>{}</metadata></network>"
)


def written(root: Path, *forwards: str, hosts: str = "", runs: bool = True) -> list[Forwarding]:
    for name in ("etc/libvirt/qemu/networks", "run/libvirt/network", "run/libvirt/qemu"):
        (root / name).mkdir(parents=True, exist_ok=True)
    inner = "".join(f"<f:forward {each}/>" for each in forwards)
    text = HEAD.format(hosts, f"<f:forwards xmlns:f='{URI}'>{inner}</f:forwards>")
    (root / "etc/libvirt/qemu/networks/lan.xml").write_text(text)
    (root / "etc/libvirt/qemu/networks/broken.xml").write_text("<network>")
    (root / "run/libvirt/network/lan.xml").write_text("")
    machine = root / "run/libvirt/qemu/web.xml"
    machine.write_text("") if runs else machine.unlink(missing_ok=True)
    return wanted(root)


def test_what_is_wanted_stands_in_the_files_of_libvirt(tmp_path: Path) -> None:
    web = "host='8080' machine='web' port='80'"
    [found] = written(tmp_path, web, hosts="<dhcp><host ip='10.9.0.7' name='web'/></dhcp>")
    assert found == Forwarding("lan", "tcp", 8080, "web", 80, "10.9.0.7", "", "10.9.0.0/24")
    # it runs with other addresses than what is defined by now
    runs = HEAD.format("<dhcp><host ip='10.8.0.7' name='web'/></dhcp>", "").replace("10.9.0.1", "10.8.0.1")
    (tmp_path / "run/libvirt/network/lan.xml").write_text(f"<networkstatus>{runs}</networkstatus>")
    [found] = wanted(tmp_path)
    assert (found.address, found.prefix, found.why_not) == ("10.8.0.7", "10.8.0.0/24", "")
    (tmp_path / "etc/libvirt/qemu/web.xml").write_text(
        "<domain><devices><interface><mac address='52:54:00:00:00:AA'/></interface></devices></domain>"
    )
    [found] = written(tmp_path, web, hosts="<dhcp><host ip='10.9.0.8' mac='52:54:00:00:00:aa'/></dhcp>")
    assert (found.address, found.why_not) == ("10.9.0.8", "")
    [found] = written(tmp_path, f"{web} address='10.9.0.9'", runs=False)
    assert found.why_not == "machine web does not run"
    assert [each.why_not for each in wanted(tmp_path, come="machine/web")] == [""]
    assert [each.why_not for each in wanted(tmp_path, come="machine/web", gone="network/lan")] == [
        "network lan does not run"
    ]
    [found] = written(tmp_path, web)
    assert found.why_not == "machine web has no address on network lan"


@pytest.mark.parametrize(
    "said",
    [
        "host='8080' machine='web' port='80' address='10.9.0.7 } flush ruleset'",
        "host='8080 drop' machine='web' port='80' address='10.9.0.7'",
        "host='8080' machine='web' port='0' address='10.9.0.7'",
        "host='8080' machine='web' port='80' address='10.9.0.7' listen='; flush ruleset'",
        "host='8080' machine='web' port='80' address='10.9.0.7' protocol='tcp dport 1'",
    ],
)
def test_nothing_but_numbers_and_addresses_becomes_a_rule(tmp_path: Path, said: str) -> None:
    [found] = written(tmp_path, said)
    assert found.why_not == "its metadata is not what kvmstate writes"


def test_libvirts_rules_of_both_kinds_are_passed() -> None:
    one = Forwarding("lan", "udp", 53, "dns", 5353, "10.9.0.7", "10.1.0.1", "10.9.0.0/24")
    table = translation([one])
    assert table.startswith("table ip kvmstate_forwards {}\ndelete table ip kvmstate_forwards\n")
    assert "ip daddr 10.1.0.1 udp dport 53 dnat to 10.9.0.7:5353" in table
    told: list[str] = []

    def run(words: Any, text: str) -> str:
        told.append(f"{' '.join(words)}\n{text}")
        if words[0] == "iptables":
            raise HostError("no such chain")
        return "jump kvmstate_forwards # handle 7\n" if "list" in words else ""

    open_ports([one], run)
    added = "add rule ip libvirt_network kvmstate_forwards ct status dnat ip daddr 10.9.0.7 udp dport 5353 accept"
    assert told[-1].splitlines()[1:] == [
        "delete rule ip libvirt_network guest_input handle 7",
        "add chain ip libvirt_network kvmstate_forwards",
        "flush chain ip libvirt_network kvmstate_forwards",
        added,
        "insert rule ip libvirt_network guest_input jump kvmstate_forwards",
    ]


def test_what_would_not_work_is_told_when_manifests_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "lan.yaml"
    for spec, told in (
        ({"forward": None}, "only networks of forward mode nat have portForwards"),
        ({"ips": [{"address": "192.168.91.1/24"}]}, "nothing says which address web has"),
    ):
        document = lan({"host": 8080, "machine": "web", "port": 80}, **spec)
        document["spec"] = {key: value for key, value in document["spec"].items() if value is not None}
        file.write_text(json.dumps(document))
        assert told in kvmstate("validate", str(file)).err
