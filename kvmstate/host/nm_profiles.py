"""NetworkManager's profiles as libvirt's XML of interfaces, and back: https://networkmanager.dev/docs/api/latest/nm-settings-nmcli.html"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from kvmstate.xmlbind import to_text

# by libvirt's words
TYPES = ("ethernet", "bridge", "vlan", "bond")
_NAMES = {"802-3-ethernet": "ethernet"}
# that of NetworkManager, whose bridges have the spanning tree and wait
_DELAY = 15
_MIIMON = {"freq": "miimon", "updelay": "updelay", "downdelay": "downdelay"}
_ARPMON = {"interval": "arp_interval", "target": "arp_ip_target", "validate": "arp_validate"}
_KNOWN = {"mode", *_MIIMON.values(), *_ARPMON.values(), "use_carrier"}
_CARRIER = {"ioctl": "0", "netif": "1"}
# of the others libvirt's XML says nothing
_METHODS = ("auto", "dhcp", "manual")
_START = {"onboot": "yes", "hotplug": "yes", "none": "no"}


@dataclass(frozen=True)
class Profile:
    said: dict[str, str]
    active: bool

    def get(self, name: str) -> str:
        return self.said.get(name, "")

    @property
    def id(self) -> str:
        return self.get("connection.id")

    @property
    def uuid(self) -> str:
        return self.get("connection.uuid")

    @property
    def interface(self) -> str:
        return self.get("connection.interface-name")

    @property
    def type(self) -> str:
        return _NAMES.get(self.get("connection.type"), self.get("connection.type"))

    @property
    def master(self) -> str:
        """The UUID or the interface of what it is a port of."""
        return self.get("connection.master")

    @property
    def is_port(self) -> bool:
        """Whether it says that a card is a port, and nothing else."""
        return self.type == "ethernet" and bool(self.master)


def read(told: str, states: Mapping[str, str]) -> list[Profile]:
    """What `nmcli -t -e no -f all connection show` tells of some; `states` are theirs, by their UUIDs."""
    found: list[dict[str, str]] = []
    for line in told.splitlines():
        name, colon, value = line.partition(":")
        if name == "connection.id":
            found.append({})
        if colon and found:
            found[-1][name] = value.strip()
    return [
        Profile(each, states.get(each["connection.uuid"]) == "activated")
        for each in found
        if each.get("connection.interface-name")
    ]


def described(profile: Profile, others: list[Profile]) -> str:
    """libvirt's XML of it, with its ports."""
    root = etree.Element("interface", type=profile.type, name=profile.interface)
    etree.SubElement(root, "start", mode="none" if profile.get("connection.autoconnect") == "no" else "onboot")
    mtu = profile.get("802-3-ethernet.mtu")
    if mtu.isdigit() and mtu != "0":
        etree.SubElement(root, "mtu", size=mtu)
    mac = profile.get("802-3-ethernet.cloned-mac-address") or profile.get("bridge.mac-address")
    if ":" in mac:
        etree.SubElement(root, "mac", address=mac.lower())
    for family in ("ipv4", "ipv6"):
        _protocol(root, profile, family)
    _made(root, profile, others)
    return to_text(root)


def _made(node: etree._Element, profile: Profile, others: list[Profile]) -> None:
    """What a bridge, bond or VLAN is made of."""
    if profile.type == "vlan":
        vlan = etree.SubElement(node, "vlan", tag=profile.get("vlan.id"))
        etree.SubElement(vlan, "interface", name=profile.get("vlan.parent"))
    if profile.type == "bridge":
        stp = "on" if profile.get("bridge.stp") == "yes" else "off"
        inner = etree.SubElement(node, "bridge", stp=stp, delay=profile.get("bridge.forward-delay") or str(_DELAY))
    elif profile.type == "bond":
        inner = _bond(node, dict(_pairs(profile.get("bond.options"))))
    else:
        return
    for each in others:
        if each.master and each.master in (profile.interface, profile.uuid):
            port = etree.SubElement(inner, "interface", type=each.type, name=each.interface)
            _made(port, each, others)


def _bond(node: etree._Element, options: dict[str, str]) -> etree._Element:
    bond = etree.SubElement(node, "bond", mode=options.get("mode", "balance-rr"))
    carrier = {number: name for name, number in _CARRIER.items()}.get(options.get("use_carrier", ""))
    for tag, names, first in (("miimon", _MIIMON, "miimon"), ("arpmon", _ARPMON, "arp_interval")):
        if options.get(first, "0") != "0":
            said = {name: options[option] for name, option in names.items() if option in options}
            if tag == "miimon" and carrier:
                said["carrier"] = carrier
            etree.SubElement(bond, tag, said)
    return bond


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for each in text.split(","):
        name, equals, value = each.partition("=")
        if equals:
            yield name.strip(), value.strip()


