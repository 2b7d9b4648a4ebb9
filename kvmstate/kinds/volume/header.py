"""What the first bytes of an image say of it, in QEMU's words:
https://www.qemu.org/docs/master/system/qemu-block-drivers.html"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvmstate.errors import HostError

# An archive that holds an image of another format
OCI = "OCI"
_QCOW2 = b"QFI\xfb"
_LUKS = b"LUKS\xba\xbe"
_EXTERNAL_DATA = 1 << 2
# What images of formats with one file start with
_CONVERTED = {b"KDMV": "vmdk", b"vhdxfile": "vhdx", b"conectix": "vpc", b"<<< ": "vdi"}
# ... and of those that lead to others, or that nobody has any more
_OTHERS = {b"COWD": "VMDK", b"# Disk DescriptorFile": "VMDK", b"QED\0": "QED"}
# What is not a disk, and where that is told
_NO_DISKS = {
    (257, b"ustar"): "a tar archive",
    (0, b"PK\3\4"): "a zip archive",
    (0, b"7z\xbc\xaf\x27\x1c"): "a 7z archive",
    (32769, b"CD001"): "an ISO image",
}
# What the archive of an OCI image begins with, a directory or a file
_OCI = re.compile(rb"(?:\./)?(?:blobs|oci-layout|index\.json)[/\0]")
# In a VHD of this type are only the differences to another one
_DIFFERENCES = 4


@dataclass(frozen=True)
class Image:
    """`capacity`: what a guest sees, in bytes; 0 where its first bytes do not say it."""

    format: str
    capacity: int

    def is_one(self, format_: str) -> bool:
        """Whether a volume of this format takes it as it is."""
        return self.format == ("raw" if format_ == "iso" else format_)


def look(head: bytes, length: int, name: str) -> Image:
    """The image that starts with `head` and is `length` bytes long. Raises HostError for one that would have QEMU open
    other files."""
    if other := next((said for magic, said in _OTHERS.items() if head.startswith(magic)), None):
        raise HostError(f"{name} is a {other} image, or a part of one", "convert it with `qemu-img convert`")
    if head.startswith(_QCOW2):
        return _qcow2(head, name)
    if head.startswith(b"ustar", 257) and _OCI.match(head, 512 if head.startswith(b"./\0") else 0):
        return Image(OCI, 0)
    format_ = next((said for magic, said in _CONVERTED.items() if head.startswith(magic)), "")
    if format_ == "vmdk" and (not int.from_bytes(head[12:20], "little") or b"parentFileNameHint" in head[:65536]):
        raise _leads(name, "other files")
    if format_ == "vpc" and _number(head, 60, 4) == _DIFFERENCES:
        raise _leads(name, "a parent image")
    return Image(format_, 0) if format_ else Image("raw", length)


def is_encrypted(head: bytes) -> bool:
    """Whether an image that starts with this is encrypted: by LUKS, or as a qcow2 image may be."""
    return head.startswith(_LUKS) or (head.startswith(_QCOW2) and _number(head, 32, 4) != 0)


def no_disk(head: bytes) -> str:
    """What a raw image is that is not a disk; an empty text where it may be one."""
    return next((said for (at, magic), said in _NO_DISKS.items() if head.startswith(magic, at)), "")


def _qcow2(head: bytes, name: str) -> Image:
    if len(head) < 72:
        raise HostError(f"{name} is not a whole qcow2 image", "check the source")
    version = _number(head, 4, 4)
    if _number(head, 8, 8):
        raise _leads(name, "a backing file")
    if version >= 3 and _number(head, 72, 8) & _EXTERNAL_DATA:
        raise _leads(name, "an external data file")
    return Image("qcow2", _number(head, 24, 8))


def _leads(name: str, what: str) -> HostError:
    return HostError(
        f"{name} names {what}: QEMU would open that file of the host for the guest",
        "make it stand alone: `qemu-img convert -O qcow2 IMAGE NEW`; for a layer declare backing: in the manifest",
    )


def _number(head: bytes, at: int, length: int) -> int:
    return int.from_bytes(head[at : at + length], "big")
