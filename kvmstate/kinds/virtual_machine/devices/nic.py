"""What interfaces may say besides where they are plugged in: https://libvirt.org/formatdomain.html#network-interfaces"""

from typing import Literal

from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import ON_OFF, same_path


class Rom(Section):
    """The firmware of the device's own."""

    bar: bool | None = xml("@bar", ON_OFF, doc="Whether the guest sees it.")
    file: str | None = xml("@file", same=same_path, pattern="^/", doc="Instead of the device's.")
    enabled: bool | None = xml("@enabled", doc="Whether it has one at all.")


class Teaming(Section):
    """Two interfaces of a guest as one: it moves while the one is away."""

    type: Literal["persistent", "transient"] = xml("@type", required=True)
    persistent: str | None = xml("@persistent", pattern="^ua-", doc="The other one's alias, of type transient.")


class VirtualPort(Section):
    """What a switch that is not Linux' wants to know."""

    type: Literal["802.1Qbg", "802.1Qbh", "openvswitch", "midonet"] | None = xml("@type")
    managerid: int | None = xml("parameters/@managerid", ge=0)
    typeid: int | None = xml("parameters/@typeid", ge=0)
    typeidversion: int | None = xml("parameters/@typeidversion", ge=0)
    instanceid: str | None = xml("parameters/@instanceid", pattern="^[0-9a-f-]{36}$", lasting=True)
    profileid: str | None = xml("parameters/@profileid")
    interfaceid: str | None = xml("parameters/@interfaceid", pattern="^[0-9a-f-]{36}$", lasting=True)


class VlanTag(Section):
    """A VLAN."""

    id: int = xml("@id", required=True, ge=0, le=4095)
    native_mode: Literal["tagged", "untagged"] | None = xml(
        "@nativeMode", effect=Effect.LIVE, doc="The one without a tag, of a trunk."
    )


class Vlan(Section):
    """The VLANs that it is in; the switch has to know them."""

    trunk: bool | None = xml("@trunk", effect=Effect.LIVE)
    tags: list[VlanTag] = xml_list("tag", key="id", effect=Effect.LIVE)


class Rate(Section):
    """In one direction."""

    average: int | None = xml("@average", effect=Effect.LIVE, ge=1, doc="In KiB/s.")
    peak: int | None = xml("@peak", effect=Effect.LIVE, ge=1, doc="In KiB/s.")
    burst: int | None = xml("@burst", effect=Effect.LIVE, ge=1, doc="In KiB, at peak speed.")


class InboundRate(Rate):
    """In the direction that the host can promise something of."""

    floor: int | None = xml(
        "@floor", effect=Effect.LIVE, ge=1, doc="In KiB/s, at least. Its network needs bandwidth.inbound as well."
    )


class Bandwidth(Section):
    """Limits, as the guest sees in and out."""

    inbound: InboundRate | None = xml("inbound", effect=Effect.LIVE)
    outbound: Rate | None = xml("outbound", effect=Effect.LIVE)


class GuestIp(Section):
    """An address that the guest gets."""

    address: str = xml("@address", required=True)
    family: Literal["ipv4", "ipv6"] | None = xml("@family", lasting=True)
    prefix: int | None = xml("@prefix", ge=0, le=128, lasting=True)
    peer: str | None = xml("@peer")


class GuestRoute(Section):
    """A route that the guest gets."""

    address: str = xml("@address", required=True)
    family: Literal["ipv4", "ipv6"] | None = xml("@family", lasting=True)
    prefix: int | None = xml("@prefix", ge=0, le=128, lasting=True)
    netmask: str | None = xml("@netmask", lasting=True, doc="Instead of prefix.")
    gateway: str = xml("@gateway", required=True)
    metric: int | None = xml("@metric", ge=0)


class Offload(Section):
    """What is left to hardware, on one side."""

    csum: bool | None = xml("@csum", ON_OFF)
    gso: bool | None = xml("@gso", ON_OFF)
    tso4: bool | None = xml("@tso4", ON_OFF)
    tso6: bool | None = xml("@tso6", ON_OFF)
    ecn: bool | None = xml("@ecn", ON_OFF)
    ufo: bool | None = xml("@ufo", ON_OFF)
    mrg_rxbuf: bool | None = xml("@mrg_rxbuf", ON_OFF)


class NicDriver(Section):
    """How the card is served; model virtio."""

    name: Literal["vhost", "qemu", "vfio", "kvm", "xen"] | None = xml("@name", lasting=True)
    model: str | None = xml("@model", pattern=r"^[A-Za-z0-9_-]+$", lasting=True, doc="Of hostdev: which of VFIO's.")
    txmode: Literal["iothread", "timer"] | None = xml("@txmode")
    ioeventfd: bool | None = xml("@ioeventfd", ON_OFF)
    event_idx: bool | None = xml("@event_idx", ON_OFF)
    rx_queue_size: int | None = xml("@rx_queue_size", ge=1)
    tx_queue_size: int | None = xml("@tx_queue_size", ge=1)
    rss: bool | None = xml("@rss", ON_OFF)
    rss_hash_report: bool | None = xml("@rss_hash_report", ON_OFF)
    iommu: bool | None = xml("@iommu", ON_OFF, doc="Through the machine's IOMMU.")
    ats: bool | None = xml("@ats", ON_OFF)
    packed: bool | None = xml("@packed", ON_OFF)
    page_per_vq: bool | None = xml("@page_per_vq", ON_OFF)
    host: Offload | None = xml("host")
    guest: Offload | None = xml("guest")


class PortRange(Section):
    """Ports, from one to another."""

    start: int = xml("@start", required=True, ge=1, le=65535)
    end: int | None = xml("@end", ge=1, le=65535)
    to: int | None = xml("@to", ge=1, le=65535, doc="The guest's first. Default: the same.")
    exclude: bool | None = xml("@exclude")


class PortForward(Section):
    """Ports of the host's that lead into the guest; passt only."""

    proto: Literal["tcp", "udp"] = xml("@proto", required=True)
    address: str | None = xml("@address")
    dev: str | None = xml("@dev")
    ranges: list[PortRange] = xml_list("range")
