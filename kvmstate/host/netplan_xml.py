"""netplan's definitions as libvirt's XML of interfaces, and back: https://netplan.readthedocs.io/en/stable/netplan-yaml/"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host.netplan_files import TYPES, Config, Id, Stanza
from kvmstate.xmlbind import to_text

_DEFAULT = {"default", "0.0.0.0/0", "::/0"}
# netplan's own, for bridges
_STP, _DELAY = True, 15.0
_MIIMON = {"freq": "mii-monitor-interval", "updelay": "up-delay", "downdelay": "down-delay"}
_SPANS = {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}


def described(config: Config, id_: Id) -> str:
    """libvirt's XML of a definition, with its ports."""
    stanza = config.all[id_]
    root = etree.Element("interface", type=TYPES[id_.section], name=id_.name)
    etree.SubElement(root, "start", mode="none" if stanza.get("activation-mode") else "onboot")
    if mtu := stanza.get("mtu"):
        etree.SubElement(root, "mtu", size=str(mtu))
    if ":" in (mac := str(stanza.get("macaddress", ""))):
        etree.SubElement(root, "mac", address=mac.lower())
    _protocol(root, stanza, 4)
    _protocol(root, stanza, 6)
    _made(root, id_.section, stanza, config)
    return to_text(root)


def _made(node: etree._Element, section: str, stanza: Stanza, config: Config) -> None:
    """What a bridge, bond or VLAN is made of."""
    parameters = stanza.get("parameters") or {}
    if section == "vlans":
        vlan = etree.SubElement(node, "vlan", tag=str(stanza.get("id", "")))
        etree.SubElement(vlan, "interface", name=str(stanza.get("link", "")))
    if section == "bridges":
        stp, delay = bridge(stanza)
        inner = etree.SubElement(node, "bridge", stp="on" if stp else "off", delay=f"{delay:g}")
    elif section == "bonds":
        inner = _bond(node, parameters)
    else:
        return
    for name in map(str, stanza.get("interfaces") or ()):
        of = config.section(name) or "ethernets"
        port = etree.SubElement(inner, "interface", type=TYPES[of], name=name)
        _made(port, of, config.all.get(Id(of, name), {}), config)


def bridge(stanza: Stanza) -> tuple[bool, float]:
    """Whether it has the spanning tree, and its delay in seconds."""
    parameters = stanza.get("parameters") or {}
    return bool(parameters.get("stp", _STP)), _seconds(parameters.get("forward-delay", _DELAY))


def _bond(node: etree._Element, parameters: Mapping[str, Any]) -> etree._Element:
    bond = etree.SubElement(node, "bond", mode=str(parameters.get("mode", "balance-rr")))
    if freq := _milliseconds(parameters.get("mii-monitor-interval", 0)):
        said = {name: str(_milliseconds(parameters[key])) for name, key in _MIIMON.items() if key in parameters}
        etree.SubElement(bond, "miimon", said | {"freq": str(freq)})
    if interval := _milliseconds(parameters.get("arp-interval", 0)):
        said = {"interval": str(interval), "target": ",".join(map(str, parameters.get("arp-ip-targets") or ()))}
        if validate := parameters.get("arp-validate"):
            said["validate"] = str(validate)
        etree.SubElement(bond, "arpmon", said)
    return bond


def _protocol(root: etree._Element, stanza: Stanza, version: int) -> None:
    addresses = [each for each in map(_address, stanza.get("addresses") or ()) if _version(each) == version]
    gateways = [str(each.get("via")) for each in _routes(stanza) if _is_default(each, version)]
    if old := stanza.get(f"gateway{version}"):
        gateways.append(str(old))
    dhcp, auto = bool(stanza.get(f"dhcp{version}")), version == 6 and _autoconf(stanza)
    if not (addresses or gateways or dhcp or auto):
        return
    node = etree.SubElement(root, "protocol", family=f"ipv{version}")
    if auto:
        etree.SubElement(node, "autoconf")
    if dhcp:
        dns = (stanza.get(f"dhcp{version}-overrides") or {}).get("use-dns", True)
        etree.SubElement(node, "dhcp", peerdns="yes" if dns else "no")
    for each in addresses:
        address, _, prefix = each.partition("/")
        etree.SubElement(node, "ip", address=address, prefix=prefix)
    if gateways:
        etree.SubElement(node, "route", gateway=gateways[0])


def _autoconf(stanza: Stanza) -> bool:
    """Where nobody says otherwise, a link has an address of its own and hears routers."""
    return bool(stanza.get("accept-ra", "ipv6" in stanza.get("link-local", ["ipv6"])))


def _address(said: Any) -> str:
    """One that has more to it, such as a label, is a mapping."""
    return str(next(iter(said))) if isinstance(said, Mapping) else str(said)


def _version(address: str) -> int:
    return ipaddress.ip_interface(address).version


def _routes(stanza: Stanza) -> list[Stanza]:
    return [each for each in stanza.get("routes") or () if isinstance(each, dict)]


