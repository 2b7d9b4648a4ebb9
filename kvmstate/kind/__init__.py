"""The contract that every kind of resource fulfils.

A kind is one folder under `kinds/`: `spec.py` declares its model (what a manifest may write, where that lives in
libvirt's XML, what a change costs) and `ops.py` works on a host. The model is loaded when there is one of the kind;
`ops` when a host is first talked to, and so are `compose`, `stamps` and `steps` here, which only ops need.
"""

from kvmstate.kind.contract import Context, Form, Gate, Kind, Ops, Room, Scene, Space
from kvmstate.kind.members import Members
from kvmstate.kind.references import Reference, references, referring
from kvmstate.kind.spec import (
    UUID,
    Claim,
    Cloned,
    Declaration,
    Fault,
    Filling,
    Image,
    Inlining,
    Inner,
    Plug,
    Spec,
    Unclear,
    identity,
)

__all__ = [
    "UUID",
    "Claim",
    "Cloned",
    "Context",
    "Declaration",
    "Fault",
    "Filling",
    "Form",
    "Gate",
    "Image",
    "Inlining",
    "Inner",
    "Kind",
    "Members",
    "Ops",
    "Plug",
    "Reference",
    "Room",
    "Scene",
    "Space",
    "Spec",
    "Unclear",
    "identity",
    "references",
    "referring",
]
