"""A template: read-only volumes that machines are cloned from, in versions, and what these machines have besides."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from kvmstate.kind import Declaration, Fault, Form, Unclear
from kvmstate.kind.build import PRIVATE, Build
from kvmstate.model.field import field
from kvmstate.model.quantity import Size
from kvmstate.model.reference import VolumeRef
from kvmstate.model.resource import Name, ResourceId
from kvmstate.xmlbind import Section, Sensitive

CHECKSUM = "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"
# What a clone calls the disk that it boots from
ROOT = "root"
SUFFIXES = {"qcow2": ".qcow2"}
# What a domain that is never started has no use for: it would be done at a start, or is another resource
_STARTED = frozenset(
    ("state", "autostart", "hostBoot", "install", "dependsOn", "waitFor", "cloudInit", "ignition", "combustion")
)
# The volume of a machine's disk: of this name, or its first one
Finder = Callable[[ResourceId, str | None], VolumeRef | None]


class TemplateSource(Section):
    """What a version is made of."""

    file: str | None = field(local=True, doc="An image file; relative to the manifest.")
    url: str | None = field(pattern="^https?://", doc="An http or https address.")
    volume: VolumeRef | None = field(ref="volume", doc="A volume, which is copied when a version is built.")
    machine: Name | None = field(
        ref="domain",
        doc="A virtual machine, whose disk is copied as it is at one moment: it need not stop.",
    )
    disk: Name | None = field(doc="Which disk of that. Default: its first one.")
    live: bool | None = field(
        doc="Of a volume that a running machine writes to: it is copied as it is at one moment, and the machine goes "
        "on."
    )
    checksum: str | None = field(pattern=CHECKSUM, doc="sha256:… or sha512:… of the file, as it is published.")
    checksums: str | None = field(
        pattern=r"^(https?://\S+|[^\s:]+)$",
        doc="The vendor's list of checksums, from which `kvmstate pin` writes checksum.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.file, self.url, self.volume, self.machine)) != 1:
            raise ValueError("a source needs one of file, url, volume and machine")
        if self.checksum and (self.volume or self.machine):
            raise ValueError("a checksum is of a file or a url")
        if self.disk and not self.machine:
            raise ValueError("disk is of a machine")
        if self.url and not self.checksum:
            raise ValueError("a source from a url needs its checksum: `kvmstate pin` writes it from the vendor's list")
        return self

    def content(self, disk: Finder) -> dict[str, Any]:
        """What a Volume document would say of it. Raises Unclear for a machine without such a disk."""
        said = self.model_dump(mode="json", exclude_none=True, exclude={"checksums", "machine", "disk"})
        if self.machine:
            if (volume := disk(ResourceId("domain", self.machine), self.disk)) is None:
                which = f"disk {self.disk}" if self.disk else "disk"
                why = f"virtual machine {self.machine} is not there, or has no {which} that is a volume"
                raise Unclear(Fault(("source", "machine"), why, "name one in these manifests, or on the host"))
            said |= {"volume": str(volume), "live": True}
        return said


class TemplateDisk(Section):
    """A further disk of the machines."""

    name: Name = field(required=True, doc="What the machine's disk is called.")
    source: TemplateSource = field(required=True, doc="What it holds.")
    format: Literal["qcow2", "raw"] = field("qcow2", doc="Of the version's volume.")
    capacity: Size | None = field(doc="Default: that of its source.")


class TemplateSpec(Section, Declaration):
    """Volumes that machines are cloned from, built in versions, and what these machines have besides."""

    pool: Name = field(required=True, ref="pool", doc="The storage pool that its versions are in.")
    source: TemplateSource = field(required=True, doc="What the disk `root` is made of.")
    format: Literal["qcow2", "raw"] = field("qcow2", doc="Of that volume; layers lie over both.")
    capacity: Size | None = field(doc="Of that volume. Default: that of its source.")
    build: Build | None = field(doc="What is done to the disk `root` when a version is built. Default: nothing.")
    disks: list[TemplateDisk] = field([], doc="Further disks.")
    version: str | int | None = field(
        doc="Another value, such as a date, makes another version of the same source. Versions are numbered by "
        "kvmstate, whatever stands here."
    )
    clone: Literal["linked", "full"] | None = field(
        doc="How disks of new machines begin: as layers over a version, or as full copies. Default: linked where the "
        "pools have layers, else full."
    )
    keep_domain: bool | None = field(
        doc="Whether libvirt has a domain of the template's name, with the disks of the version in force, for people "
        "who look for it there. It is never started: one that somebody has started is reported, and is powered off "
        "where the template's lifecycle says `restart: now`."
    )
    defaults: dict[str, Any] = field(
        {},
        Sensitive(),
        doc="What a VirtualMachine's spec says, for machines that say nothing of it. It counts when a machine is made.",
    )

    @model_validator(mode="after")
    def _enough_for_a_domain(self) -> Self:
        if self.keep_domain and "memory" not in self.defaults:
            raise ValueError("a domain has memory: keepDomain needs defaults.memory")
        return self

    def recipe(self) -> str:
        """A digest of what its versions are built from: another one is another version. Where that may hold secrets,
        the record has a hash of it that needs the host's key, as of all secrets."""
        said = self.model_dump(
            mode="json", exclude={"clone", "defaults", "build", "keep_domain"}, exclude_defaults=True
        )
        if self.build:
            said["build"] = self.build.recipe()
        for each in (said["source"], *(disk["source"] for disk in said.get("disks", ()))):
            # with a checksum it is the same wherever it comes from; and checkouts are in different folders
            each.pop("checksums", None)
            if "checksum" in each:
                each.pop("file", None)
                each.pop("url", None)
            elif "file" in each:
                each["file"] = os.path.basename(each["file"])
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
        return f"{PRIVATE}{digest}" if self.build and self.build.is_private else digest

    def has_own(self) -> bool:
        return bool(self.keep_domain)

    def volumes(self, name: str, number: int, disk: Finder) -> Iterator[tuple[str, ResourceId, dict[str, Any]]]:
        """The volumes of a version: which disk each is of, its address, and what a Volume document would say. `disk`
        finds the volume of a machine's disk. Raises Unclear."""
        root = TemplateDisk.model_construct(name=ROOT, source=self.source, format=self.format, capacity=self.capacity)
        for each in (root, *self.disks):
            part = "" if each is root else f"-{each.name}"
            # pools of all types take such a name: `@` is a snapshot's to some
            volume = f"{name}-v{number}{part}{SUFFIXES.get(each.format, '')}"
            said: dict[str, Any] = {
                "pool": self.pool,
                "format": each.format,
                "content": each.source.content(disk),
                "versionOf": {"template": name, "number": number, "disk": each.name, "recipe": self.recipe()},
            }
            if self.build and each is root:
                said["build"] = self.build.model_dump(mode="json", exclude_unset=True)
            if each.capacity:
                said["capacity"] = each.capacity
            yield each.name, ResourceId("volume", f"{self.pool}/{volume}"), said

    def kept_machine(self, version: str, disks: Mapping[str, VolumeRef]) -> dict[str, Any] | None:
        """What a VirtualMachine document would say of the domain that is kept of a version with these disks."""
        if not self.keep_domain:
            return None
        said = {key: value for key, value in self.defaults.items() if key not in _STARTED}
        own = {disk.get("name"): disk for disk in said.get("disks") or () if isinstance(disk, Mapping)}
        said["disks"] = [
            {**_without(own.get(disk, {}), "create"), "name": disk, "volume": str(volume), "readOnly": True}
            for disk, volume in disks.items()
        ]
        if "interfaces" in said:
            said["interfaces"] = [_without(nic, "securityGroups") for nic in said["interfaces"]]
        return {**said, "state": "stopped", "domainOf": version}

    def layers(self, heir: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a machine has that says no more than `heir`: the disks, and what is said for them and besides."""
        clone = heir.get("clone") or self.clone
        disks = []
        for disk in (ROOT, *(each.name for each in self.disks)):
            create = {"pool": self.pool, "template": heir["template"]}
            create |= {"templateDisk": disk} if disk != ROOT else {}
            create |= {"clone": clone} if clone else {}
            disks.append({"name": disk, "create": create})
        return {"disks": disks}, self.defaults


def _without(said: Mapping[str, Any], field: str) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key != field}


FORM = Form(TemplateSpec)