def _is_default(route: Stanza, version: int) -> bool:
    """Whether it is where all goes; of another table it is for some."""
    via = str(route.get("via", ""))
    return route.get("to") in _DEFAULT and "table" not in route and bool(via) and _version(via) == version


def _seconds(said: object) -> float:
    match = re.fullmatch(r"([0-9.]+) *([a-z]*)", str(said))
    return float(match[1]) * _SPANS.get(match[2] or "s", 1) if match else 0


def _milliseconds(said: object) -> int:
    """Of what is in milliseconds where no unit is said."""
    return int(str(said)) if str(said).isdecimal() else round(1000 * _seconds(said))


def definition(node: etree._Element, over: Stanza) -> Stanza:
    """What netplan is told of an interface by its XML. What netplan alone knows of the one that there is (`over`)
    stays."""
    said = dict(over)
    start, mtu, mac, vlan = (node.find(name) for name in ("start", "mtu", "mac", "vlan"))
    if start is not None:
        _put(said, "activation-mode", "manual" if start.get("mode") == "none" else None)
    if mac is not None:
        said["macaddress"] = mac.get("address", "")
    if node.getparent() is None:
        # a port has none of its own
        _put(said, "mtu", None if mtu is None else int(mtu.get("size", "0")))
        for version in (4, 6):
            _addressed(said, node.find(f"protocol[@family='ipv{version}']"), version)
    if vlan is not None:
        parent = vlan.find("interface")
        said |= {"id": int(vlan.get("tag", "0")), "link": "" if parent is None else parent.get("name", "")}
    _with_ports(said, node)
    return said


def _with_ports(said: Stanza, node: etree._Element) -> None:
    bridge, bond = node.find("bridge"), node.find("bond")
    if (inner := bond if bridge is None else bridge) is None:
        return
    parameters = dict(said.get("parameters") or {})
    if bridge is not None:
        seconds = float(bridge.get("delay", _DELAY))
        parameters["stp"] = bridge.get("stp") == "on"
        parameters["forward-delay"] = int(seconds) if seconds == int(seconds) else f"{1000 * seconds:.0f}ms"
    if bond is not None:
        parameters = {key: value for key, value in parameters.items() if not _is_monitor(key)} | dict(_bonded(bond))
    said["interfaces"] = [each.get("name", "") for each in inner.findall("interface")]
    said["parameters"] = parameters


def _is_monitor(key: str) -> bool:
    return key in _MIIMON.values() or key.startswith("arp-")


def _bonded(bond: etree._Element) -> Iterator[tuple[str, Any]]:
    yield "mode", bond.get("mode", "balance-rr")
    miimon, arpmon = bond.find("miimon"), bond.find("arpmon")
    if miimon is not None:
        if miimon.get("carrier"):
            raise HostError("netplan cannot say how a bond looks at a link (bond.miimon.carrier)", "leave it out")
        yield from ((key, int(value)) for name, key in _MIIMON.items() if (value := miimon.get(name)))
    if arpmon is not None:
        yield "arp-interval", int(arpmon.get("interval", "0"))
        yield "arp-ip-targets", arpmon.get("target", "").split(",")
        if validate := arpmon.get("validate"):
            yield "arp-validate", validate


def _addressed(said: Stanza, node: etree._Element | None, version: int) -> None:
    found: list[etree._Element] = [] if node is None else node.findall("ip")
    wanted = [f"{each.get('address')}/{each.get('prefix')}" for each in found]
    before = {_address(each): each for each in said.get("addresses") or ()}
    others = [each for address, each in before.items() if _version(address) != version]
    _put(said, "addresses", [*others, *(before.get(each, each) for each in wanted)] or None)
    dhcp, route = (None, None) if node is None else (node.find("dhcp"), node.find("route"))
    said[f"dhcp{version}"] = dhcp is not None
    overrides = dict(said.get(f"dhcp{version}-overrides") or {})
    _put(overrides, "use-dns", False if dhcp is not None and dhcp.get("peerdns") == "no" else None)
    _put(said, f"dhcp{version}-overrides", overrides or None)
    said.pop(f"gateway{version}", None)
    routes = _routes(said)
    ways = {str(each.get("via")): each for each in routes if _is_default(each, version)}
    routes = [each for each in routes if not _is_default(each, version)]
    if route is not None:
        routes.append(ways.get(via := route.get("gateway", ""), {"to": "default", "via": via}))
    _put(said, "routes", routes or None)
    if version == 6:
        said["accept-ra"] = node is not None and node.find("autoconf") is not None
        local = [each for each in said.get("link-local", ["ipv6"]) if each != "ipv6" or node is not None]
        if node is not None and "ipv6" not in local:
            local.append("ipv6")
        _put(said, "link-local", None if local == ["ipv6"] else local)


def _put(said: Stanza, key: str, value: Any) -> None:
    if value is None:
        said.pop(key, None)
    else:
        said[key] = value
