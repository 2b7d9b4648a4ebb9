"""NetworkManager as a driver of a host's interfaces: its profiles by nmcli, its checkpoints by D-Bus.

A checkpoint keeps what there is, and NetworkManager itself goes back to it when its time is over and nobody has taken
it away: https://networkmanager.dev/docs/api/latest/gdbus-org.freedesktop.NetworkManager.html
"""

from __future__ import annotations

import re
import time

from lxml import etree

from kvmstate.errors import ConnectionFailed, HostError, NotFound
from kvmstate.host import nm_profiles
from kvmstate.host.nm_profiles import TYPES, Profile
from kvmstate.host.objects import HostInterface
from kvmstate.host.on_host import Run
from kvmstate.host.permit import Permit
from kvmstate.xmlbind import document

# Until NetworkManager goes back by itself
SECONDS = 60
# An interface may take so long to come up, so that there is time left to tell
_COMES_UP = 40
# DELETE_NEW_CONNECTIONS and DISCONNECT_NEW_DEVICES
_FLAGS = "6"
_NAME = "org.freedesktop.NetworkManager"
# nmcli says which it has added
_UUID = re.compile(r"\(([0-9a-f-]{36})\)")


class Interface:
    """What libvirt-python has of an interface, as far as it is asked for here."""

    def __init__(self, profile: Profile, text: str) -> None:
        self.profile, self._text = profile, text

    def name(self) -> str:
        return self.profile.interface

    def isActive(self) -> bool:
        return self.profile.active

    def XMLDesc(self, flags: int) -> str:
        return self._text


