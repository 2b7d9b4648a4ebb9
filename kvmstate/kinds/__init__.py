"""Every kind of resource, one folder each. Kinds never import each other; they refer by `Ref`.

What a kind is and does is a `Kind`, and an `Ops` in its module `ops`: see `kvmstate.kind`. What one
that is a policy does is a `Policy` in its module `policy`, see `kvmstate.kind.policy`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING

from kvmstate.kind import Kind, Reference
from kvmstate.model.resource import Resource, ResourceId

if TYPE_CHECKING:
    from kvmstate.kind.policy import Policy

ALL_KINDS = (
    Kind(
        "HostInterface",
        "interface",
        "A bridge, VLAN, bond or card of the host.",
        "kvmstate.kinds.host_interface",
        "interfaces",
        has_uuid=False,
        of_host=True,
        cannot_rename=(
            "an interface's name is what its kernel and all that use it know it by",
            "declare it under both names, have all refer to the new one, and take the old one out then",
        ),
        shape="trapezium",
        brackets=("[/", "\\]"),
        also=("iface", "nic", "bond", "vlan", "hostbridge", "nodenetworkconfigurationpolicy"),
    ),
    Kind(
        "Network",
        "network",
        "A virtual network: NAT, routed, open, isolated, or a host bridge.",
        "kvmstate.kinds.network",
        "networks",
        stamped=True,
        shape="ellipse",
        brackets=("([", "])"),
        also=("net", "bridge", "networkattachmentdefinition"),
    ),
    Kind(
        "NetworkFilter",
        "nwfilter",
        "Which packets guests may send and receive (libvirt's nwfilter).",
        "kvmstate.kinds.network_filter",
        "filters",
        cannot_rename=(
            "libvirt cannot rename a network filter, and who refers to it does so by its name",
            "declare it under both names, have all refer to the new one, and take the old one out then",
        ),
        shape="hexagon",
        brackets=("{{", "}}"),
        also=("nwfilter", "filter", "networkpolicy", "securitygroup", "firewall"),
    ),
    Kind(
        "Secret",
        "secret",
        "A password or key that libvirt keeps for pools, disks and TPMs.",
        "kvmstate.kinds.secret",
        "secrets",
        cannot_rename=(
            "a secret's name is what libvirt knows it by, and libvirt cannot change that",
            "declare it under both names, have all refer to the new one, and take the old one out then",
        ),
        shape="octagon",
        brackets=("{{", "}}"),
        also=("credential", "password", "externalsecret", "sealedsecret", "passphrase"),
    ),
    Kind(
        "StoragePool",
        "pool",
        "A place where libvirt keeps volumes, such as a directory.",
        "kvmstate.kinds.storage_pool",
        "pools",
        cannot_rename=(
            "libvirt cannot rename a storage pool, and its name is part of its volumes' addresses",
            "declare the pool under both names with the same target, or keep the old name",
        ),
        shape="folder",
        brackets=("[/", "/]"),
        also=("pool", "storageclass", "datastore"),
    ),
    Kind(
        "Volume",
        "volume",
        "A disk image in a storage pool.",
        "kvmstate.kinds.volume",
        "volumes",
        holds_data=True,
        parent="pool",
        has_uuid=False,
        cannot_rename=(
            "a volume's name is its file's name: libvirt cannot rename it without copying its data",
            "keep the old name, or copy it by hand (`virsh vol-clone`) and `kvmstate adopt` the copy",
        ),
        shape="cylinder",
        brackets=("[(", ")]"),
        also=("vol", "disk", "persistentvolume", "persistentvolumeclaim", "datavolume"),
    ),
    Kind(
        "VirtualMachine",
        "domain",
        "A virtual machine (libvirt's domain).",
        "kvmstate.kinds.virtual_machine",
        "machines",
        stamped=True,
        shape="box",
        also=("domain", "vm", "instance", "virtualmachineinstance", "guest", "machine", "pod"),
        decided=frozenset({"disks"}),
        rolls_out=True,
        inherits="template",
    ),
    Kind(
        "Template",
        "template",
        "What virtual machines are cloned from: read-only volumes in versions, and defaults.",
        "kvmstate.kinds.template",
        on_host=False,
        inherited_by="VirtualMachine",
        also=("golden", "image", "blueprint"),
    ),
    Kind(
        "SnapshotPolicy",
        "snapshotpolicy",
        "When snapshots of which virtual machines are taken, and which are kept.",
        "kvmstate.kinds.snapshot_policy",
        on_host=False,
        is_policy=True,
    ),
)
POLICIES = tuple(kind for kind in ALL_KINDS if kind.is_policy)
ON_HOST = tuple(kind for kind in ALL_KINDS if kind.on_host)
BY_NAME = {kind.name: kind for kind in ALL_KINDS}
BY_WORD = {kind.word: kind for kind in ALL_KINDS}


def parent_of(id_: ResourceId) -> ResourceId | None:
    """What an object is in, such as the pool of a volume."""
    return BY_WORD[id_.kind].parent_of(id_)


def policies(resources: Iterable[Resource]) -> tuple[Policy, ...]:
    """Those of the resources that are policies, ready to work."""
    return tuple(kind.policy(each) for each in resources if (kind := BY_WORD[each.id.kind]).is_policy)


def undeclared(refs: Iterable[Reference], declared: Container[ResourceId]) -> Iterator[Reference]:
    """Those whose target nobody declares, and which must be on the host therefore. Of what is `of_host` that is no
    question: the host has more of it than anybody declares."""
    return (ref for ref in refs if ref.target not in declared and not BY_WORD[ref.target.kind].of_host)
