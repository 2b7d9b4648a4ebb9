"""What has to be seen of a virtual machine that runs; see `kvmstate.kind.probe`. The words are those of Kubernetes'
probes."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from kvmstate.model.field import field
from kvmstate.model.quantity import Duration
from kvmstate.model.resource import Model


def _host(text: str) -> str:
    if unknown := set(re.findall(r"\{([^{}]*)\}", text)) - {"domain"}:
        raise ValueError(f"a host has no {{{min(unknown)}}}, only {{domain}}")
    return text


class TcpSocket(Model):
    """A port that takes connections, tried from where kvmstate runs."""

    port: int = field(required=True, ge=1, le=65535, doc="The port.")
    host: Annotated[str, AfterValidator(_host)] | None = field(
        min_length=1,
        doc="Name or address; {domain} is the machine's name. Default: the addresses that libvirt's DHCP leases, the "
        "guest agent and the host's ARP table tell.",
        examples=["{domain}.example.org"],
    )


class HealthCheck(Model):
    """What has to be seen of a machine that runs, within a time; all that is asked for."""

    address: bool = field(False, doc="It has an IP address, as leases, its agent or the host's ARP table tell.")
    guest_agent: bool = field(False, doc="The guest agent answers.")
    cloud_init: bool = field(False, doc="cloud-init has done its work without an error, as the guest agent tells.")
    tcp_socket: TcpSocket | None = field(doc="A port takes connections.")
    timeout: Duration = field(60, gt=0, doc="How long that may take.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.address or self.guest_agent or self.cloud_init or self.tcp_socket):
            raise ValueError("say what is checked: address, guestAgent, cloudInit or tcpSocket")
        return self
