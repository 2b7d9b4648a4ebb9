"""StoragePool: https://libvirt.org/formatstorage.html#storage-pool-xml"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kvmstate.kind import Claim, Fault, Spec
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import NeededRemainder, Section, Xml
from kvmstate.xmlbind.codecs import same_path


@dataclass(frozen=True)
class PoolType:
    """What kvmstate must know of a type of pools. `makes_folder`: libvirt's build makes a folder (of `fs` and `netfs`
    the mount point) and nothing else. That of the other types makes volume groups, labels and the like: never run."""

    makes_folder: bool = False


TYPES = {
    "dir": PoolType(makes_folder=True),
    "disk": PoolType(),
    "fs": PoolType(makes_folder=True),
    "gluster": PoolType(),
    "iscsi": PoolType(),
    "iscsi-direct": PoolType(),
    "logical": PoolType(),
    "mpath": PoolType(),
    "netfs": PoolType(makes_folder=True),
    "rbd": PoolType(),
    "scsi": PoolType(),
    "sheepdog": PoolType(),
    "vstorage": PoolType(),
    "zfs": PoolType(),
}

# the root folder, and what is no disk's
_NO_POOL = {"", "dev", "proc", "run", "sys"}
AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00-\x1f]*$")]


def _same_mode(want: str, seen: str) -> bool:
    return seen is not None and int(want, 8) == int(seen, 8)


class Permissions(Section):
    mode: Annotated[str | None, Xml("mode", same=_same_mode), Field(pattern="^[0-7]{3,4}$", description="Octal.")] = (
        None
    )
    owner: Annotated[int | None, Xml("owner"), Field(ge=0, description="Numeric user id.")] = None
    group: Annotated[int | None, Xml("group"), Field(ge=0, description="Numeric group id.")] = None


class Target(Section):
    path: Annotated[
        AbsolutePath, Xml("path", same=same_path), Effect.REPLACE, Field(description="A folder of the host.")
    ]
    permissions: Annotated[
        Permissions | None,
        Xml("permissions"),
        Field(description="Of the folder, set when the pool is started; without them one that exists stays as it is."),
    ] = None


class PoolSpec(Spec):
    """What pools of every type have."""

    element: ClassVar[str] = "pool"
    active: Annotated[bool, Effect.LIVE, Field(description="Whether the pool is started.")] = True
    autostart: Annotated[bool | None, Effect.LIVE, Field(description="Started when the host boots.")] = None


class DirPool(PoolSpec):
    """A folder of the host's. It is made when it is missing, and never removed with the pool."""

    xml_variant: ClassVar[str] = "dir"

    type: Annotated[Literal["dir"], Xml("@type"), Effect.REPLACE]
    target: Annotated[Target, Xml("target")]

    def faults(self) -> Iterator[Fault]:
        path, at = self.target.path, ("target", "path")
        if {".", ".."} & {*path.split("/")}:
            yield Fault(at, f"{path} goes by way of . or ..", f"write {posixpath.normpath(path)}")
        elif posixpath.normpath(path).lstrip("/") in _NO_POOL:
            yield Fault(at, f"{path} is not a folder for volumes", "such as /var/lib/libvirt/images")

    def claims(self) -> Iterator[Claim]:
        yield Claim(("target", "path"), "the folder", "/" + posixpath.normpath(self.target.path).lstrip("/"))


class OtherPool(PoolSpec):
    """A pool of another type. Its source and target are in `remainder`, as `kvmstate import` writes them."""

    type: Annotated[
        Literal[
            "disk",
            "fs",
            "gluster",
            "iscsi",
            "iscsi-direct",
            "logical",
            "mpath",
            "netfs",
            "rbd",
            "scsi",
            "sheepdog",
            "vstorage",
            "zfs",
        ],
        Xml("@type"),
        Effect.REPLACE,
    ]

    remainder: Annotated[
        NeededRemainder,
        Field(
            description="The pool's XML with its <source> and <target>, as `virsh pool-dumpxml` prints it and "
            "`kvmstate import` writes it: no field models these for this type."
        ),
    ]


# `variant` takes the first one for what no other says is its own
StoragePoolSpec = Annotated[OtherPool | DirPool, Field(discriminator="type")]
