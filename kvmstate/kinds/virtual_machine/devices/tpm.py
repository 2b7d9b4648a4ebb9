"""The TPM: https://libvirt.org/formatdomain.html#tpm-device"""

from typing import Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, xml
from kvmstate.xmlbind.codecs import same_path
from kvmstate.xmlbind.path import parse_path


def _read_device(backend: etree._Element, lookup: Lookup) -> str | None:
    return parse_path("device/@path").text(backend) if backend.get("type") == "passthrough" else None


def _write_device(backend: etree._Element, value: str | None, lookup: Lookup) -> None:
    parse_path("device").remove(backend)
    backend.set("type", "passthrough" if value else "emulator")
    if value:
        # only an emulated one has its choice
        backend.attrib.pop("version", "")
        parse_path("device/@path").set(backend, value)


class Tpm(Device):
    """A trusted platform module, which Windows 11 wants. One is emulated by swtpm, which keeps what the guest stores in
    it on the host: that goes with the machine."""

    tag = "tpm"
    made_with = {"backend/@type": "emulator", "backend/@version": "2.0"}

    model: Literal["tpm-tis", "tpm-crb", "tpm-spapr"] | None = xml("@model", lasting=True, doc="Default: libvirt's.")
    version: Literal["1.2", "2.0"] | None = xml(
        "backend/@version", lasting=True, doc="Of an emulated one. Default: 2.0. One of another version starts empty."
    )
    device: str | None = xml(
        "backend",
        Element(_read_device, _write_device),
        same=same_path,
        pattern="^/dev/",
        doc="Instead of an emulated one: the host's own, such as /dev/tpm0.",
    )

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.device and self.version:
            raise ValueError("a TPM has either version or device, not both")
        return self

    @classmethod
    def is_one(cls, node: etree._Element) -> bool:
        # those of other backends are told by the remainder
        return parse_path("backend/@type").text(node) in (None, "emulator", "passthrough")
