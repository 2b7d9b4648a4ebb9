"""What guests' ports on a network have: https://libvirt.org/formatnetwork.html#quality-of-service"""

from typing import Literal

from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import YES_NO, same_flag


class VlanTag(Section):
    id: int = xml("@id", required=True, ge=0, le=4095, doc="The VLAN's number.")
    native_mode: Literal["tagged", "untagged"] | None = xml(
        "@nativeMode", doc="That of frames without a tag, and how guests get its frames."
    )


class Vlan(Section):
    tags: list[VlanTag] = xml_list("tag", key="id", required=True, min_length=1, doc="One; of a trunk several.")
    trunk: bool | None = xml("@trunk", YES_NO, doc="Whether guests see the tags. Default: true with several.")


class VirtualPort(Section):
    """How a switch knows a port."""

    type: Literal["802.1Qbg", "802.1Qbh", "openvswitch", "midonet"] | None = xml("@type")
    manager_id: str | None = xml("parameters/@managerid")
    type_id: str | None = xml("parameters/@typeid")
    type_id_version: str | None = xml("parameters/@typeidversion")
    instance_id: str | None = xml("parameters/@instanceid")
    profile_id: str | None = xml("parameters/@profileid")
    interface_id: str | None = xml("parameters/@interfaceid")


class Flow(Section):
    average: int = xml("@average", required=True, ge=1, doc="In KiB a second.")
    peak: int | None = xml("@peak", ge=1, doc="In KiB a second, for a burst.")
    burst: int | None = xml("@burst", ge=1, doc="In KiB, at the peak's rate.")


class Bandwidth(Section):
    """Limits, seen from the guest or the network that has them."""

    inbound: Flow | None = xml("inbound", whole=True, doc="What comes in.")
    outbound: Flow | None = xml("outbound", whole=True, doc="What goes out.")


class PortGroup(Section):
    """What interfaces have that name it as their portgroup."""

    name: str = xml("@name", required=True, min_length=1, doc="What interfaces call it.")
    default: bool | None = xml("@default", YES_NO, same=same_flag, doc="Whether interfaces have it that name none.")
    trust_guest_rx_filters: bool | None = xml(
        "@trustGuestRxFilters", YES_NO, doc="Whether guests' changes of MAC address and filters hold on the host."
    )
    vlan: Vlan | None = xml("vlan", whole=True, doc="Which VLANs its ports are in.")
    virtual_port: VirtualPort | None = xml("virtualport", whole=True, doc="How a switch knows its ports.")
    bandwidth: Bandwidth | None = xml("bandwidth", whole=True, doc="Of each interface.")
