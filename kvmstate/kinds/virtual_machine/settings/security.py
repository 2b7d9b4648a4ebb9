"""Labels and encrypted memory: https://libvirt.org/formatdomain.html#security-label, #launch-security"""

from typing import Literal

from kvmstate.xmlbind import Scalar, Section, xml
from kvmstate.xmlbind.codecs import NUMBER, ON_OFF

HEX = Scalar(lambda text: int(text, 0), lambda value: f"0x{value:04x}")


class SecurityLabel(Section):
    """Under which label it runs."""

    model: str | None = xml("@model", pattern=r"^[A-Za-z0-9_]+$", lasting=True, doc="selinux, apparmor or dac.")
    type: Literal["dynamic", "static", "none"] = xml(
        "@type", required=True, doc="static takes the label, none does not label."
    )
    relabel: bool | None = xml("@relabel", lasting=True, doc="Whether its files are labelled as well.")
    label: str | None = xml("label", doc="Such as 1000:1000 of model dac.")
    baselabel: str | None = xml("baselabel", doc="What a dynamic label starts from.")


class KeyWrap(Section):
    """A key of s390x' CPUs that is wrapped."""

    name: Literal["aes", "dea"] = xml("@name", required=True)
    state: bool = xml("@state", ON_OFF, required=True)


class LaunchSecurity(Section):
    """Memory that the host cannot read."""

    type: Literal["sev", "sev-snp", "s390-pv", "tdx"] = xml("@type", required=True)
    kernel_hashes: bool | None = xml("@kernelHashes", doc="The kernel counts as well, of direct kernel boot.")
    cbitpos: int | None = xml("cbitpos", NUMBER, ge=0, le=63, lasting=True, doc="The bit that says encrypted.")
    reduced_phys_bits: int | None = xml("reducedPhysBits", ge=0, le=63, lasting=True, doc="Bits that this takes.")
    policy: int | None = xml("policy", HEX, ge=0, doc="As AMD's API for SEV, or Intel's for TDX, says.")
    dh_cert: str | None = xml("dhCert", doc="The guest owner's certificate, in base64.")
    author_key_given: bool | None = xml("@authorKey", doc="idAuth has the author's key as well (SEV-SNP).")
    vcek: bool | None = xml("@vcek", doc="The chip's own key attests (SEV-SNP).")
    guest_visible_workarounds: str | None = xml(
        "guestVisibleWorkarounds", doc="Flaws that the guest is told of, in base64 (SEV-SNP)."
    )
    id_block: str | None = xml("idBlock", doc="What the guest is known by, in base64 (SEV-SNP).")
    id_auth: str | None = xml("idAuth", doc="The signature of idBlock, in base64 (SEV-SNP).")
    host_data: str | None = xml("hostData", doc="Data of the host's for the guest, in base64 (SEV-SNP).")
    session: str | None = xml("session", doc="The guest owner's session, in base64.")
