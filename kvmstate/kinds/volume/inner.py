"""A volume that the disk of a machine declares, in the machine's own document."""

from collections.abc import Mapping
from typing import Any

from kvmstate.kinds.volume.spec import SUFFIXES, VolumeSpec
from kvmstate.model.effect import Effect
from kvmstate.model.field import field
from kvmstate.model.resource import Lifecycle, Metadata, Name, Origin, Resource, ResourceId


class DiskVolume(VolumeSpec):
    """A volume of its own, as a Volume document declares it."""

    name: Name | None = field(
        effect=Effect.NONE,
        doc="Its name in the pool: another name is another volume. Default: MACHINE-DISK, with .qcow2 or .iso where "
        "that is its format.",
    )
    lifecycle: Lifecycle | None = field(
        effect=Effect.NONE,
        doc="What may be done to the volume. The machine's own says nothing of it but suspend, mode.",
    )

    def declared(self, by: Resource, disk: str) -> Resource:
        """The resource that this is, of a machine's disk."""
        spec = self.without(VolumeSpec, {"name", "lifecycle"})
        name = self.name or f"{by.metadata.name}-{disk}{SUFFIXES.get(self.format, '')}"
        lifecycle = self.lifecycle or Lifecycle()
        said = {part: getattr(by.lifecycle, part) for part in {"suspend", "mode"} - lifecycle.model_fields_set}
        own = None if by.own is None else _own(by.own, disk, self)
        origin = Origin(by.origin.file, by.origin.line, str(by.id))
        return Resource(
            ResourceId("volume", spec.id_name(name)),
            spec,
            Metadata(name=name),
            lifecycle.model_copy(update={key: value for key, value in said.items() if value}),
            origin,
            own,
        )


def _own(machine: Mapping[str, Any], disk: str, volume: DiskVolume) -> Mapping[str, Any] | None:
    """What a machine's manifest says itself of the volume of a disk; None where all of it is its own."""
    if volume.content and volume.content.seed:
        return None if "cloudInit" in machine else {}
    disks = machine.get("disks") or ()
    said = next((each.get("create") or {} for each in disks if each.get("name") == disk), {})
    # another seed of its own is another disk
    return {**said, "madeFor": volume.made_for} if "cloudInit" in machine else said
