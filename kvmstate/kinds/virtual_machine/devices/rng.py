"""Random number generators: https://libvirt.org/formatdomain.html#random-number-generator-device"""

from typing import Literal, Self

from pydantic import model_validator

from kvmstate.kinds.virtual_machine.devices import Reconnect, Virtio
from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import same_path


class Gatherer(Section):
    """A daemon that gathers entropy (EGD), where it is reached."""

    type: Literal["tcp", "udp", "unix"] = xml("@type", required=True)
    mode: Literal["bind", "connect"] | None = xml("source/@mode", lasting=True)
    host: str | None = xml("source/@host")
    service: str | None = xml("source/@service")
    path: str | None = xml("source/@path", pattern="^/")
    tls: bool | None = xml("source/@tls", doc="Of type tcp: encrypted.")
    reconnect: Reconnect | None = xml("source/reconnect", doc="Where it calls.")
    protocol: Literal["raw", "telnet", "telnets", "tls"] | None = xml(
        "protocol/@type", lasting=True, doc="Of type tcp. Default: raw."
    )


class Rng(Device):
    """Entropy for the guest."""

    tag = "rng"
    key = ""
    made_with = {"@model": "virtio", "backend/@model": "random"}

    model: Literal["virtio", "virtio-transitional", "virtio-non-transitional"] | None = xml(
        "@model", lasting=True, doc="Default: virtio."
    )
    backend: Literal["random", "builtin", "egd"] | None = xml(
        "backend/@model", lasting=True, doc="builtin: QEMU's own; egd: a daemon. Default: random."
    )
    source: str | None = xml(
        "backend",
        same=same_path,
        lasting=True,
        pattern="^/",
        doc="A random device of the host. Default: libvirt's own.",
    )
    egd: Gatherer | None = xml("backend", shared=True, doc="Of backend egd.")
    rate_bytes: int | None = xml("rate/@bytes", ge=1, doc="What the guest gets at most in each period.")
    rate_period: int | None = xml("rate/@period", ge=1, lasting=True, doc="In milliseconds. Default: 1000.")
    virtio: Virtio | None = xml("driver", shared=True)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.source and self.backend not in (None, "random"):
            raise ValueError("source goes with backend random")
        if (self.egd is None) != (self.backend != "egd"):
            raise ValueError("egd goes with backend egd")
        return self
