"""Every kind of resource, one folder each. Kinds never import each other; they refer by `Ref`.

The `ops` module of a kind that is on hosts has:

    observe(host, names)               -> {name: Observed} of those that exist; Unseen for what nobody can tell of
    names(host)                        -> the names of those that exist and have a configuration to keep
    portable(observed, host)           -> the spec and the document that a manifest has to say, without what is volatile
    secrets(observed, host)            -> the places of what only those see who may see secrets (a kind may lack it)
    complete(resource, observed, project) -> spec with names, MACs and defaults filled in
    steps(change, at)                  -> the Steps that make the change real, in order; `at` is a kind.Context
    adopted(change, at)                -> those that mark what is adopted as the project's, where its XML can say so
    removed(changes, host, said)       -> deletions that say what goes and what stays; `said`: applied last (machines)
    judged(change, host, running, begun, uses) -> the change, judged by the running machines it touches (networks)
"""

from kvmstate.kind import Kind
from kvmstate.kinds.network.spec import NetworkSpec
from kvmstate.kinds.snapshot_policy.spec import SnapshotPolicySpec
from kvmstate.kinds.storage_pool.spec import StoragePoolSpec
from kvmstate.kinds.virtual_machine.spec import VOLATILE, VirtualMachineSpec
from kvmstate.kinds.volume.spec import VolumeSpec

ALL_KINDS = (
    Kind(
        "Network",
        "network",
        "A virtual network: NAT, routed, open, isolated, or a host bridge.",
        NetworkSpec,
        volatile=("@connections",),
    ),
    Kind(
        "StoragePool",
        "pool",
        "A place where libvirt keeps volumes, such as a directory.",
        StoragePoolSpec,
        volatile=("capacity", "allocation", "available"),
    ),
    Kind(
        "Volume",
        "volume",
        "A disk image in a storage pool.",
        VolumeSpec,
        holds_data=True,
        volatile=(
            *("allocation", "physical", "//timestamps", "//permissions"),
            *("target/clusterSize", "target/compat", "target/features"),
        ),
    ),
    Kind(
        "VirtualMachine",
        "domain",
        "A virtual machine (libvirt's domain).",
        VirtualMachineSpec,
        volatile=VOLATILE,
    ),
    Kind(
        "SnapshotPolicy",
        "snapshotpolicy",
        "When snapshots of which virtual machines are taken, and which are kept.",
        SnapshotPolicySpec,
        on_host=False,
    ),
)
ON_HOST = tuple(kind for kind in ALL_KINDS if kind.on_host)
BY_NAME = {kind.name: kind for kind in ALL_KINDS}
BY_WORD = {kind.word: kind for kind in ALL_KINDS}
