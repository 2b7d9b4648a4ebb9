"""What storage pools of every type have, and those of files."""

import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kvmstate.kind import Claim, Fault, Spec, identity
from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.model.pool_types import PoolType, pool_type
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import same_path

# the root folder, and what is not a disk's
_NO_POOL = {"", "dev", "proc", "run", "sys"}
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00-\x1f]*$")]


def its_type() -> Any:
    """Declare the type of a pool."""
    return xml("@type", required=True, effect=Effect.REPLACE, doc="The type of the pool.")


def part(path: str, doc: str) -> Any:
    """Declare a section that a pool has, or its remainder; see `PoolSpec`."""
    return xml(path, doc=f"{doc} Needed, unless remainder has it.")


def _same_mode(want: str, seen: str) -> bool:
    return seen is not None and int(want, 8) == int(seen, 8)


class Permissions(Section):
    mode: str | None = xml("mode", same=_same_mode, pattern="^[0-7]{3,4}$", doc="Octal.")
    owner: int | None = xml("owner", ge=0, doc="Numeric user id.")
    group: int | None = xml("group", ge=0, doc="Numeric group id.")


class Folder(Section):
    path: AbsolutePath = xml("path", same=same_path, required=True, effect=Effect.REPLACE, doc="A folder of the host.")


class Target(Folder):
    permissions: Permissions | None = xml(
        "permissions", doc="Of the folder, set when the pool is started; without them one that exists stays as it is."
    )


class PoolSpec(Spec):
    """What pools of every type have. Of the sections that are `needed` a remainder may have all as well: it did before
    there were fields for them."""

    element: ClassVar[str] = "pool"
    needed: ClassVar[tuple[str, ...]] = ()
    builds: ClassVar[tuple[str, ...]] = ("never",)
    active: bool = field(True, effect=Effect.LIVE, doc="Whether the pool is started.")
    autostart: bool | None = field(effect=Effect.LIVE, doc="Started when the host boots.")
    uuid: str | None = identity()
    build: Literal["mkdir", "ifEmpty", "overwrite", "never"] | None = field(
        effect=Effect.NONE,
        doc="What is made, once, with the pool. mkdir: a folder that is missing, or a mount point; ifEmpty: a file "
        "system, a label or a volume group, on devices that are empty; overwrite: on whatever they hold. Default: "
        "mkdir of types dir, fs and netfs, never of others.",
    )
    if TYPE_CHECKING:
        type: str

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = [name for name in self.needed if getattr(self, name) is None]
        if missing and not self.remainder:
            raise ValueError(f"a pool of type {self.type} needs {missing[0]}")
        return self

    def status(self) -> str:
        return "active" if self.active else "inactive"

    def keeps(self) -> PoolType:
        return pool_type(self.type)

    def faults(self) -> Iterator[Fault]:
        if self.build is None:
            return
        if self.build not in self.builds:
            message = f"a pool of type {self.type} cannot be built so"
            yield Fault(("build",), message, f"it may be {' or '.join(self.builds)}")
        elif self.formats:
            if not self.devices():
                yield Fault(("build",), f"build: {self.build} needs devices, by the fields of source", "say them there")
            for at, what in self.lacks():
                yield Fault(at, f"build: {self.build} needs {what}", "say what is to be made", ("build",))

    @property
    def formats(self) -> bool:
        """Whether something may be formatted for it."""
        return self.build in ("ifEmpty", "overwrite")

    def devices(self) -> list[str]:
        """What is formatted for it."""
        return []

    def lacks(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What has to be said of it, to be built, and where."""
        return iter(())


class FolderPool(PoolSpec):
    """What pools of files have, which are in one folder."""

    if TYPE_CHECKING:
        target: Folder | Target | None

    def place(self) -> str | None:
        return posixpath.normpath(self.target.path) if self.target else None

    builds: ClassVar[tuple[str, ...]] = ("mkdir", "never")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if not self.target:
            return
        path, at = self.target.path, ("target", "path")
        if {".", ".."} & {*path.split("/")}:
            yield Fault(at, f"{path} goes by way of . or ..", f"write {posixpath.normpath(path)}")
        elif posixpath.normpath(path).lstrip("/") in _NO_POOL:
            yield Fault(at, f"{path} is not a folder for volumes", "such as /var/lib/libvirt/images")

    def claims(self) -> Iterator[Claim]:
        if self.target:
            yield claim(("target", "path"), "the folder", self.target.path)


def claim(at: tuple[str, ...], what: str, path: str) -> Claim:
    return Claim(at, what, "/" + posixpath.normpath(path).lstrip("/"))
