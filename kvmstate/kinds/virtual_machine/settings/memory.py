"""Where memory comes from: https://libvirt.org/formatdomain.html#memory-backing"""

from typing import Literal

from kvmstate.model.quantity import Size
from kvmstate.xmlbind import Section, xml, xml_list
from kvmstate.xmlbind.codecs import present, same_flag, size, sized


class Page(Section):
    """Pages of one size."""

    size: Size = xml(".", sized("size", "KiB"), required=True, gt=0, multiple_of=1024, doc="Such as 2MiB or 1GiB.")
    nodeset: str | None = xml("@nodeset", pattern=r"^[0-9,^-]+$", doc="The NUMA nodes of the guest that have them.")


class HugePages(Section):
    """`hugepages: {}` takes pages of the host's default size."""

    bare = True
    pages: list[Page] = xml_list("page")


class MemoryBacking(Section):
    """What the machine's memory is on the host."""

    hugepages: HugePages | None = xml("hugepages")
    nosharepages: bool | None = xml(
        ".", present("nosharepages"), same=same_flag, doc="Not merged with equal pages of other machines (KSM)."
    )
    locked: bool | None = xml(
        ".", present("locked"), same=same_flag, doc="Never swapped out; memtune.hardLimit has to say how much that is."
    )
    discard: bool | None = xml(
        ".", present("discard"), same=same_flag, doc="Discarded when the machine ends, also where a file holds it."
    )
    source: Literal["anonymous", "file", "memfd"] | None = xml(
        "source/@type", doc="virtiofs and vhost-user want file or memfd, and access shared."
    )
    access: Literal["shared", "private"] | None = xml("access/@mode", doc="Whether other processes may have it too.")
    allocation: Literal["immediate", "ondemand"] | None = xml("allocation/@mode", doc="When it is taken.")
    allocation_threads: int | None = xml("allocation/@threads", ge=1, le=65535, doc="How many take it.")


class MemoryHotplug(Section):
    """Room for memory devices."""

    max: Size = xml(".", size("KiB"), required=True, gt=0, multiple_of=1024, doc="What there may be, with all of them.")
    slots: int | None = xml("@slots", ge=1, le=255, doc="How many there may be.")
