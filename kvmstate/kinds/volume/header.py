"""What the first bytes of an image say of it: https://www.qemu.org/docs/master/interop/qcow2.html"""

from __future__ import annotations

from kvmstate.errors import HostError

# What images of other formats start with
_OTHERS = {
    b"KDMV": "VMDK",
    b"COWD": "VMDK",
    b"# Disk DescriptorFile": "VMDK",
    b"QED\0": "QED",
    b"vhdxfile": "VHDX",
    b"conectix": "VHD",
    b"<<< ": "VDI",
}
_QCOW2 = b"QFI\xfb"
_EXTERNAL_DATA = 1 << 2


def is_qcow2(head: bytes) -> bool:
    return head.startswith(_QCOW2)


def capacity(head: bytes, length: int, format_: str, name: str) -> int:
    """What a volume needs in bytes for an image that starts with `head` and is `length` bytes long. Raises HostError
    for one of another format than `format_`, and for one that would have QEMU open other files of the host."""
    if other := next((said for magic, said in _OTHERS.items() if head.startswith(magic)), None):
        raise HostError(
            f"{name} is a {other} image, but the volume's format is {format_}", "convert it with `qemu-img convert`"
        )
    if is_qcow2(head) != (format_ == "qcow2"):
        raise HostError(
            f"{name} is {'a' if is_qcow2(head) else 'not a'} qcow2 image, but the volume's format is {format_}",
            f"write format: {'qcow2' if is_qcow2(head) else 'raw'}, or convert it with `qemu-img convert`",
        )
    if not is_qcow2(head):
        return length
    if len(head) < 72:
        raise HostError(f"{name} is not a whole qcow2 image", "check the source")
    version, backing = _number(head, 4, 4), _number(head, 8, 8)
    features = _number(head, 72, 8) if version >= 3 else 0
    if backing or features & _EXTERNAL_DATA:
        what = "a backing file" if backing else "an external data file"
        raise HostError(
            f"{name} names {what}: QEMU would open that file of the host for the guest",
            "make it stand alone: `qemu-img convert -O qcow2 IMAGE NEW`; for a layer declare backing: in the manifest",
        )
    return _number(head, 24, 8)


def _number(head: bytes, at: int, length: int) -> int:
    return int.from_bytes(head[at : at + length], "big")
