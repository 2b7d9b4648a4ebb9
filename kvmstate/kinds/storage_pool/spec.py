"""StoragePool: https://libvirt.org/formatstorage.html#storage-pool-xml"""

from typing import TYPE_CHECKING, Literal

from kvmstate.kind import Form, Members
from kvmstate.kinds.storage_pool.base import PoolSpec, its_type
from kvmstate.model.field import field
from kvmstate.model.pool_types import TYPES
from kvmstate.xmlbind import NeededRemainder

# How full it is, and where there is room
VOLATILE = ("capacity", "allocation", "available", "source/device/freeExtent")
# A section for each type that manifests have fields for
SECTIONS = {
    "dir": "dir.DirPool",
    "fs": "fs.FsPool",
    "netfs": "netfs.NetFsPool",
    "logical": "logical.LogicalPool",
    "disk": "disk.DiskPool",
    "iscsi": "iscsi.IscsiPool",
    "iscsi-direct": "iscsi.IscsiDirectPool",
    "scsi": "scsi.ScsiPool",
    "mpath": "mpath.MpathPool",
    "gluster": "gluster.GlusterPool",
    "rbd": "rbd.RbdPool",
    "zfs": "zfs.ZfsPool",
}
_OTHERS = sorted(TYPES.keys() - SECTIONS.keys())
if TYPE_CHECKING:
    OtherType = str
else:
    OtherType = Literal[tuple(_OTHERS)]


class OtherPool(PoolSpec):
    """A pool of another type. Its source and target are in `remainder`, as `kvmstate import` writes them."""

    type: OtherType = its_type()
    remainder: NeededRemainder = field(
        required=True,
        doc="The pool's XML with its <source> and <target>, as `virsh pool-dumpxml` prints it and `kvmstate import` "
        "writes it: no field models these for this type.",
    )


MEMBERS = Members("type", "kvmstate.kinds.storage_pool.types", {**dict.fromkeys(_OTHERS, OtherPool), **SECTIONS})
FORM = Form(MEMBERS, VOLATILE)
