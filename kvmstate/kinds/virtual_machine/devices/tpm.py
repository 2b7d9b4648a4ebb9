"""The TPM: https://libvirt.org/formatdomain.html#tpm-device"""

from typing import Literal, Self

from lxml import etree
from pydantic import model_validator

from kvmstate.kind.secrets import KIND
from kvmstate.kinds.virtual_machine.devices.base import Device
from kvmstate.model.effect import Effect
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, xml
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


def _read_secret(encryption: etree._Element, lookup: Lookup) -> str | None:
    uuid = encryption.get("secret")
    return lookup.secret_at(uuid) if uuid else None


def _write_secret(encryption: etree._Element, value: str | None, lookup: Lookup) -> None:
    encryption.attrib.pop("secret", "")
    if value:
        encryption.set("secret", lookup.secret_uuid(value))


class TpmEncryption(Section):
    """What an emulated TPM keeps is encrypted on the host."""

    secret: str = xml(
        ".",
        Element(_read_secret, _write_secret),
        required=True,
        ref=KIND,
        effect=Effect.REPLACE,
        doc="The Secret with the passphrase, of usage vtpm.",
    )


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

    persistent_state: bool | None = xml(
        "backend/@persistent_state", doc="Of an emulated one: what it keeps outlives a machine that is transient."
    )
    debug: int | None = xml("backend/@debug", ge=1, doc="Of an emulated one: how much swtpm writes to its log.")
    profile: str | None = xml("backend/profile/@source", doc="Of an emulated one that is made: what it is able to do.")
    profile_removes: Literal["check", "fips-host"] | None = xml(
        "backend/profile/@removeDisabled", doc="What the host forbids is taken out of the profile."
    )
    encryption: TpmEncryption | None = xml(
        "backend/encryption",
        effect=Effect.REPLACE,
        doc="Of an emulated one: with what its state is encrypted. One that has a state keeps what it has.",
    )

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.device and self.version:
            raise ValueError("a TPM has either version or device, not both")
        if self.device and self.encryption:
            raise ValueError("a TPM of the host's has no encryption")
        return self

    @classmethod
    def is_one(cls, node: etree._Element) -> bool:
        # those of other backends are told by the remainder
        return parse_path("backend/@type").text(node) in (None, "emulator", "passthrough")
