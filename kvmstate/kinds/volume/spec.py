"""Volume: https://libvirt.org/formatstorage.html#storage-volume-xml"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from lxml import etree
from pydantic import PrivateAttr, model_validator

from kvmstate.kind import Cloned, Fault, Form, Image, Spec
from kvmstate.kind.build import PRIVATE, Build
from kvmstate.kinds.volume import encryption, options
from kvmstate.kinds.volume.encryption import Encryption
from kvmstate.kinds.volume.options import Compat, Permissions
from kvmstate.model.change import FieldChange
from kvmstate.model.effect import Effect, Given, Scaling, When
from kvmstate.model.field import field
from kvmstate.model.pool_types import Can, PoolType, Volumes, image_format, pool_type
from kvmstate.model.quantity import Bytes, Size
from kvmstate.model.reference import Lookup, VolumeRef
from kvmstate.model.resource import Name
from kvmstate.xmlbind import Element, Remainder, Section, Sensitive, later, xml
from kvmstate.xmlbind.codecs import Scalar, present, same_flag, size


def _read_backing(node: etree._Element, lookup: Lookup) -> object:
    path = node.findtext("path")
    return lookup.volume_at(path) if path else None


def _write_backing(node: etree._Element, value: object, lookup: Any) -> None:
    if value is None:
        return
    for child in list(node):
        node.remove(child)
    source = lookup.volume_source(value)
    etree.SubElement(node, "path").text = source.path
    etree.SubElement(node, "format").set("type", source.format)


def _same_capacity(want: int | None, seen: int | None) -> bool:
    """One that is not wanted any more stays as it is."""
    return want is None or want == seen


def _same_format(want: str | None, seen: str | None) -> bool:
    """libvirt tells an ISO image from its content; until it has any, it is a raw one."""
    return want == seen or {want, seen} == {"raw", "iso"}


def _on_creation_only(want: object, seen: object) -> bool:
    """What is allocated grows as the guest writes: that is not a difference."""
    return seen is not None


if TYPE_CHECKING:
    from kvmstate.kinds.volume.seed import Seed
else:
    Seed = later("kvmstate.kinds.volume.seed", "Seed")

# What names end with that nobody has chosen, by formats
SUFFIXES = {"qcow2": ".qcow2", "iso": ".iso"}
# What the offset of a file can be
LARGEST = (1 << 63) - 1
CHECKSUM = "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"
# With a checksum, content is the same wherever it comes from.
SOURCE = When("checksum", (None,), then=Effect.REPLACE, otherwise=Effect.NONE)


class Content(Section):
    """What the volume holds at first: an image, or a copy of another volume. An image that is compressed (xz, gzip,
    bzip2, zstd) is unpacked, one of another format converted."""

    file: str | None = field(local=True, effect=SOURCE, doc="A local file; relative to the manifest.")
    url: str | None = field(effect=SOURCE, pattern="^https?://", doc="An http or https address.")
    volume: VolumeRef | None = field(
        ref="volume",
        effect=Effect.REPLACE,
        doc="Another volume, copied by libvirt when this one is made; what becomes of it later is not a difference.",
    )
    live: bool = field(
        False,
        effect=Effect.NONE,
        doc="Of a volume that a running machine writes to: it is copied as it is at one moment, with its file systems "
        "quiesced where the guest agent answers. The machine goes on.",
    )
    checksum: str | None = field(
        effect=Effect.REPLACE, pattern=CHECKSUM, doc="sha256:… or sha512:… of the file, as it is published."
    )
    seed: Seed | None = field(effect=Effect.REPLACE, doc="Instead: an image that is made of these texts; format iso.")
    checksums: str | None = field(
        effect=Effect.NONE,
        pattern=r"^(https?://\S+|[^\s:]+)$",
        doc="The vendor's list of checksums, an address or relative to url, such as SHA512SUMS: `kvmstate pin` writes "
        "checksum from it. Nothing else reads it.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.file, self.url, self.volume, self.seed)) != 1:
            raise ValueError("content needs one of file, url, volume and seed")
        if self.checksum and not (self.file or self.url):
            raise ValueError("a checksum is of a file or a url")
        if self.checksums and not self.url:
            raise ValueError("checksums are of a url")
        if self.url and not self.checksum:
            raise ValueError("content from a url needs its checksum: `kvmstate pin` writes it from the vendor's list")
        return self


class VersionOf(Section):
    """Of which template a volume is a version."""

    template: str = field(required=True)
    number: int = field(required=True)
    disk: str = field(required=True, doc="Of which disk.")
    recipe: str = field(
        None,
        Sensitive(lambda text: not text.startswith(PRIVATE)),
        required=True,
        doc="A digest of what it was built from.",
    )


class VolumeSpec(Spec):
    """A disk image. It holds data: it shrinks only where that is said, and goes only when its lifecycle allows it."""

    element: ClassVar[str] = "volume"
    # what a volume is made from; what becomes of its file's mode and owner is not a difference
    remainder: Annotated[Remainder, Effect.NONE] = None
    pool: Name = field(required=True, ref="pool", effect=Effect.REPLACE, doc="The storage pool that it is in.")
    format: Literal["raw", "qcow2", "iso"] = xml(
        "target/format/@type",
        Scalar(image_format, str),
        default="qcow2",
        same=_same_format,
        recorded=True,
        effect=Effect.REPLACE,
        doc="iso is a CD-ROM's image, which is raw to QEMU. qcow2 is made as version 3.",
    )
    capacity: Size | None = xml(
        "capacity",
        size("bytes"),
        same=_same_capacity,
        effect=Scaling(grow=Effect.LIVE, shrink=Effect.REFUSED, fixed="fixed", shrinks="shrinks"),
        doc="What the guest sees; the pool may round it up. Default: that of the content or the backing volume. In a "
        "pool that cannot resize, such as a logical one, more is a replacement.",
    )
    allow_shrink: bool | None = field(
        effect=Effect.NONE,
        doc="Less capacity cuts off what lies beyond it, while no machine runs on the volume and nothing lies over it. "
        "Shrink the file system in it first.",
    )
    allocation: Size | None = xml(
        "allocation",
        size("bytes"),
        same=_on_creation_only,
        effect=Effect.NONE,
        doc="Reserved when the volume is made. Default: nothing (sparse).",
    )
    backing: VolumeRef | None = xml(
        "backingStore",
        Element(_read_backing, _write_backing),
        ref="volume",
        passing=True,
        effect=Effect.REPLACE,
        doc="The volume that this one is a copy-on-write layer over (format qcow2; raw in an rbd pool). One that was "
        "flattened since, so that it stands alone, is not a difference.",
    )
    encryption: Encryption | None = xml(
        "target/encryption",
        recorded=True,
        effect=Effect.REPLACE,
        doc="LUKS, in pools with files. Whoever has neither the passphrase nor a copy of it has lost what is in it.",
    )
    content: Content | None = field(
        effect=Given(set=Effect.REPLACE, unset=Effect.NONE),
        doc="What it holds at first. Without: empty, or the backing volume's. Taken out later, what it holds stays.",
    )
    build: Build | None = field(
        effect=Effect.NONE, doc="What is done to the content when the volume is made, before anybody uses it."
    )
    template: str | None = field(
        pattern="^[^@/]+(@[1-9][0-9]*)?$",
        effect=Effect.NONE,
        doc="Instead: the template that it is cloned from, when it is made. It stays a clone of that version; NAME@2 "
        "names one.",
    )
    template_disk: str | None = field(effect=Effect.NONE, doc="Which disk of the template. Default: root.")
    clone: Literal["linked", "full"] | None = field(
        effect=Effect.NONE,
        doc="A layer over the template's version (linked), or a full copy. Default: as the template says.",
    )
    made_for: str | None = field(
        None,
        Sensitive(),
        effect=Given(set=Effect.REPLACE, unset=Effect.NONE, first=Effect.NONE),
        doc="Written by kvmstate: a digest of the seed for cloud-init that it is made again with.",
    )
    version_of: VersionOf | None = field(effect=Effect.NONE, doc="Written by kvmstate: of what it is a version.")
    compat: Compat | None = xml(
        "target/compat",
        lasting=True,
        effect=Effect.REPLACE,
        doc="The version of qcow2: 1.1 is version 3, 0.10 version 2, for old readers. Default: 1.1.",
    )
    cluster_size: Size | None = xml(
        "target/clusterSize",
        size("bytes"),
        lasting=True,
        effect=Effect.REPLACE,
        doc="Of qcow2, a power of two. Default: 64KiB.",
    )
    lazy_refcounts: bool | None = xml(
        "target/features",
        present("lazy_refcounts"),
        same=same_flag,
        lasting=True,
        effect=Effect.REPLACE,
        doc="Of qcow2: writes are faster, and an image whose QEMU was killed is repaired when it is opened again.",
    )
    extended_l2: bool | None = xml(
        "target/features",
        present("extended_l2"),
        same=same_flag,
        lasting=True,
        effect=Effect.REPLACE,
        doc="Of qcow2: clusters are allocated in 32 parts; made for layers with large clusters. libvirt 8.0.",
    )
    preallocation: Literal["metadata", "falloc"] | None = field(
        effect=Effect.NONE,
        doc="Of qcow2, when it is made: its tables alone (metadata), or all of its capacity (falloc). Of raw images "
        "that is said by allocation.",
    )
    nocow: bool | None = xml(
        "target",
        present("nocow"),
        same=same_flag,
        lasting=True,
        recorded=True,
        effect=Effect.REPLACE,
        doc="btrfs does not copy it on write. Elsewhere libvirt makes no raw image with it.",
    )
    permissions: Permissions | None = xml(
        "target/permissions",
        lasting=True,
        recorded=True,
        effect=Effect.REPLACE,
        doc="Whose it is when it is made. Default: that of its pool, or root's.",
    )
    # of its pool, once it is known
    _kept: PoolType = PrivateAttr(default_factory=partial(pool_type, ""))

    @property
    def kept(self) -> PoolType:
        """The type of the pool that it is in; one that rules nothing out as long as nobody has looked."""
        return self._kept

    @property
    def fixed(self) -> bool:
        """Whether it cannot be resized where it is."""
        return Can.RESIZE not in self.kept.can

    @property
    def shrinks(self) -> bool:
        """Whether it may become smaller."""
        return bool(self.allow_shrink) and not self.fixed

    def kept_in(self, place: PoolType, seen: int | None = None) -> Self:
        """The spec as it is in a pool of this type, where it has a capacity of `seen` bytes: more by a rounding is the
        same."""
        want = self.capacity
        rounded = want is not None and seen is not None and 0 < seen - want < place.unit
        spec = self.model_copy(update={"capacity": Bytes(seen or 0)} if rounded else None)
        spec._kept = place
        return spec

    def told(self, seen: Self) -> Self:
        """The spec without what libvirt does not tell of an image, as it has not looked at it: the next time it may."""
        untold = {name for name in ("compat", "cluster_size") if getattr(seen, name) is None and getattr(self, name)}
        if not untold or seen.format != "qcow2":
            return self
        spec = self.model_copy(update=dict.fromkeys(untold))
        spec.model_fields_set.difference_update(untold)
        return spec

    def misfits(self, place: PoolType) -> Iterator[Fault]:
        if self.remainder:
            # what was imported may be as it is
            return
        where = f"a pool of type {place.name}"
        if self.backing and not place.can & (Can.LAYER | Can.CHILD):
            yield Fault(("backing",), f"{where} has no layers over other volumes", "take backing out")
        elif not place.knows(self.format):
            yield Fault(("format",), f"{where} has no {self.format} volumes", "write format: raw")
        elif self.backing and place.own_layers and self.backing.pool != self.pool:
            yield Fault(("backing",), f"a layer in {where} lies on a volume of the same pool", "choose one of its own")
        elif self.backing and not place.own_layers and self.format != "qcow2":
            yield Fault(("format",), "a volume with a backing volume must have format qcow2", "leave format out")
        if self.content and self.content.volume:
            if place.own_layers:
                yield Fault(("content",), f"libvirt makes layers in {where}, and no copies", "write backing instead")
            elif Can.COPY not in place.can:
                yield Fault(("content",), f"libvirt copies no volume into {where}", "take it out, and fill it by hand")
        elif self.content and Can.UPLOAD not in place.can:
            yield Fault(("content",), f"libvirt writes no content into {where}", "take it out, and fill it by hand")
        if not place.sparse and self.allocation is not None and self.allocation < (self.capacity or 0):
            yield Fault(("allocation",), f"{where} reserves all of a volume at once", "leave allocation out")
        yield from options.misfits(self, place)
        yield from encryption.misfits(self, place)

    def faults(self) -> Iterator[Fault]:
        if self.template and (self.backing or self.content):
            said = "backing" if self.backing else "content"
            yield Fault((said,), f"a volume has either template or {said}, not both", "take one of them out")
        if self.build and not self.content:
            yield Fault(("build",), "there is no content that it could be done to", "add content, or take build out")
        if (self.capacity or 0) > LARGEST:
            yield Fault(("capacity",), "no file is larger than 8 EiB less a byte", "look at the unit")
        yield from encryption.faults(self)
        if not self.remainder:
            if self.capacity == 0 and self.format == "qcow2":
                yield Fault(("capacity",), "an image of 0 bytes holds nothing", "say how large it is, such as 20GiB")
            yield from options.faults(self)

    def id_name(self, name: str) -> str:
        return f"{self.pool}/{name}"

    def encrypted(self) -> dict[str, str] | None:
        return self.encryption.words if self.encryption else None

    def shown(self, encrypted: Callable[[VolumeRef], Any]) -> Iterator[Fault]:
        return encryption.below(self, encrypted)

    def images(self) -> Iterator[Image]:
        if self.backing:
            yield Image(("backing",), self.backing, layer=True)

    def cut_off(self, fields: Sequence[FieldChange]) -> bool:
        sizes = [(f.old, f.new) for f in fields if f.path == ("capacity",)]
        return any(old and new and new < old for old, new in sizes)

    def content_format(self) -> str:
        return _format(self.remainder, self.format if "format" in self.model_fields_set else None)

    def stem(self, name: str) -> str:
        return next((name.removesuffix(end) for end in SUFFIXES.values() if name.endswith(end)), name)

    def holds_own(self) -> bool:
        return not (self.content and self.content.seed and self.content.seed.on_change == "replace")

    def cloned(self) -> Cloned | None:
        if self.template is None or self.backing or self.content:
            return None
        name, _, number = self.template.partition("@")
        return Cloned(name, int(number) if number else None, self.template_disk or "root")

    def clone_of(self, version: str, base: VolumeRef, place: PoolType | None, below: PoolType | None) -> Self:
        """The spec of a new clone of this volume, in a pool of one type over one in a pool of another, where that is
        known."""
        layers = self.format == "qcow2" and (place is None or Can.LAYER in place.can)
        layers = layers and (below is None or below.volumes is not Volumes.NETWORK)
        if self.clone == "linked" or (self.clone is None and layers):
            return self.model_copy(update={"template": version, "backing": base})
        return self.model_copy(update={"template": version, "content": Content(volume=base)})

    def cloned_as(self, applied: Mapping[str, Any]) -> Self:
        """The spec with what it was made from, as it was applied."""
        update: dict[str, Any] = {"template": applied["template"]}
        if base := applied.get("backing"):
            update["backing"] = VolumeRef.model_validate(base)
        elif content := applied.get("content"):
            update["content"] = Content.model_validate(content)
        return self.model_copy(update=update)

    def as_applied(self, written: Mapping[str, Any], applied: Mapping[str, Any], own: Mapping[str, Any]) -> Self:
        begun = {"template", "templateDisk", "clone", "backing", "content", *own} if self.template else ()
        said = {"pool", *begun}
        made = {name: value for name, value in written.items() if name in said}
        made |= {name: value for name, value in applied.items() if name not in said}
        return self if made == written else self.model_validate(made)

    def lies_on(self) -> VolumeRef | None:
        return self.backing

    def copied_from(self) -> VolumeRef | None:
        """The volume that it is a copy of."""
        return self.content.volume if self.content else None

    def standing_alone(self) -> Self:
        """The spec without that."""
        spec = self.model_copy(update={"content": None})
        spec.model_fields_set.discard("content")
        return spec

    def filling(self) -> Content | None:
        return self.content

    @model_validator(mode="after")
    def _sources(self) -> Self:
        if self.backing and self.content:
            raise ValueError("a volume has either backing or content, not both")
        if self.capacity is None and not self.backing and not self.content and not self.template:
            raise ValueError("capacity is needed for an empty volume")
        return self


_FORMAT = re.compile(r"<format type=['\"]([\w-]+)['\"]")


def _format(remainder: str | None, said: str | None) -> str:
    if remainder and not said:
        # without a format it is made as raw, and of logical volumes and the like libvirt tells none
        return image_format(found[1]) if (found := _FORMAT.search(remainder)) else "raw"
    return said or "qcow2"


def volume_images(name: str, spec: Mapping[str, Any]) -> Iterator[tuple[VolumeRef | str, str | None]]:
    """The volume of this name, with the format that its spec says."""
    yield VolumeRef.parse(name), _format(spec.get("remainder"), spec.get("format"))


FORM = Form(
    VolumeSpec,
    volatile=(
        *("allocation", "physical", "//timestamps", "//permissions"),
        *("target/clusterSize", "target/compat", "target/features"),
    ),
    images=volume_images,
)
