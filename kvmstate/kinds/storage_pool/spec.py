"""StoragePool: https://libvirt.org/formatstorage.html#storage-pool-xml"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field

from kvmstate.kind import Form
from kvmstate.kinds.storage_pool import types
from kvmstate.kinds.storage_pool.base import PoolSpec, its_type
from kvmstate.model.field import field
from kvmstate.model.pool_types import TYPES
from kvmstate.xmlbind import NeededRemainder

# How full it is, and where there is room
VOLATILE = ("capacity", "allocation", "available", "source/device/freeExtent")
# A section for each type that manifests have fields for
SECTIONS = (
    *(types.DirPool, types.FsPool, types.NetFsPool, types.LogicalPool, types.DiskPool, types.IscsiPool),
    *(types.IscsiDirectPool, types.ScsiPool, types.MpathPool, types.GlusterPool, types.RbdPool, types.ZfsPool),
)
if TYPE_CHECKING:
    OtherType = str
else:
    OtherType = Literal[tuple(sorted(TYPES.keys() - {section.xml_variant for section in SECTIONS}))]


class OtherPool(PoolSpec):
    """A pool of another type. Its source and target are in `remainder`, as `kvmstate import` writes them."""

    type: OtherType = its_type()
    remainder: NeededRemainder = field(
        required=True,
        doc="The pool's XML with its <source> and <target>, as `virsh pool-dumpxml` prints it and `kvmstate import` "
        "writes it: no field models these for this type.",
    )


# `variant` takes the first one for what no other says is its own
MEMBERS: tuple[type[PoolSpec], ...] = (OtherPool, *SECTIONS)
StoragePoolSpec: Any = Annotated[Union[MEMBERS], Field(discriminator="type")]  # noqa: UP007


FORM = Form(StoragePoolSpec, VOLATILE)
