"""What running guests notice of a network that is changed under them.

`python tests/benchmarks/networks.py [--seconds N] [--tree DIR] [--write]`: two guests on one network ask each other,
the host and somebody outside 20 times a second, for N seconds (120) without a change, and then while each option that
is changed live is added, changed and removed, apply by apply. Goal: no packet is lost, none takes more than 2 s, leases
stay. --tree repeats it with another libvirt. --write writes the end of docs/reference/live-networks.md. The exit code
is 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import libvirt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Guest, Project, resource, until
from trouble import inside

from kvmstate import sandbox
from kvmstate.host import networks

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "live-networks.md"
MACS = {"one": "52:54:00:00:95:07", "two": "52:54:00:00:95:08"}
ADDRESSES = {"one": "192.168.95.7", "two": "192.168.95.8"}
HOST, OUTSIDE = "192.168.95.1", "10.75.0.2"
SLOWEST = 2000
HEAD = """## Measured

Written by `python tests/benchmarks/networks.py --write`. Two guests on one network asked each other, the host and
somebody outside (by NAT) 20 times a second, while each option below was added, changed and removed, an apply each. The
calls are those that kvmstate made of libvirt beside the definition. The goal: no packet is lost, none is slower than
2 s, and the leases are as they were."""


class Measured(NamedTuple):
    version: str
    calls: dict[str, list[str]]
    applies: int
    control: list[str]
    changed: list[str]
    leases: bool


def documents() -> dict[str, dict[str, Any]]:
    hosts = [{"ip": ADDRESSES[name], "mac": mac, "name": name} for name, mac in MACS.items()]
    dhcp = {"ranges": [{"start": "192.168.95.100", "end": "192.168.95.110"}], "hosts": hosts}
    lan = resource(
        "Network", "lan", bridge={"name": "kvlive0", "stp": False}, forward={"mode": "nat"},
        ips=[{"address": f"{HOST}/24", "dhcp": dhcp}], autostart=False,
    )  # fmt: skip
    rule = {"action": "accept", "direction": "inout", "all": {}}
    return {
        "lan": lan,
        "web": resource("NetworkFilter", "web", rules=[rule]),
        "cards": resource("Network", "cards", forward={"mode": "vepa", "interfaces": [{"dev": "kvcard0"}]}),
    }


def edits() -> Iterator[tuple[str, str, dict[str, dict[str, Any]]]]:
    """Option, what is done to it, and what is declared then."""
    there = {"ips.dhcp.ranges": "ranges", "ips.dhcp.hosts": "hosts"}
    steps: dict[str, list[tuple[str, Any]]] = {
        "ips.dhcp.ranges": [
            ("added", {"start": "192.168.95.120", "end": "192.168.95.130"}),
            ("changed", {"start": "192.168.95.120", "end": "192.168.95.140", "lease": "2h"}),
        ],
        "ips.dhcp.hosts": [
            ("added", {"ip": "192.168.95.9", "mac": "52:54:00:00:95:09", "name": "three"}),
            ("changed", {"ip": "192.168.95.9", "mac": "52:54:00:00:95:0a", "name": "four", "lease": "3h"}),
        ],
        "dns.hosts": [
            ("added", {"ip": "192.168.95.50", "hostnames": ["a"]}),
            ("changed", {"ip": "192.168.95.50", "hostnames": ["a", "b"]}),
        ],
        "dns.txt": [("added", {"name": "t", "value": "1"}), ("changed", {"name": "t", "value": "2"})],
        "dns.srv": [
            ("added", {"service": "ldap", "protocol": "tcp", "target": "dc", "port": 389}),
            ("changed", {"service": "ldap", "protocol": "tcp", "target": "dc", "port": 636}),
        ],
        "portGroups": [("added", {"name": "staff"}), ("changed", {"name": "staff", "trustGuestRxFilters": True})],
        "portForwards": [
            ("added", {"host": 8080, "machine": "one", "port": 80}),
            ("changed", {"host": 8080, "machine": "two", "port": 81}),
        ],
    }
    for option, done in steps.items():
        for what, item in (*done, ("removed", None)):
            found = documents()
            spec = found["lan"]["spec"]
            items = [] if item is None else [item]
            if option in there:
                spec["ips"][0]["dhcp"][there[option]] += items
            elif option.startswith("dns."):
                spec["dns"] = {option.partition(".")[2]: items}
            elif items:
                spec[option] = items
            yield option, what, found
    for what, devices in (("added", 2), ("changed", 1), ("removed", 1)):
        found = documents()
        names = ["kvcard0", "kvcard1"][:devices] if what != "changed" else ["kvcard1"]
        found["cards"]["spec"]["forward"]["interfaces"] = [{"dev": name} for name in names]
        yield "forward.interfaces", what, found
    for what, autostart in (("changed", True), ("changed back", False)):
        found = documents()
        found["lan"]["spec"]["autostart"] = autostart
        yield "autostart", what, found
    for what, port in (("added", 80), ("changed", 81), ("removed", None)):
        found = documents()
        drop = {"action": "drop", "direction": "in", "tcp": {"dstPortStart": port}}
        found["web"]["spec"]["rules"] = [*([drop] if port else []), *found["web"]["spec"]["rules"]]
        yield "NetworkFilter: rules", what, found


def machines(seconds: int, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Guest]]:
    kernel = {"path": str(ROOT / ".cache/guest/vmlinuz"), "initrd": str(ROOT / ".cache/guest/initrd")}
    found, guests = [], {}
    for name, mac in MACS.items():
        other = next(address for each, address in ADDRESSES.items() if each != name)
        guests[name] = Guest(kernel, folder / f"{name}.log")
        nic = {"network": "lan", "mac": mac, "filterref": {"filter": "web"}}
        options = f"kvmstate.ping={seconds},{other},{HOST},{OUTSIDE}"
        found.append(guests[name].machine(name, options=options, interfaces=[nic]))
    return found, guests


def told(guests: dict[str, Guest], seconds: int) -> list[str]:
    """What each said at the end."""
    lines = []
    for name, guest in guests.items():
        found = until(
            lambda guest=guest: len(f := re.findall(r"guest: pinged (.* ms)\n", guest.said())) == 3 and f,
            "pings",
            2 * seconds + 120,
        )  # type: ignore[misc]
        lines += [f"{name} to {line}" for line in sorted(found)]
    return lines


def good(line: str) -> bool:
    """Whether none was lost, and none was slower."""
    match = re.search(r": (\d+) packets transmitted, (\d+) packets received, .* slowest ([\d.]+) ms", line)
    return bool(match and match[1] == match[2] and float(match[3]) <= SLOWEST)


def leased(connection: libvirt.virConnect) -> dict[str, str]:
    found = connection.networkLookupByName("lan").DHCPLeases()
    return {each["mac"]: each["ipaddr"] for each in found if each["mac"] in MACS.values()}


def measured(tree: Path | None, seconds: int) -> Measured:
    started = sandbox.start("live-networks", tree)
    folder = Path(tempfile.mkdtemp(prefix="kvmstate-networks-"))
    folder.chmod(0o755)
    calls: dict[str, list[str]] = {}
    real = networks.update
    try:
        inside(started, "ip netns add out && ip link add o0 type veth peer name o1 netns out")
        inside(started, "ip addr add 10.75.0.1/24 dev o0; ip link set o0 up; ip -n out link set o1 up")
        inside(started, f"ip -n out addr add {OUTSIDE}/24 dev o1")
        inside(
            started, "ip link add kvcard0 type veth peer name kvcard1; ip link set kvcard0 up; ip link set kvcard1 up"
        )
        project = Project(started, folder / "shop")
        both, guests = machines(seconds, folder)
        project.converge(*documents().values(), *both)
        control = told(guests, seconds)
        connection = libvirt.open(project.uri)
        for name in MACS:
            connection.lookupByName(name).destroy()
            guests[name].log.unlink()
        project.converge()
        for guest in guests.values():
            until(lambda guest=guest: "guest: pings" in guest.said(), "guests that ask", 120)  # type: ignore[misc]
        before, bridge = leased(connection), index(project)
        applies = 0
        for option, what, found in edits():
            made = calls.setdefault(f"{option}|{what}", [])
            networks.update = noting(real, made)
            project.write(*found.values(), *both)
            assert "restart" not in project.plan().out, (option, what)
            assert project.apply().code == 0, (option, what)
            applies += 1
        running = not any("guest: pinged" in guest.said() for guest in guests.values())
        changed = told(guests, seconds)
        if not running:
            changed.append("the guests had ended before the last change: say --seconds with more")
        kept = leased(connection) == before and index(project) == bridge
        version = ".".join(str(connection.getLibVersion() // 1000**at % 1000) for at in (2, 1, 0))
        connection.close()
        return Measured(version, calls, applies, control, changed, kept)
    finally:
        networks.update = real
        sandbox.stop(started.name)


def noting(real: Any, made: list[str]) -> Any:
    """The call, which says what it was made for."""
    verbs = {networks.ADD: "add", networks.MODIFY: "modify", networks.DELETE: "delete"}

    def update(network: Any, command: int, section: str, text: str, at: int) -> None:
        made.append(f"{verbs[command]} {section}")
        real(network, command, section, text, at)

    return update


def index(project: Project) -> str:
    said = project.host.directory / "index"
    inside(project.host, f"cat /sys/class/net/kvlive0/ifindex >{said}")
    return said.read_text()


def page(found: list[Measured]) -> str:
    versions = [f"libvirt {each.version}" for each in found]
    lines = [HEAD, "", f"| option | what | {' | '.join(versions)} |", f"|---|---|{'---|' * len(found)}"]
    for key in found[0].calls:
        option, _, what = key.partition("|")
        cells = [", ".join(each.calls[key]) or "no call: it is defined, and holds at once" for each in found]
        lines.append(f"| `{option}` | {what} | {' | '.join(cells)} |")
    for each in found:
        lines += [
            "",
            f"### libvirt {each.version}",
            "",
            f"{each.applies} applies; leases and bridge as before: {'yes' if each.leases else 'no'}.",
        ]
        for title, said in (("Without a change", each.control), ("While it was changed", each.changed)):
            lines += ["", f"{title}:", "", *(f"    {line}" for line in said)]
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    subprocess.run([ROOT / "script" / "guest"], check=True, stdout=subprocess.DEVNULL)
    found = [measured(tree, asked.seconds) for tree in ([None, asked.tree] if asked.tree else [None])]
    print(page(found))
    if asked.write:
        told = PAGE.read_text(encoding="utf-8").partition("## Measured")[0].rstrip()
        PAGE.write_text(f"{told}\n\n{page(found)}", encoding="utf-8")
    fine = all(each.leases and all(map(good, each.changed)) for each in found)
    print("goal met" if fine else "goal missed")
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
