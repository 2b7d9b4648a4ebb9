"""Naming a volume, which takes two names, and what a host knows about it."""

from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import model_validator

from kvmstate.model.field import field
from kvmstate.model.resource import Model, Name


class VolumeRef(Model):
    """A volume, by its pool and its name; `pool/name` for short."""

    pool: Name = field(required=True, doc="The storage pool.")
    name: Name = field(required=True, doc="The volume's name in the pool.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, str):
            pool, slash, name = value.partition("/")
            if not slash:
                raise ValueError("expected {pool: …, name: …} or pool/name")
            return {"pool": pool, "name": name}
        return value

    @classmethod
    def of(cls, pool: str, name: str) -> Self:
        """Name one by what are known to be names. Plans do it often, and pydantic takes ten times as long."""
        new, said = object.__new__(cls), dict(zip(cls.model_fields, (pool, name), strict=True))
        object.__setattr__(new, "__dict__", said)
        object.__setattr__(new, "__pydantic_fields_set__", {*said})
        object.__setattr__(new, "__pydantic_extra__", None)
        object.__setattr__(new, "__pydantic_private__", None)
        return new

    @classmethod
    def parse(cls, text: str) -> Self:
        """One by what is known to be `pool/name`, as the ids of volumes are."""
        pool, _, name = text.partition("/")
        return cls.of(pool, name)

    def __str__(self) -> str:
        return f"{self.pool}/{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VolumeRef) and (self.pool, self.name) == (other.pool, other.name)

    def __hash__(self) -> int:
        return hash((self.pool, self.name))


@dataclass(frozen=True)
class VolumeSource:
    """How a domain's XML names a volume: a file's or a block device's path, and the format of what is in it."""

    type: str
    path: str
    format: str


class Lookup(Protocol):
    """What XML says by path and manifests by name, on one host."""

    def volume_source(self, ref: VolumeRef) -> VolumeSource:
        """Say what a disk's source is for this volume. Raises NotFound when there is no such volume."""

    def volume_at(self, path: str) -> VolumeRef | None: ...

    def original(self, path: str, format_: str = "") -> tuple[str, str]:
        """The image, and its format, that a disk had before its machine's snapshots."""

    def path_of(self, pool: str, name: str) -> tuple[str, str] | None:
        """The type and the path that a disk of type volume comes to."""

    def secret_uuid(self, name: str) -> str:
        """The UUID of the secret of this name. Raises NotFound."""

    def secret_at(self, uuid: str) -> str:
        """The name of the secret of this UUID; the UUID where there is none."""


class Unlocated:
    """Without a host, or a question to one: a volume is where its name says."""

    def volume_source(self, ref: VolumeRef) -> VolumeSource:
        return VolumeSource("file", str(ref), "raw")

    def volume_at(self, path: str) -> VolumeRef | None:
        return None

    def original(self, path: str, format_: str = "") -> tuple[str, str]:
        return path, format_

    def path_of(self, pool: str, name: str) -> tuple[str, str] | None:
        return None

    def secret_uuid(self, name: str) -> str:
        return name

    def secret_at(self, uuid: str) -> str:
        return uuid
