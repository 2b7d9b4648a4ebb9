"""What the host's end of a port needs: https://libvirt.org/formatdomain.html#consoles-serial-parallel-channel-devices"""

from typing import Literal

from kvmstate.kinds.virtual_machine.devices.label import Label
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, same_path


class Reconnect(Section):
    """Whether it calls again when the other has gone."""

    enabled: bool = xml("@enabled", required=True)
    timeout: int | None = xml("@timeout", ge=1, doc="In seconds.")
    delay: int | None = xml("@delay", ge=1, doc="Instead of timeout, in milliseconds.")


class Source(Section):
    """What the type needs. Of type udp, `host` and `service` are where it sends to."""

    path: str | None = xml(
        "@path", same=same_path, doc="Of file, unix, dev, pipe, or a pty that is there. Default of unix: libvirt's own."
    )
    mode: Literal["bind", "connect", "client-certificate"] | None = xml(
        "@mode", lasting=True, doc="Of unix, tcp and udp: whether it waits for the other, or calls it."
    )
    host: str | None = xml("@host", doc="Of tcp and udp: a name or an address.")
    service: str | None = xml("@service", doc="Of tcp and udp: a port.")
    append: bool | None = xml("@append", ON_OFF, doc="Of file: what is there stays.")
    tls: bool | None = xml("@tls", doc="Of tcp: encrypted.")
    channel: str | None = xml("@channel", doc="Of spiceport and dbus: its name there.")
    master: str | None = xml("@master", pattern="^/dev/", doc="Of nmdm (bhyve): this side's device.")
    slave: str | None = xml("@slave", pattern="^/dev/", doc="Of nmdm (bhyve): the other side's device.")
    labels: list[Label] = xml_list("seclabel", key="model", doc="Its own, instead of the machine's `seclabels`.")
    reconnect: Reconnect | None = xml("reconnect", doc="Of tcp and unix that connect.")
    clipboard: bool | None = xml("clipboard/@copypaste", doc="Of qemu-vdagent.")
    mouse: Literal["client", "server"] | None = xml("mouse/@mode", doc="Of qemu-vdagent.")
