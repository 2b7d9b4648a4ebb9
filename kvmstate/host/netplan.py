"""netplan as a driver of a host's interfaces, with systemd-networkd: https://netplan.readthedocs.io/

Each change is a file of an interface's own (`netplan_edits`), applied until it is kept (`netplan_change`).
"""

from __future__ import annotations

import shlex
import time

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError, NotFound
from kvmstate.host import netplan_edits, netplan_files, netplan_xml
from kvmstate.host.netplan_change import NetplanChange, bridged, holds, links
from kvmstate.host.netplan_files import Config, Id
from kvmstate.host.objects import HostInterface
from kvmstate.host.on_host import Run
from kvmstate.host.permit import Permit
from kvmstate.xmlbind import document

_RUNS = """
command -v netplan && systemctl --quiet is-active systemd-networkd || exit 1
[ -r /proc/1/ns/net ] && [ "$(readlink /proc/1/ns/net)" = "$(readlink /proc/self/ns/net)" ] || exit 1
[ "$(netplan get renderer)" != NetworkManager ] && find /lib/netplan /etc/netplan -name '*.yaml' 2>/dev/null | grep .
"""
_READ = """
for file in /lib/netplan/*.yaml /etc/netplan/*.yaml /run/netplan/*.yaml; do
  [ ! -f "$file" ] || { printf '%s\\0' "$file" && cat "$file" && printf '\\0'; } || exit 1
done
"""


class Interface:
    """What libvirt-python has of an interface, as far as it is asked for here."""

    def __init__(self, id_: Id, active: bool, text: str) -> None:
        self.id, self._active, self._text = id_, active, text

    def name(self) -> str:
        return self.id.name

    def isActive(self) -> bool:
        return self._active

    def XMLDesc(self, flags: int) -> str:
        return self._text


class Netplan:
    title = "netplan"

    def __init__(self, run: Run) -> None:
        self._run = run
        self._change = NetplanChange(run)

    @staticmethod
    def runs(run: Run) -> bool:
        """Whether netplan configures the host, for systemd-networkd in the network that is the host's."""
        try:
            return bool(run("sh", "-c", _RUNS))
        except ConnectionFailed:
            raise
        except HostError:
            return False

    def all(self) -> list[HostInterface]:
        config, up = self._config(), links(self._run, "up")
        ports = {str(name) for stanza in config.all.values() for name in stanza.get("interfaces") or ()}
        return [
            HostInterface(Interface(id_, id_.name in up, netplan_xml.described(config, id_)))
            for id_ in config.all
            if not (id_.section == "ethernets" and id_.name in ports)
        ]

    def find(self, name: str) -> HostInterface:
        for each in self.all():
            if each.name == name:
                return each
        raise NotFound(f"netplan has no definition of {name}")

    def apply(self, text: str, over: HostInterface | None, up: bool) -> None:
        node, before = document(text), self._config()
        name = node.get("name", "")
        texts = netplan_edits.edited(node, before)
        after = before.changed(texts)
        up_now = [f"ip link set dev {shlex.quote(name)} up"] if up else []
        self._change.make(before, after, texts, [*bridged(after, [name]), *up_now])
        if up:
            self._until_up(name, node)
        else:
            self._until_down(name)

    def remove(self, each: HostInterface, permit: Permit) -> None:
        permit.check(each)
        before = self._config()
        texts = netplan_edits.removed(each.raw.id, before)
        name = shlex.quote(each.name)
        card = [f"ip addr flush dev {name}; ip link set dev {name} down"] if each.raw.id.section == "ethernets" else []
        self._change.make(before, before.changed(texts), texts, card)

    def begin(self) -> None:
        self._change = NetplanChange(self._run)

    def commit(self) -> None:
        self._change.keep()

    def roll_back(self) -> str:
        self._change.take_back()
        return "netplan has what there was before"

    def _config(self) -> Config:
        return netplan_files.read(self._run("sh", "-c", _READ))

    def _until_up(self, name: str, node: etree._Element) -> None:
        """It is up when it has the addresses that were said, and one of DHCP's where that was."""
        wanted = {each.get("address", "") for each in node.iterfind("protocol/ip")}
        dhcp = node.find("protocol[@family='ipv4']/dhcp") is not None
        told = ""

        def is_up() -> bool:
            nonlocal told
            told = self._run("ip", "-oneline", "address", "show", "dev", name)
            found = {word.partition("/")[0] for word in told.split()}
            return name in links(self._run, "up") and wanted <= found and (not dhcp or " dynamic " in told)

        if not holds(is_up):
            raise HostError(f"{name} does not come up: `ip address` says: {told.strip() or 'no address'}")

    def _until_down(self, name: str) -> None:
        """systemd-networkd brings up what it has configured, some time after netplan has ended."""

        def stays() -> bool:
            self._run("ip", "link", "set", "dev", name, "down")
            time.sleep(2)
            return name not in links(self._run, "up")

        if not holds(stays):
            raise HostError(f"{name} does not stay down")
