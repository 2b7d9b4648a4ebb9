"""Secret: https://libvirt.org/formatsecret.html"""

from typing import ClassVar, Literal

from kvmstate.kind import Form, Spec, identity
from kvmstate.kind.secrets import Value
from kvmstate.model.effect import Effect, When
from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import YES_NO, same_flag

# Where libvirt keeps what a secret of each usage is known by
IDS = {"volume": "usage/volume", "iscsi": "usage/target"}


class SecretSpec(Spec):
    """A password or a key that libvirt keeps, and gives to the pools, disks and TPMs that name it. Its name is what
    libvirt knows it by, its usage's ID; the slashes of a path are %2F there. A host has one of a name."""

    element: ClassVar[str] = "secret"

    usage: Literal["volume", "ceph", "iscsi", "tls", "vtpm"] = xml(
        "usage/@type", required=True, effect=Effect.REPLACE, doc="volume is for encrypted images."
    )
    uuid: str | None = identity()
    description: str | None = xml("description", effect=Effect.LIVE, doc="For people.")
    ephemeral: bool | None = xml(
        "@ephemeral",
        YES_NO,
        same=same_flag,
        lasting=True,
        effect=Effect.LIVE,
        doc="Kept in memory alone: it is gone when libvirt's daemon restarts, and made again by the next apply. "
        "Default: false.",
    )
    private: bool | None = xml(
        "@private",
        YES_NO,
        same=same_flag,
        lasting=True,
        effect=When("private", (True,), Effect.LIVE, Effect.REPLACE),
        doc="libvirt tells its value to nobody. Default: false.",
    )
    value: Value | None = xml(
        ".",
        shared=True,
        lasting=True,
        remembered=True,
        effect=Effect.LIVE,
        doc="What it holds. Without it the value stays as it is on the host.",
    )

    @property
    def name_path(self) -> str:
        return IDS.get(self.usage, "usage/name")

    def gives(self) -> Value | None:
        return self.value


FORM = Form(SecretSpec)
