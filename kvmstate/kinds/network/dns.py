"""Names that a network's dnsmasq answers: https://libvirt.org/formatnetwork.html#addressing"""

from typing import ClassVar

from kvmstate.model.address import IpAddress
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import YES_NO


class DnsHost(Section):
    ip: IpAddress = xml("@ip", required=True, doc="The address.")
    hostnames: list[str] = xml_list(
        "hostname", required=True, min_length=1, effect=Effect.LIVE, doc="Names that resolve to the address."
    )


class Forwarder(Section):
    """Who is asked for names that dnsmasq does not know. Of a domain without an address it knows all itself."""

    exact: ClassVar[bool] = True

    addr: IpAddress | None = xml("@addr", doc="The DNS server. Default: those of the host.")
    domain: str | None = xml("@domain", doc="Only for names in it.")


class Txt(Section):
    name: str = xml("@name", required=True, doc="The name that is asked for.")
    value: str = xml("@value", required=True, effect=Effect.LIVE, doc="The text.")


class Srv(Section):
    """Where a service is."""

    # libvirt puts what is added while the network runs behind all others
    ordered: ClassVar[bool] = False
    # nothing tells which one was before what is there
    exact: ClassVar[bool] = True

    service: str = xml("@service", required=True, pattern=r"^\S+$", doc="Without an underscore: ldap.")
    protocol: str = xml("@protocol", required=True, pattern=r"^\S+$", doc="tcp or udp, without an underscore.")
    domain: str | None = xml("@domain", doc="Default: the network's.")
    target: str | None = xml("@target", doc="The host that has it.")
    port: int | None = xml("@port", ge=1, le=65535, doc="The service's port there.")
    priority: int | None = xml("@priority", ge=0, le=65535, doc="Those with smaller ones are asked first.")
    weight: int | None = xml("@weight", ge=0, le=65535, doc="Of those with one priority, how often.")


class Dns(Section):
    enable: bool | None = xml("@enable", YES_NO, doc="Whether dnsmasq answers at all. Default: true.")
    forward_plain_names: bool | None = xml(
        "@forwardPlainNames", YES_NO, doc="Whether names without a dot are asked of other servers too. Default: true."
    )
    forwarders: list[Forwarder] = xml_list("forwarder", whole=True, doc="Who is asked for all other names.")
    hosts: list[DnsHost] = xml_list("host", key="ip", whole=True, effect=Effect.LIVE, doc="Names of addresses.")
    txt: list[Txt] = xml_list("txt", key="name", whole=True, effect=Effect.LIVE, doc="TXT records.")
    srv: list[Srv] = xml_list("srv", whole=True, effect=Effect.LIVE, doc="SRV records.")


class Domain(Section):
    name: str = xml("@name", required=True, doc="The DNS domain of this network, such as lab.example.")
    local_only: bool | None = xml(
        "@localOnly", YES_NO, doc="Whether names in it that dnsmasq does not know are asked of nobody else."
    )
