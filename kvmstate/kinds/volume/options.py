"""How an image is made: https://libvirt.org/formatstorage.html#target-elements. libvirt changes none of it later."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from kvmstate.kind import Fault
from kvmstate.model.effect import Effect
from kvmstate.model.pool_types import PoolType, Volumes
from kvmstate.xmlbind import Section, xml

SMALLEST, LARGEST = 512, 2 << 20
# QEMU's default, and the least with which it splits clusters
CLUSTER, SPLIT = 64 << 10, 16 << 10
_SPELLED = {0.1: "0.10", 1.1: "1.1"}
OPTIONS = ("compat", "cluster_size", "lazy_refcounts", "extended_l2", "preallocation")


def _version(value: object) -> object:
    """YAML reads 1.1 as a number."""
    return _SPELLED.get(value, value) if isinstance(value, float) else value


Compat = Annotated[
    Literal["0.10", "1.1"], BeforeValidator(_version), WithJsonSchema({"enum": ["0.10", "1.1", 0.1, 1.1]})
]


def _same_mode(want: str | None, seen: str | None) -> bool:
    return want is None or (seen is not None and int(want, 8) == int(seen, 8))


class Permissions(Section):
    """Of the file, or the block device, when it is made. libvirt gives it to the user of a machine that starts."""

    mode: str | None = xml(
        "mode", same=_same_mode, effect=Effect.REPLACE, pattern="^[0-7]{3,4}$", doc="Octal. Default: 0600."
    )
    owner: int | None = xml("owner", effect=Effect.REPLACE, ge=0, doc="Numeric user id.")
    group: int | None = xml("group", effect=Effect.REPLACE, ge=0, doc="Numeric group id.")
    label: str | None = xml(
        "label", effect=Effect.REPLACE, doc="Its SELinux label; nothing where the host has no SELinux."
    )


def faults(spec: Any) -> Iterator[Fault]:
    """What QEMU or libvirt would refuse of a Volume's spec."""
    said = [name for name in OPTIONS if getattr(spec, name)]
    for name in said:
        path = (type(spec).model_fields[name].alias or name,)
        if spec.format != "qcow2":
            yield Fault(path, f"{path[0]} is of qcow2 images", f"leave it out, or write format: qcow2; {_OF_RAW}")
        elif spec.content:
            why = "an image is copied as it is: how it was made decides"
            yield Fault(path, f"{path[0]} is of images that are made empty; {why}", "leave it out")
    if spec.format != "qcow2" or spec.content:
        return
    size = spec.cluster_size
    if size and not (SMALLEST <= size <= LARGEST and size & (size - 1) == 0):
        yield Fault(("clusterSize",), "clusterSize is a power of two from 512 bytes to 2MiB", "such as 64KiB")
    elif size and spec.extended_l2 and size < SPLIT:
        yield Fault(
            ("clusterSize",), "extendedL2 needs a clusterSize of 16KiB or more", "such as 64KiB", ("extendedL2",)
        )
    for name, told in (("lazy_refcounts", "lazyRefcounts"), ("extended_l2", "extendedL2")):
        if getattr(spec, name) and spec.compat == "0.10":
            yield Fault((told,), f"{told} needs compat 1.1", "leave compat out", ("compat",))
    if spec.preallocation and spec.backing:
        hint = "leave it out: what is written to a layer is allocated then"
        yield Fault(("preallocation",), "a layer over another volume is not preallocated", hint, ("backing",))


_OF_RAW = "what a raw image has from the beginning is its allocation"


def misfits(spec: Any, place: PoolType) -> Iterator[Fault]:
    """What has no meaning in a pool of this type."""
    if place.volumes is Volumes.FILES:
        return
    where = f"a pool of type {place.name}"
    if spec.nocow:
        yield Fault(("nocow",), f"{where} has no files, and nocow is of files on btrfs", "leave it out")
    if spec.permissions and place.name != "logical":
        yield Fault(("permissions",), f"libvirt sets no permissions in {where}", "leave them out")
