"""Volumes that are encrypted (LUKS): https://libvirt.org/formatstorageencryption.html

libvirt makes them, and knows with which secret only until it looks at the pool again: from then on the manifests and
the machines' definitions say it.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from lxml import etree

from kvmstate.kind import Fault
from kvmstate.kind.secrets import Named, secret_reference
from kvmstate.model.effect import Effect
from kvmstate.model.pool_types import PoolType, Volumes
from kvmstate.model.reference import Lookup, VolumeRef
from kvmstate.xmlbind import Element, xml

if TYPE_CHECKING:
    from kvmstate.kinds.volume.spec import VolumeSpec

_NAMES = ("secret", "usage", "uuid")
_COPY = "copy what it holds from within a machine that has both"


def _forgotten(want: str | None, seen: str | None) -> bool:
    """libvirt does not tell it for long."""
    return seen is None or want == seen


def _attribute(name: str) -> Element:
    """Of the secret. It is written although libvirt tells none, and that is not a difference."""

    def write(node: etree._Element, value: str | None, lookup: Lookup) -> None:
        node.attrib.pop(name, "")
        if value is not None:
            node.set(name, value)

    return Element(lambda node, lookup: node.get(name), write)


class Encryption(Named):
    """How the image is encrypted, with the passphrase of a secret. The disks of machines that show it say so, too,
    without being told."""

    made_with = {"secret/@type": "passphrase"}

    format: Literal["luks"] = xml("@format", default="luks")
    secret: str | None = secret_reference(doc="The Secret with the passphrase, of usage volume.")
    usage: str | None = xml(
        "secret",
        _attribute("usage"),
        same=_forgotten,
        effect=Effect.REPLACE,
        doc="Or the usage of one of libvirt's secrets.",
    )
    uuid: str | None = xml(
        "secret",
        _attribute("uuid"),
        same=_forgotten,
        effect=Effect.REPLACE,
        pattern="^[0-9a-f-]{36}$",
        doc="Or its UUID.",
    )

    @property
    def words(self) -> dict[str, str]:
        """How a disk says it."""
        said = {name: getattr(self, name) for name in _NAMES if name in self.model_fields_set}
        return {"format": self.format or "luks", **{name: value for name, value in said.items() if value}}


def faults(spec: "VolumeSpec") -> Iterator[Fault]:
    """What does not go with it in a spec."""
    if spec.encryption is None:
        return
    at = ("encryption",)
    if spec.format == "iso":
        yield Fault(at, "an ISO image is not encrypted", "write format: raw, or take encryption out")
    if spec.content and spec.content.live:
        hint = "take live out, and shut the machine down"
        yield Fault(at, "a copy of a volume that is written to is not encrypted on the way", hint)
    if spec.content and spec.content.volume and spec.build:
        hint = "take build out, or begin with a file or a url"
        yield Fault(at, "a copy of another volume is not built and encrypted at once", hint)


def misfits(spec: "VolumeSpec", place: PoolType) -> Iterator[Fault]:
    """Why a volume in a pool of this type is not encrypted."""
    if spec.encryption and place.volumes is not Volumes.FILES:
        hint = "encrypt the device below the pool on the host (cryptsetup), or use a pool with files"
        yield Fault(("encryption",), f"a pool of type {place.name} has no files, and only files are encrypted", hint)


def below(spec: "VolumeSpec", encrypted: Callable[[VolumeRef], Any]) -> Iterator[Fault]:
    """What would need to read an encrypted volume: libvirt does not know its passphrase any more."""
    if spec.remainder:
        return
    if spec.backing and encrypted(spec.backing):
        yield Fault(("backing",), f"volume {spec.backing} is encrypted: no layer lies over it", _COPY)
    if spec.content and spec.content.volume and encrypted(spec.content.volume):
        yield Fault(("content",), f"volume {spec.content.volume} is encrypted: libvirt does not copy it", _COPY)


def unnamed(spec: "VolumeSpec") -> Fault | None:
    """Without a passphrase none is made."""
    if spec.encryption is None or any(getattr(spec.encryption, name) for name in _NAMES):
        return None
    return Fault(("encryption",), "nothing says with which passphrase", "write encryption: {secret: NAME}")


def forgotten(node: etree._Element) -> bool:
    """Whether a volume is encrypted, by its XML, and libvirt does not know with what."""
    found = node.find("target/encryption")
    return found is not None and found.find("secret") is None
