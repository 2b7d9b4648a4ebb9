"""What a manifest says of one resource: the base of every kind's spec."""

import copy
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

from lxml import etree
from pydantic import field_validator

from kvmstate.model.effect import Effect
from kvmstate.model.pool_types import PoolType
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Model, Resource
from kvmstate.xmlbind import Overrides, Remainder, Section, document, xml
from kvmstate.xmlbind.codecs import same_case
from kvmstate.xmlbind.remainder import tag
from kvmstate.xmlbind.spelling import spelled

if TYPE_CHECKING:
    from kvmstate.kind.secrets import Value
    from kvmstate.model.change import FieldChange


@dataclass(frozen=True)
class Fault:
    """What would not work of a spec that is well-formed; `path` is that of a field in it, and `beside` that of another
    one that it does not go with, which may have been the one that was edited."""

    path: tuple[str | int, ...]
    message: str
    hint: str = ""
    beside: tuple[str | int, ...] | None = None


@dataclass(frozen=True)
class Claim:
    """What one resource of a host has for itself: `what` is it, in words, and `value` it. IP networks overlap, all else
    is the same or another."""

    path: tuple[str | int, ...]
    what: str
    value: str | IPv4Network | IPv6Network


class Image(NamedTuple):
    """A volume, or a file, that a resource uses; a `layer` lies on it."""

    path: tuple[str | int, ...]
    image: VolumeRef | str
    writes: bool = False
    shareable: bool = False
    layer: bool = False


class Plug(NamedTuple):
    """An interface of a guest, on a network or a bridge of the host."""

    path: tuple[str | int, ...]
    network: str | None
    bridge: str | None
    mac: str | None


class Cloned(NamedTuple):
    """What something is to be cloned from: `disk` of a template, or of its version `number`."""

    template: str
    number: int | None
    disk: str


class Unclear(Exception):
    """What a spec declares besides itself cannot be told from what it says."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Inlining(Section):
    """A section with fields that are read from files; those of `mappings` as YAML, which JSON is, too."""

    mappings: ClassVar[frozenset[str]] = frozenset()

    def read(self, into: str, text: Any) -> None:
        """Take a file's text, or mapping, as this field. Raises ValueError for one that it cannot be."""
        raise NotImplementedError

    def structures(self) -> "Iterable[tuple[tuple[str, ...], object]]":
        """What of it has a structure to be checked, by its place: a mapping, or a text of YAML."""
        return ()

    def misfits(self, said: object) -> "Iterable[Fault]":
        """What of such a structure is wrong, at places in it."""
        return ()


class Inner(NamedTuple):
    """A resource that another one's spec declares; `path` is where."""

    path: tuple[str | int, ...]
    resource: Resource


UUID = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
# stands in a remainder that `import` writes
PARTS = re.compile(r"<\?kvmstate parts of ([\w.]+(?:, [\w.]+)*)\?>")


class Filling(Protocol):
    """Either a local file or an address, and the checksum of what is there."""

    @property
    def file(self) -> str | None: ...
    @property
    def url(self) -> str | None: ...
    @property
    def checksum(self) -> str | None: ...


