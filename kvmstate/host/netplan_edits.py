"""What a change of an interface makes of netplan's files.

Each interface has a file of its own, which says all of it. What other files say of it, or of its ports and could not
stay, becomes comments there. That of ports comes back when they leave.
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host.netplan_files import SECTIONS, Config, Id, Stanza, with_comments, without_comments, written
from kvmstate.host.netplan_xml import definition

# by their names; without a text it goes
Texts = dict[str, str | None]
_PREFIX = "90-kvmstate-"
_OWN = f"{_PREFIX}{{}}.yaml"
_WAS, _PORT = "#kvmstate {} was: ", "#kvmstate port of {}: "
# What a port cannot have, as the bridge or bond has it
_OF_NO_PORT = frozenset(
    {
        *("addresses", "gateway4", "gateway6", "routes", "routing-policy", "nameservers", "critical"),
        *("dhcp4", "dhcp6", "dhcp4-overrides", "dhcp6-overrides", "dhcp-identifier", "optional-addresses"),
        *("accept-ra", "ra-overrides", "link-local", "ipv6-mtu"),
        *("ipv6-privacy", "ipv6-address-generation", "ipv6-address-token"),
    }
)


def edited(node: etree._Element, config: Config) -> Texts:
    """The files that are other ones with an interface as its XML says. Raises HostError."""
    name, rest = node.get("name", ""), _restored(node.get("name", ""), config)
    found, ports = _said(node, config, rest), [each.get("name", "") for each in _ports(node)]
    texts = {file.name: file.text for file in rest.files.values()}
    for file in rest.files.values():
        for id_ in file.says:
            if id_.section == "ethernets" and id_.name in ports:
                texts[file.name] = with_comments(texts[file.name], _PORT.format(name), id_, _OF_NO_PORT)
            elif id_ in found and id_.name not in _cards(node):
                texts[file.name] = with_comments(texts[file.name], _WAS.format(name), id_)
            if id_.section == "ethernets" and (said := _named_otherwise(file.says[id_], id_, ports)):
                raise HostError(f"netplan calls {said} {id_.name}, in {file.name}", "give it its own name there")
    sections: dict[str, dict[str, Stanza]] = {}
    for id_, stanza in found.items():
        sections.setdefault(id_.section, {})[id_.name] = stanza
    return _changed(config, texts, _OWN.format(name), written(name, sections))


def removed(id_: Id, config: Config) -> Texts:
    """The files that are other ones without an interface. Raises HostError."""
    rest = _restored(id_.name, config)
    texts = {file.name: with_comments(file.text, _WAS.format(id_.name), id_) for file in rest.files.values()}
    return _changed(config, texts, _OWN.format(id_.name), None)


def _changed(config: Config, texts: dict[str, str], own: str, text: str | None) -> Texts:
    others: Texts = {name: new for name, new in texts.items() if new != config.files[name].text}
    return others | ({own: text} if text is not None or own in config.files else {})


def _restored(name: str, config: Config) -> Config:
    """Without the file of an interface, and what stood there of its ports before."""
    texts: Texts = {each: without_comments(file.text, _PORT.format(name)) for each, file in config.files.items()}
    return config.changed(texts | {_OWN.format(name): None})


def _said(node: etree._Element, config: Config, rest: Config) -> dict[Id, Stanza]:
    """What the file of an interface says: itself, ports that are nothing but that, and cards."""
    id_ = Id(SECTIONS[node.get("type", "ethernet")], node.get("name", ""))
    found = {id_: definition(node, config.all.get(id_, {}))}
    for link in _cards(node):
        if not _is_defined(link, rest):
            # the host has no address there
            found[Id("ethernets", link)] = {"accept-ra": False, "link-local": []}
    for port in _ports(node, deep=False):
        name = port.get("name", "")
        if len(port):
            found |= _said(port, config, rest)
        elif rest.section(name) in ("", "ethernets"):
            found[Id("ethernets", name)] = {}
    return found


def _is_defined(name: str, rest: Config) -> bool:
    """Whether there is a definition of it that does not go with another interface."""
    own = _OWN.format(name)
    files = [file for file in rest.files.values() if file.name == own or not file.name.startswith(_PREFIX)]
    return any(id_.name == name for file in files for id_ in file.says)


def _cards(node: etree._Element) -> list[str]:
    """What VLANs are on."""
    return [each.get("name", "") for each in node.iterfind(".//vlan/interface")]


def _ports(node: etree._Element, deep: bool = True) -> Iterator[etree._Element]:
    for port in node.findall("bridge/interface") + node.findall("bond/interface"):
        yield port
        if deep:
            yield from _ports(port)


def _named_otherwise(stanza: Stanza, id_: Id, names: list[str]) -> str:
    """The device that a definition of another name is of."""
    matched = stanza.get("set-name") or (stanza.get("match") or {}).get("name")
    return str(matched) if matched in names and matched != id_.name else ""
