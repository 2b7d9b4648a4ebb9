"""Whether a host still leads back to whoever is logged in, in a network of its own."""

from __future__ import annotations

import pytest
from harness import Project
from trouble import inside

from kvmstate.errors import ConnectionFailed
from kvmstate.host import open_host, way_back
from kvmstate.host.kernel_links import Link
from kvmstate.host.on_host import runner
from kvmstate.host.way_back import Session


@pytest.mark.real
def test_a_way_back_has_an_address_a_route_and_a_next_hop_that_answers(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way_back, "_ANSWERS", 0)
    inside(project.host, "ip link add kvway0 type veth peer name kvway1 && ip link set kvway1 up")
    inside(project.host, "ip addr add 10.75.0.1/24 dev kvway0 && ip link set kvway0 up && ip link set lo up")
    try:
        with open_host(project.uri) as host:
            run = runner(host)
            assert run
            found = {each.name for each in way_back.links(run)}
            assert "kvway0" in found
            way_back.check(run, Session())
            way_back.check(run, Session("127.0.0.1", "127.0.0.1"))
            with pytest.raises(ConnectionFailed, match=r"no way back from 10\.99\.0\.1 to 10\.75\.0\.2"):
                way_back.check(run, Session("10.75.0.2", "10.99.0.1"))
            with pytest.raises(ConnectionFailed, match=r"10\.75\.0\.2, .* does not answer on kvway0"):
                way_back.check(run, Session("10.75.0.2", "10.75.0.1"))
    finally:
        inside(project.host, "ip link delete kvway0")


def test_a_login_comes_in_by_all_that_is_below_its_address() -> None:
    def link(name: str, kind: str = "ethernet", **more: object) -> Link:
        return Link(name, kind, "", True, 1500, **more)  # type: ignore[arg-type]

    links = [
        link("eth0", master="bond0"),
        link("eth1", master="bond0"),
        link("bond0", "bond"),
        link("bond0.7", "vlan", over="bond0", master="br0"),
        link("br0", "bridge", addresses=("192.0.2.10/24", "fd00::10/64")),
        link("eth2", addresses=("192.0.2.1/24",)),
    ]
    below = {"br0", "bond0.7", "bond0", "eth0", "eth1"}
    assert way_back.carrying(links, Session("192.0.2.99", "192.0.2.10")) == below
    assert way_back.carrying(links, Session("fd00::99", "fd00::10")) == below
    assert way_back.carrying(links, Session()) == set()
