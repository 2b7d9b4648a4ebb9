"""Bonds and VLANs of the lab's own, in the kernel's words, whoever configures them there."""

from __future__ import annotations

import json
from typing import Any

from harness import Project, Run, resource, until
from lab_host import Lab

NOW = {"restart": "now"}
BOND, VLAN = "kvbond0", "kvvlan0"
_GONE = "does not exist."


def bond(*ports: str, miimon: int = 100, **spec: Any) -> dict[str, Any]:
    made = {"mode": "active-backup", "miimon": {"freq": miimon}, "ports": [{"name": name} for name in ports]}
    addresses = {"ipv4": {"addresses": ["192.0.2.10/24"]}, "ipv6": {"addresses": ["fd00:2::10/64"]}}
    return resource("HostInterface", BOND, NOW, type="bond", bond=made, **{**addresses, **spec})


def vlan(tag: int, over: str, **spec: Any) -> dict[str, Any]:
    addresses = {"ipv4": {"addresses": ["198.51.100.10/24"]}, "ipv6": {"addresses": ["fd00:51::10/64"]}}
    return resource(
        "HostInterface", VLAN, NOW, type="vlan", vlan={"tag": tag, "interface": over}, **{**addresses, **spec}
    )


def waiting(document: dict[str, Any]) -> dict[str, Any]:
    """As it is, but with no address but one that nobody gives it."""
    spec = {name: value for name, value in document["spec"].items() if name != "ipv6"}
    return {**document, "spec": {**spec, "ipv4": {"dhcp": {}}}}


def link(lab: Lab, name: str) -> dict[str, Any]:
    """What `ip -d link` tells of a device."""
    told = lab.run(f"ip -d -j link show {name}", check=False)
    found: list[dict[str, Any]] = json.loads(told) if told.startswith("[") else [{}]
    return found[0]


def bonded(lab: Lab) -> tuple[str, int, list[str]]:
    """The bond's mode, how often it looks at its links, and its ports."""
    told = link(lab, BOND)
    if "UP" not in told.get("flags", []) or told["linkinfo"]["info_kind"] != "bond":
        return "", 0, []
    data = told["linkinfo"]["info_data"]
    ports = [each["ifname"] for each in json.loads(lab.run(f"ip -j link show master {BOND}"))]
    return data["mode"], data["miimon"], sorted(ports)


def tagged(lab: Lab) -> tuple[str, int, str]:
    """The VLAN's protocol, its number, and what it is on."""
    told = link(lab, VLAN)
    if "UP" not in told.get("flags", []) or told["linkinfo"]["info_kind"] != "vlan":
        return "", 0, ""
    return told["linkinfo"]["info_data"]["protocol"], told["linkinfo"]["info_data"]["id"], told["link"]


def addresses(lab: Lab, name: str) -> set[str]:
    told = json.loads(lab.run(f"ip -j address show {name} || echo '[{{\"addr_info\": []}}]'").splitlines()[-1])
    return {f"{each['local']}/{each['prefixlen']}" for each in told[0]["addr_info"] if each["scope"] == "global"}


def bond_lives(project: Project, lab: Lab, drift: str) -> Run:
    """It comes, changes, is what somebody else has made of it (`drift` makes miimon 300 of it), fails to change, and
    goes. What the apply that failed has said."""
    both = {"192.0.2.10/24", "fd00:2::10/64"}
    project.converge(bond("kvp1", "kvp2"))
    assert bonded(lab) == ("active-backup", 100, ["kvp1", "kvp2"])
    assert addresses(lab, BOND) == both
    project.converge(bond("kvp2", miimon=200))
    assert bonded(lab) == ("active-backup", 200, ["kvp2"])
    assert "master" not in link(lab, "kvp1")
    lab.run(drift)
    assert "bond.miimon.freq" in project.kvmstate("drift").out
    project.converge()
    assert bonded(lab) == ("active-backup", 200, ["kvp2"])
    project.write(waiting(bond("kvp1", "kvp2", miimon=150)))
    failed = project.apply()
    assert failed.code == 1
    # what is brought back comes up once more
    until(lambda: bonded(lab) == ("active-backup", 200, ["kvp2"]), lambda: str(bonded(lab)))
    until(lambda: addresses(lab, BOND) == both, lambda: str(addresses(lab, BOND)))
    project.converge(bond("kvp2", miimon=200))
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    assert lab.run(f"ip link show {BOND}", check=False).endswith(_GONE)
    assert "master" not in link(lab, "kvp2")
    return failed


def vlan_lives(project: Project, lab: Lab, drift: str) -> Run:
    """The same with a VLAN on a card, and then on a bond (`drift` gives it an MTU of 1300)."""
    both = {"198.51.100.10/24", "fd00:51::10/64"}
    project.converge(vlan(42, "kvp1", mtu=1400))
    assert tagged(lab) == ("802.1Q", 42, "kvp1")
    assert link(lab, VLAN)["mtu"] == 1400
    assert addresses(lab, VLAN) == both
    project.converge(vlan(43, "kvp1", mtu=1400))
    assert tagged(lab) == ("802.1Q", 43, "kvp1")
    assert addresses(lab, VLAN) == both
    lab.run(drift)
    assert "mtu" in project.kvmstate("drift").out
    project.converge()
    assert link(lab, VLAN)["mtu"] == 1400
    project.write(waiting(vlan(44, "kvp1", mtu=1400)))
    failed = project.apply()
    assert failed.code == 1
    until(lambda: tagged(lab) == ("802.1Q", 43, "kvp1"), lambda: str(tagged(lab)))
    until(lambda: addresses(lab, VLAN) == both, lambda: str(addresses(lab, VLAN)))
    project.converge(bond("kvp1", "kvp2"), vlan(43, BOND))
    assert tagged(lab) == ("802.1Q", 43, BOND)
    assert bonded(lab)[2] == ["kvp1", "kvp2"]
    assert project.kvmstate("destroy", "--auto-approve").code == 0
    for name in (BOND, VLAN):
        assert lab.run(f"ip link show {name}", check=False).endswith(_GONE)
    return failed