class NetworkManager:
    title = "NetworkManager"

    def __init__(self, run: Run) -> None:
        self._run = run
        self._checkpoint = ""

    @staticmethod
    def runs(run: Run) -> bool:
        """Whether one runs there, in the network that is the host's: a bus may be that of another one."""
        bus = "org.freedesktop.DBus"
        ask = (
            "busctl",
            "--system",
            "call",
            bus,
            f"/{bus.replace('.', '/')}",
            bus,
            "GetConnectionUnixProcessID",
            "s",
            _NAME,
        )
        try:
            if run("nmcli", "-t", "-f", "RUNNING", "general").strip() != "running":
                return False
            pid = run(*ask).split()[-1]
            return len({*run("readlink", f"/proc/{pid}/ns/net", "/proc/self/ns/net").split()}) == 1
        except ConnectionFailed:
            raise
        except HostError:
            return False

    def all(self) -> list[HostInterface]:
        profiles = self._profiles()
        return [
            HostInterface(Interface(each, nm_profiles.described(each, profiles)))
            for each in profiles
            if each.type in TYPES and not each.is_port
        ]

    def find(self, name: str) -> HostInterface:
        for each in self.all():
            if each.name == name:
                return each
        raise NotFound(f"NetworkManager has no profile of {name}")

    def apply(self, text: str, over: HostInterface | None, up: bool) -> None:
        node = document(text)
        name, there = node.get("name", ""), self._profiles()
        uuid = self._written(node, name, next((p for p in there if p.interface == name and not p.is_port), None))
        ports = {each.get("name", ""): each for each in nm_profiles.ports(node)}
        for each in ports.values():
            self._join(each, node, uuid, there)
        for profile in there:
            if profile.master in (name, uuid) and profile.interface not in ports:
                self._leave(profile, name, there)
        # what comes may cut this connection: the time until NetworkManager goes back begins here
        self._call("CheckpointAdjustRollbackTimeout", "ou", self._checkpoint, str(SECONDS))
        if up:
            self._run("nmcli", "--wait", "0", "connection", "up", "uuid", uuid)
            self._until_up(uuid, name)
        elif over and over.active:
            self._run("nmcli", "connection", "down", "uuid", uuid)

    def remove(self, each: HostInterface, permit: Permit) -> None:
        permit.check(each)
        profile, there = each.raw.profile, self._profiles()
        for port in there:
            if port.master in (profile.interface, profile.uuid):
                self._leave(port, profile.interface, there)
        self._run("nmcli", "connection", "delete", "uuid", profile.uuid)

    def begin(self) -> None:
        said = self._call("CheckpointCreate", "aouu", "0", str(SECONDS), _FLAGS)
        self._checkpoint = said.split('"')[1]

    def commit(self) -> None:
        try:
            self._call("CheckpointDestroy", "o", self._checkpoint)
        except ConnectionFailed:
            raise
        except HostError as error:
            # its time is over
            raise HostError(f"it took more than {SECONDS} s until the host was reached again") from error

    def roll_back(self) -> str:
        """Where the host is not reached for it, NetworkManager does it by itself."""
        end = time.monotonic() + 2 * SECONDS
        while True:
            try:
                self._call("CheckpointRollback", "o", self._checkpoint)
            except ConnectionFailed as error:
                if time.monotonic() > end:
                    told = f"the host is not reached {2 * SECONDS} s later, when NetworkManager should have gone back"
                    raise ConnectionFailed(told) from error
                time.sleep(1)
                continue
            except HostError:
                # there is no such checkpoint any more
                return "NetworkManager has gone back by itself to what there was before"
            return "NetworkManager has gone back to what there was before"

    def _call(self, method: str, *words: str) -> str:
        path = f"/{_NAME.replace('.', '/')}"
        return self._run("busctl", "--system", "call", _NAME, path, _NAME, method, *words)

    def _profiles(self) -> list[Profile]:
        told = self._run("nmcli", "-t", "-f", "UUID,STATE", "connection", "show").split()
        states = dict(each.partition(":")[::2] for each in told)
        if not states:
            return []
        return nm_profiles.read(
            self._run("nmcli", "-t", "-e", "no", "-f", "all", "connection", "show", *states), states
        )

    def _written(self, node: etree._Element, called: str, over: Profile | None, *more: str) -> str:
        """Write the profile of an interface. The answer is its UUID."""
        name, type_ = node.get("name", ""), node.get("type", "ethernet")
        if over and over.type != type_:
            self._run("nmcli", "connection", "delete", "uuid", over.uuid)
            over = None
        settings = [*nm_profiles.settings(node, over), *more]
        if over:
            # a device keeps what it was made of; and where its profile was only modified, no checkpoint brings it back
            again = nm_profiles.made_of(node) != nm_profiles.is_made_of(over)
            uuid = self._new("clone", "uuid", over.uuid, over.id) if again else over.uuid
            self._run("nmcli", "connection", "modify", "uuid", uuid, *settings)
            if again:
                self._run("nmcli", "connection", "delete", "uuid", over.uuid)
            return uuid
        # a VLAN is made of its number and its device, and no other type takes them
        head = ["type", type_, "con-name", called, "ifname", name]
        return self._new("add", *head, *nm_profiles.made_of(node), *settings)

    def _new(self, *words: str) -> str:
        """Have nmcli make a profile. The answer is its UUID."""
        return str(_UUID.findall(self._run("nmcli", "connection", *words))[-1])

    def _join(self, port: etree._Element, above: etree._Element, uuid: str, there: list[Profile]) -> None:
        """Have an interface be a port. A profile that its card has besides stays as it is, and comes after this one."""
        name, of = port.get("name", ""), above.get("name", "")
        master = ("connection.master", uuid, "connection.slave-type", above.get("type", ""))
        known = [each for each in there if each.interface == name]
        made = next((each for each in known if each.id == _port(of, name)), None)
        alone = next((each for each in known if each.type in TYPES and each.type != "ethernet"), None)
        if alone and not made and len(port) == 0:
            # one that is declared by itself
            self._run("nmcli", "connection", "modify", "uuid", alone.uuid, *master)
        elif len(port) or not any(each.master in (of, uuid) for each in known):
            inner = self._written(port, _port(of, name), made, *master, "connection.autoconnect-priority", "10")
            for each in nm_profiles.ports(port):
                self._join(each, port, inner, there)

    def _leave(self, port: Profile, of: str, there: list[Profile]) -> None:
        if port.id != _port(of, port.interface) and port.type != "ethernet":
            no_more = ("connection.master", "", "connection.slave-type", "")
            self._run("nmcli", "connection", "modify", "uuid", port.uuid, *no_more)
            return
        for inner in there:
            if inner.master in (port.interface, port.uuid):
                self._leave(inner, port.interface, there)
        self._run("nmcli", "connection", "delete", "uuid", port.uuid)

    def _until_up(self, uuid: str, name: str) -> None:
        """While it comes up the host may not be reached."""
        end, states = time.monotonic() + _COMES_UP, {""}
        lost: ConnectionFailed | None = None
        while time.monotonic() < end:
            try:
                # one that is brought up again has two, until the first has gone
                states = {*self._run("nmcli", "-g", "GENERAL.STATE", "connection", "show", "uuid", uuid).split()}
                lost = None
            except ConnectionFailed as error:
                lost = error
            if states == {"activated"} and not lost:
                return
            if not states:
                break
            time.sleep(1)
        if lost:
            raise lost
        raise HostError(f"{name} does not come up: NetworkManager says that it is {' '.join(states) or 'not active'}")


def _port(of: str, name: str) -> str:
    """What the profile of a port is called that is nothing else."""
    return f"{of} port {name}"