class Declaration(Model):
    """The spec of a kind."""

    def faults(self) -> Iterable[Fault]:
        """What libvirt would refuse, or take and not do."""
        return ()

    def claims(self) -> Iterable[Claim]:
        """What no other resource of the project may have as well."""
        return ()

    def images(self) -> Iterable[Image]:
        """The images that it uses."""
        return ()

    def plugs(self) -> Iterable[Plug]:
        """Where guests are plugged in."""
        return ()

    def filling(self) -> Filling | None:
        """What is uploaded into it when it is made."""
        return None

    def holds_own(self) -> bool:
        """Whether it would hold what nothing else has, rather than what its manifest says again at any time."""
        return True

    def stem(self, name: str) -> str:
        """A name without what the spec adds to it where nobody has chosen one."""
        return name

    def content_format(self) -> str | None:
        """The format that it says of what it holds."""
        return None

    def place(self) -> str | None:
        """The folder of the host that its objects are in."""
        return None

    def keeps(self) -> PoolType | None:
        """How it keeps what is in it."""
        return None

    def refuses(self, other: "Spec", path: tuple[str | int, ...]) -> Fault | None:
        """What would not work of another resource that refers to this one, in this field."""
        return None

    def variables(self) -> frozenset[str]:
        """What of it stands for a value that who refers to it gives."""
        return frozenset()

    def misfits(self, place: PoolType) -> Iterable[Fault]:
        """What would not work of it in what it is in, which keeps it so."""
        return ()

    def cut_off(self, fields: "Sequence[FieldChange]") -> bool:
        """Whether such a change of it cuts off a part of what it holds."""
        return False

    def status(self) -> str:
        """What it is doing, or should be doing, in a word."""
        return "present"

    @property
    def runs(self) -> bool:
        return self.status() not in ("stopped", "inactive")

    def id_name(self, name: str) -> str:
        """The name within the kind's address; `name` is metadata's."""
        return name

    def gives(self) -> "Value | None":
        """The value that others may be given: that of a secret."""
        return None

    def takes(self) -> bool:
        """Whether it is given the value of a secret, to be written into its XML."""
        return False

    def encrypted(self) -> Any:
        """How what it holds is encrypted, as who shows it to a guest says that; None where it is not."""
        return None

    def shown(self, encrypted: "Callable[[VolumeRef], Any]") -> Iterable[Fault]:
        """Take over how the volumes that it uses are encrypted, where it does not say that itself. The answer is what
        would not work of that."""
        return ()

    def apart(self, resource: Resource, project: str) -> tuple[Self, Sequence[Inner]]:
        """The spec with references in place of what it declares itself, and that; `resource` is what it is of. Raises
        Unclear where it cannot be told what is meant."""
        return self, ()

    def recipe(self) -> str:
        """A digest of what the versions of a template are built from; empty for what is none."""
        return ""

    def has_own(self) -> bool:
        """Whether something on the host is its own, of a kind that lives in manifests alone."""
        return False

    def cloned(self) -> Cloned | None:
        """What it is to be cloned from, as long as nobody has told which volume that is."""
        return None

    def as_applied(self, written: Mapping[str, Any], applied: Mapping[str, Any], own: Mapping[str, Any]) -> Self:
        """The spec of what was made from a template, which is `written` so, with what it has from that as it was
        applied; `own` is what its manifest says itself."""
        return self

    def twin(
        self, own: Mapping[str, Any], name: str, formats: Mapping[str, str], sysprep: bool
    ) -> tuple[dict[str, Any], list[str]] | None:
        """What the manifest of a copy of this name would say, and what people should know of it; `own` is what its own
        manifest says, `formats` are those of volumes. None where there are no copies."""
        return None

    def disk_volume(self, name: str | None) -> VolumeRef | None:
        """The volume of its disk of this name, or of its first one that is a volume."""
        return None

    def lies_on(self) -> VolumeRef | None:
        """The volume that it is a layer over."""
        return None

    def reads(self) -> Iterable[tuple[tuple[str | int, ...], Inlining]]:
        """What of it has texts that stand in files, and where that is."""
        return ()

    def selects(self, resource: Resource) -> bool:
        """Whether it chooses this resource, by what that says of itself; what is named is a reference."""
        return False


def identity() -> Any:
    """Declare the UUID of an object, which libvirt never changes."""
    doc = "By which libvirt knows it. Default: chosen when it is made."
    return xml("uuid", same=same_case, lasting=True, effect=Effect.REFUSED, pattern=UUID, doc=doc)


class Spec(Section, Declaration):
    """The spec of a kind with objects on hosts: the model of libvirt's document element, whose name is at `named`."""

    element: ClassVar[str]
    named: ClassVar[str] = "name"
    xml: Overrides = {}
    remainder: Remainder = None

    @field_validator("remainder")
    @classmethod
    def _same_element(cls, text: str | None) -> str | None:
        if text is not None and tag(text) != cls.element:
            raise ValueError(f"expected one <{cls.element}> element")
        return text

    @property
    def name_path(self) -> str:
        """Where the name is in the document."""
        return self.named

    def settled(self, node: etree._Element) -> etree._Element:
        """`node`, which these fields were written into, without what depended on their old values."""
        return node

    @property
    def parts(self) -> frozenset[str]:
        """The fields that the remainder has parts of: these go with a field that was removed from the manifest."""
        found = PARTS.search(self.remainder or "")
        return frozenset(found[1].split(", ")) if found else frozenset()

    @property
    def own_uuid(self) -> str:
        """The UUID that it says of the object."""
        rest = self.rest
        return getattr(self, "uuid", None) or (rest.findtext("uuid") if rest is not None else "") or ""

    @property
    def rest(self) -> etree._Element | None:
        """The remainder, read."""
        return copy.deepcopy(_read(self.remainder)) if self.remainder else None


@lru_cache(maxsize=4)
def _read(remainder: str) -> etree._Element:
    """One is read several times in a row, and written into."""
    return spelled(document(remainder))
