"""Who is on a network notices nothing of a change that is live, also on the way to somebody outside."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
from harness import Project, resource
from trouble import inside

pytestmark = pytest.mark.real


def lan(*hosts: dict[str, Any], end: int = 110) -> dict[str, Any]:
    dhcp = {"ranges": [{"start": "192.168.95.100", "end": f"192.168.95.{end}"}], "hosts": [*hosts]}
    ips = [{"address": "192.168.95.1/24", "dhcp": dhcp}]
    return resource("Network", "lan", bridge={"name": "kvpass0", "stp": False}, forward={"mode": "nat"}, ips=ips)


@pytest.mark.skipif(not shutil.which("busybox"), reason="its ping is what asks")
def test_leases_change_and_nothing_is_lost_on_the_way_out(project: Project) -> None:
    """libvirt takes the network's rules out of the firewall meanwhile, and puts those that refuse in first."""
    project.converge(lan())
    inside(project.host, "ip netns add out && ip link add o0 type veth peer name o1 netns out && ip netns add in")
    inside(project.host, "ip addr add 10.75.0.1/24 dev o0; ip link set o0 up; ip -n out addr add 10.75.0.2/24 dev o1")
    inside(project.host, "ip -n out link set o1 up; ip link add i0 type veth peer name i1 netns in")
    inside(project.host, "ip link set i0 master kvpass0 up; ip -n in addr add 192.168.95.7/24 dev i1")
    inside(project.host, "ip -n in link set i1 up; ip -n in route add default via 192.168.95.1")
    busybox = shutil.copy(str(shutil.which("busybox")), project.host.directory)
    try:
        words = ["ip", "netns", "exec", "in", busybox, "ping", "-q", "-i", "0.05", "-w", "9", "10.75.0.2"]
        enter = ["nsenter", "--target", str(project.host.pid), "--mount", "--net"]
        asking = subprocess.Popen([*enter, *words], stdout=subprocess.PIPE, text=True)
        host = {"ip": "192.168.95.9", "mac": "52:54:00:00:95:09"}
        for document in (lan(host), lan(host | {"name": "nine"}, end=120), lan()):
            project.write(document)
            assert project.apply().code == 0
        said = asking.communicate()[0]
        match = re.search(r"(\d+) packets transmitted, (\d+) packets received", said)
        assert match, said
        # what is asked last is not waited for
        assert int(match[1]) > 100, said
        assert int(match[1]) - int(match[2]) <= 1, said
        rules = project.host.directory / "rules"
        inside(project.host, f"iptables -S FORWARD >{rules}")
        assert "ESTABLISHED" not in rules.read_text()
    finally:
        inside(project.host, "ip netns del in; ip netns del out; ip link delete i0; ip link delete o0; true")
