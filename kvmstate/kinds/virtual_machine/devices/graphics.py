"""Screens: https://libvirt.org/formatdomain.html#graphical-framebuffers"""

import re
from typing import Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind.secrets import Password
from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.model.address import IpAddress
from kvmstate.model.effect import Effect, Given
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, same_path

PORTS = ("vnc", "spice", "rdp")
# of a machine that runs
_OWN_SOCKET = re.compile(r"/domain-\d+-[^/]*/[a-z]+\.sock$")


def _read_port(node: etree._Element, lookup: Lookup) -> int | None:
    port = int(node.get("port", "-1"))
    return port if node.get("autoport") != "yes" and port != -1 else None


def _write_port(node: etree._Element, value: int | None, lookup: Lookup) -> None:
    node.set("autoport", "no" if value else "yes")
    node.set("port", str(value or -1))


def _read_type(node: etree._Element, lookup: Lookup) -> str | None:
    return node.get("type")


def _write_type(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    if value:
        node.set("type", value)
        if value in PORTS and not {"port", "tlsPort"} & {*node.attrib}:
            node.set("autoport", "yes")


def _read_listen(node: etree._Element, lookup: Lookup) -> str | None:
    said, again = node.get("listen"), node.find("listen")
    return said if again is not None and again.get("address") == said else None


def _write_listen(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    node.attrib.pop("listen", "")
    # libvirt says it twice, and refuses two that differ
    for again in node.findall("listen"):
        node.remove(again)
    if value:
        node.set("listen", value)
        etree.SubElement(node, "listen", type="address", address=value)


def _listening(kind: str, attribute: str) -> Element:
    """Where else it listens: a <listen> of this type."""

    def read(node: etree._Element, lookup: Lookup) -> str | None:
        found = node.find("listen")
        return _named(found, attribute) if found is not None and found.get("type") == kind else None

    def write(node: etree._Element, value: str | None, lookup: Lookup) -> None:
        for again in node.findall("listen"):
            if value is not None or again.get("type") == kind:
                node.remove(again)
        node.attrib.pop(attribute, "")
        if value is not None:
            # which is not an address, and a socket not a port either
            for name in ("listen",) if kind == "network" else ("listen", "port", "autoport", "tlsPort"):
                node.attrib.pop(name, "")
            etree.SubElement(node, "listen", {"type": kind, attribute: value})

    return Element(read, write)


def _unnamed(kind: str) -> Element:
    """A <listen> of this type that names no place; libvirt gives a socket a name of its own when the machine starts."""

    def read(node: etree._Element, lookup: Lookup) -> bool | None:
        found = node.find("listen")
        return True if found is not None and found.get("type") == kind and not _named(found, kind) else None

    def write(node: etree._Element, value: bool | None, lookup: Lookup) -> None:
        for again in node.findall("listen"):
            if value or again.get("type") == kind:
                node.remove(again)
        if value:
            for name in ("listen", "port", "autoport", "tlsPort", "socket"):
                node.attrib.pop(name, "")
            etree.SubElement(node, "listen", type=kind)

    return Element(read, write)


def _named(listen: etree._Element, attribute: str) -> str | None:
    """The place that somebody has named, and not libvirt."""
    said = listen.get(attribute)
    return None if said and _OWN_SOCKET.search(said) else said


PORT = Element(_read_port, _write_port)
LISTEN = Element(_read_listen, _write_listen)
Compression = Literal["auto", "never", "always"]


class SpiceChannel(Section):
    """How a channel of SPICE's is reached."""

    name: Literal["main", "display", "inputs", "cursor", "playback", "record", "smartcard", "usbredir"] = xml(
        "@name", required=True
    )
    mode: Literal["any", "secure", "insecure"] = xml("@mode", required=True, doc="secure: by tlsPort only.")


class Graphics(Device):
    """A screen, as others see it."""

    tag = "graphics"
    key = "type"
    volatile = (
        *("self::*[@autoport='yes']/@port", "self::*[@autoport='yes']/@tlsPort", "@websocket"),
        *("@socket[contains(., '/domain-')]", "listen/@socket[contains(., '/domain-')]"),
    )

    type: Literal["vnc", "spice", "rdp", "sdl", "egl-headless", "dbus", "desktop"] = xml(
        ".", Element(_read_type, _write_type), required=True, doc="The protocol, or where it is shown."
    )
    listen: IpAddress | None = xml(".", LISTEN, doc="The host's address to listen on. Default: 127.0.0.1.")
    listen_network: str | None = xml(
        ".", _listening("network", "network"), doc="Instead: the host's address on a virtual network."
    )
    socket: str | None = xml(
        ".", _listening("socket", "socket"), same=same_path, pattern="^/", doc="Instead: a socket of the host's."
    )
    own_socket: bool | None = xml(".", _unnamed("socket"), doc="Instead: a socket that libvirt names.")
    unreachable: bool | None = xml(".", _unnamed("none"), doc="Instead: it listens nowhere.")
    port: int | None = xml(".", PORT, ge=1, le=65535, doc="Default: the first that is free, from 5900 on.")
    tls_port: int | None = xml("@tlsPort", ge=-1, le=65535, lasting=True, doc="Encrypted; spice only.")
    websocket: int | None = xml(
        "@websocket", ge=-1, le=65535, doc="For browsers; -1: the first that is free; vnc only."
    )
    keymap: str | None = xml(
        "@keymap", pattern=r"^[A-Za-z0-9_-]+$", doc="Such as de, where the viewer sends no scancodes."
    )
    default_mode: Literal["secure", "insecure", "any"] | None = xml(
        "@defaultMode", lasting=True, doc="Of channels that say nothing; spice only."
    )
    channels: list[SpiceChannel] = xml_list("channel", key="name", doc="Those that are not as defaultMode; spice only.")
    share_policy: Literal["allow-exclusive", "force-shared", "ignore"] | None = xml(
        "@sharePolicy", doc="Whether several see it; vnc only."
    )
    power_control: bool | None = xml("@powerControl", doc="Whether viewers may reset the machine; vnc only.")
    password: Password | None = xml(
        ".",
        shared=True,
        # QEMU takes none for a screen that was started without
        effect=Given(Effect.LIVE, Effect.LIVE, first=Effect.RESTART),
        doc="Whom it asks for one; vnc and spice.",
    )
    connected: Literal["fail", "disconnect", "keep"] | None = xml(
        "@connected", effect=Effect.LIVE, doc="What becomes of those that look on when the password changes."
    )
    display: str | None = xml("@display", pattern=r"^\S+$", doc="The X display of sdl.")
    xauth: str | None = xml("@xauth", same=same_path, pattern="^/", doc="Of sdl.")
    full_screen: bool | None = xml("@fullscreen", doc="Of sdl and desktop.")
    username: str | None = xml("@username", doc="Of rdp: who may log in.")
    multi_user: bool | None = xml("@multiUser", doc="Of rdp.")
    replace_user: bool | None = xml("@replaceUser", doc="Of rdp.")
    p2p: bool | None = xml("@p2p", doc="Of dbus: without a bus.")
    dbus_address: str | None = xml("@address", doc="Of dbus: the bus.")
    gl: bool | None = xml("gl/@enable", doc="Drawing by the host's card.")
    rendernode: str | None = xml("gl/@rendernode", same=same_path, pattern="^/dev/", lasting=True)
    audio: int | None = xml("audio/@id", ge=1, lasting=True, doc="Which of `audio` plays what it hears; vnc, dbus.")
    image: Literal["auto_glz", "auto_lz", "quic", "glz", "lz", "off"] | None = xml("image/@compression", doc="spice.")
    jpeg: Compression | None = xml("jpeg/@compression", doc="Over slow lines; spice only.")
    zlib: Compression | None = xml("zlib/@compression", doc="Over slow lines; spice only.")
    playback: bool | None = xml("playback/@compression", ON_OFF, doc="Of sound; spice only.")
    streaming: Literal["filter", "all", "off"] | None = xml("streaming/@mode", doc="Of videos; spice only.")
    clipboard: bool | None = xml("clipboard/@copypaste", doc="Whether it is shared; spice only.")
    file_transfer: bool | None = xml("filetransfer/@enable", doc="Whether files may be dropped; spice only.")
    mouse: Literal["client", "server"] | None = xml("mouse/@mode", doc="Whose pointer; spice only.")

    @classmethod
    def omit(cls, root: etree._Element) -> None:
        """No port is a port that libvirt chooses."""
        for screen in root.findall("devices/graphics[@autoport='yes']"):
            if screen.get("port") == "-1":
                del screen.attrib["port"]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        places = [
            name for name in ("listen", "listen_network", "socket", "own_socket", "unreachable") if getattr(self, name)
        ]
        if len(places) > 1:
            raise ValueError(f"a screen listens on one of {', '.join(places)}")
        if self.port and self.type not in PORTS:
            raise ValueError(f"a screen of type {self.type} has no port")
        if self.password and self.type not in ("vnc", "spice"):
            raise ValueError(f"a screen of type {self.type} has no password")
        return self