def _protocol(root: etree._Element, profile: Profile, family: str) -> None:
    method = profile.get(f"{family}.method")
    if method not in _METHODS:
        return
    node = etree.SubElement(root, "protocol", family=family)
    if family == "ipv6" and method == "auto":
        etree.SubElement(node, "autoconf")
    if method != "manual":
        told = "no" if profile.get(f"{family}.ignore-auto-dns") == "yes" else "yes"
        etree.SubElement(node, "dhcp", peerdns=told)
    for each in filter(None, profile.get(f"{family}.addresses").split(",")):
        address, _, prefix = each.strip().partition("/")
        etree.SubElement(node, "ip", address=address, prefix=prefix)
    if gateway := profile.get(f"{family}.gateway"):
        etree.SubElement(node, "route", gateway=gateway)


def ports(node: etree._Element) -> list[etree._Element]:
    """Those of a bridge or bond."""
    return node.findall("bridge/interface") + node.findall("bond/interface")


def made_of(node: etree._Element) -> list[str]:
    """What only a new device is made of, as nmcli takes it for a new profile."""
    vlan = node.find("vlan")
    return [] if vlan is None else ["dev", _parent(vlan), "id", vlan.get("tag", "")]


def is_made_of(profile: Profile) -> list[str]:
    """The same of a profile that is there."""
    return ["dev", profile.get("vlan.parent"), "id", profile.get("vlan.id")] if profile.type == "vlan" else []


def _parent(vlan: etree._Element) -> str:
    found = vlan.find("interface")
    return "" if found is None else found.get("name", "")


def settings(node: etree._Element, over: Profile | None = None) -> list[str]:
    """The properties of a profile that an interface's XML says, as nmcli takes them. What only NetworkManager knows of
    the profile that there is (`over`) stays."""
    said: dict[str, str] = {}
    top = node.getparent() is None
    start, mtu, mac, vlan, bridge, bond = (
        node.find(name) for name in ("start", "mtu", "mac", "vlan", "bridge", "bond")
    )
    if start is not None:
        said["connection.autoconnect"] = _START[start.get("mode", "onboot")]
    if top:
        said["802-3-ethernet.mtu"] = "0" if mtu is None else mtu.get("size", "0")
        for family in ("ipv4", "ipv6"):
            said |= _addresses(node, family, over.get(f"{family}.method") if over else "")
    if mac is not None:
        said["802-3-ethernet.cloned-mac-address"] = mac.get("address", "")
    if vlan is not None:
        said |= {"vlan.id": vlan.get("tag", ""), "vlan.parent": _parent(vlan)}
    if bridge is not None:
        said["bridge.stp"] = "yes" if bridge.get("stp") == "on" else "no"
        said["bridge.forward-delay"] = f"{float(bridge.get('delay', _DELAY)):.0f}"
    if bond is not None:
        before = dict(_pairs(over.get("bond.options"))) if over else {}
        options = {name: value for name, value in before.items() if name not in _KNOWN} | dict(_options(bond))
        said["bond.options"] = ",".join(f"{name}={value}" for name, value in options.items())
    if (bridge is not None or bond is not None) and (node.find("bridge/interface") is not None or bond is not None):
        said["connection.autoconnect-slaves"] = "1"
    return [word for pair in said.items() for word in pair]


def _options(bond: etree._Element) -> Iterator[tuple[str, str]]:
    yield "mode", bond.get("mode", "balance-rr")
    for tag, names in (("miimon", _MIIMON), ("arpmon", _ARPMON)):
        if (node := bond.find(tag)) is not None:
            yield from ((option, value) for name, option in names.items() if (value := node.get(name)))
            if carrier := _CARRIER.get(node.get("carrier", "")):
                yield "use_carrier", carrier


def _addresses(node: etree._Element, family: str, before: str) -> dict[str, str]:
    found = node.find(f"protocol[@family='{family}']")
    if found is None and before and before not in _METHODS:
        return {}
    if found is None:
        return {f"{family}.{name}": "" for name in ("addresses", "gateway")} | {f"{family}.method": "disabled"}
    dhcp, route = found.find("dhcp"), found.find("route")
    method = "manual"
    if dhcp is not None:
        method = "dhcp" if family == "ipv6" and found.find("autoconf") is None else "auto"
    elif found.find("autoconf") is not None:
        method = "auto"
    addresses = [f"{each.get('address')}/{each.get('prefix')}" for each in found.iterfind("ip")]
    return {
        f"{family}.addresses": ",".join(addresses),
        f"{family}.gateway": "" if route is None else route.get("gateway", ""),
        f"{family}.ignore-auto-dns": "yes" if dhcp is not None and dhcp.get("peerdns") == "no" else "no",
        f"{family}.method": method if addresses or method != "manual" else "disabled",
    }
