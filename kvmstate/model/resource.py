"""A resource: one document of a manifest, or one object on a host, under one address."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kvmstate.model.quantity import Duration

API_VERSION = "kvmstate/v1"


class ResourceId(NamedTuple):
    """`kind` is libvirt's word (domain, network, pool, volume); a volume's name is POOL/NAME.

    A tuple, because plans of thousands are made of look-ups by it.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def typed(self) -> str:
        """The address as it is typed in a shell."""
        return shlex.quote(str(self))

    @classmethod
    def parse(cls, address: str) -> Self:
        kind, _, name = address.partition("/")
        return cls(kind, name)


@dataclass(frozen=True)
class Move:
    """A resource that has another name by now."""

    old: ResourceId
    new: ResourceId


@dataclass(frozen=True)
class Origin:
    """Where a document starts. `by` is its own address, for a resource that it yields and does not declare."""

    file: str
    line: int = 1
    by: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


# Of what an import makes, before there is a file
FOUND = Origin("the host")


def camel(name: str) -> str:
    """Spell a name as pydantic does, which looks at each with three regular expressions."""
    if any(map(str.isdigit, name)) or name.startswith("_"):
        return to_camel(name)
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


class Model(BaseModel):
    """Manifest models: camelCase outside, snake_case inside, unknown fields refused."""

    model_config = ConfigDict(
        # built when it first validates: a command needs few of all models
        defer_build=True,
        extra="forbid",
        alias_generator=camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


def _object_name(name: str) -> str:
    if re.search(r"[/\x00-\x1f\x7f]", name) or name in {".", ".."} or name != name.strip():
        raise ValueError("a name has no '/', no control characters and no space around it")
    return name


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_object_name)]


class Metadata(Model):
    name: Annotated[Name, Field(description="The object's name in libvirt.")]
    labels: Annotated[dict[str, str], Field(description="Free key/value pairs to select resources by.")] = {}


class Stop(Model, frozen=True):
    """How a running virtual machine is stopped when a change or a deletion needs it."""

    timeout: Annotated[Duration, Field(gt=0, description="How long the guest may take to shut down.")] = 60
    on_timeout: Annotated[
        Literal["fail", "destroy"],
        Field(description="When time is up: give up and report (fail), or power off as `virsh destroy` does."),
    ] = "fail"


class Lifecycle(Model):
    """What kvmstate may do to this resource. Nothing disruptive happens unless it is allowed here."""

    restart: Annotated[
        Literal["never", "whenOff", "now"],
        Field(
            description="Changes that need a restart: refused (never), written and pending until the next power cycle "
            "(whenOff), or applied with a graceful restart (now)."
        ),
    ] = "whenOff"
    replace: Annotated[
        Literal["never", "allow"], Field(description="Whether the object may be deleted and created again.")
    ] = "never"
    deletion: Annotated[
        Literal["delete", "orphan"] | None,
        Field(
            description="When it leaves the manifests: delete it, or orphan it (forget it and leave it on the host). "
            "Default: orphan for volumes, delete for other kinds."
        ),
    ] = None
    storage: Annotated[
        Literal["keep", "delete"],
        Field(
            description="Of a storage pool, when it is deleted: keep its storage, or delete (rmdir, vgremove) what "
            "kvmstate has built itself and is empty."
        ),
    ] = "keep"
    wipe: Annotated[
        Literal["zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim"]
        | None,
        Field(
            description="Of a volume: overwrite it before it is deleted or replaced, by an algorithm of libvirt's. All "
            "but zero and trim need scrub on the host. Default: delete it as it is."
        ),
    ] = None
    prevent_destroy: Annotated[bool, Field(description="Refuse every plan that would delete or replace it.")] = False
    ignore_changes: Annotated[
        list[Annotated[str, Field(max_length=1000)]],
        Field(description="Fields of spec, such as `cpus` or `disks[data].cache`, whose differences are left alone."),
    ] = []
    stop: Annotated[Stop, Field(description="How a running virtual machine is stopped.")] = Stop()
    suspend: Annotated[
        bool, Field(description="Leave it alone, whatever the manifest says otherwise, until this is taken out again.")
    ] = False
    mode: Annotated[
        Literal["enforce", "observe"] | None,
        Field(description="Whether `kvmstate run` corrects it or only reports drift. Default: the project's."),
    ] = None


@dataclass(frozen=True)
class Resource:
    """A validated document: what should exist. `own` is what its manifest says itself, where a template says the
    rest."""

    id: ResourceId
    spec: Any
    metadata: Metadata
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    origin: Origin = Origin("-")
    own: Mapping[str, Any] | None = None

    def named(self, message: str) -> str:
        """A message about it at its place: with its address, where that is written nowhere."""
        return f"{self.id} (of {self.origin.by}): {message}" if self.origin.by else message

    @cached_property
    def written(self) -> dict[str, object]:
        """The spec as its manifest wrote it: what is recorded, to compare with the next time."""
        said: dict[str, object] = self.spec.model_dump(mode="json", exclude_unset=True)
        return said


@dataclass(frozen=True)
class Observed:
    """What exists on the host: libvirt's XML of the inactive configuration, and of the active one when it runs.

    `uuid` identifies the object (a volume has its key instead); `calls` is what libvirt tells by calls of their own,
    such as autostart; `volatile` matches XML that changes on its own. `config` and `active` are the specs that all this
    says, read when they are first asked for: most objects are as they were, and nobody asks. What is not `persistent`
    goes with its next stop, such as a network that somebody undefined while it ran. `saved_xml` is the configuration
    that a machine which is off goes on with, from its saved memory. `ask` tells it with the secrets that libvirt shows
    only to who asks for them (see `whole`); `has_secrets` says that it was told so. `read_names` reads only what names
    other objects.
    """

    id: ResourceId
    uuid: str
    xml: str
    active_xml: str | None
    calls: Mapping[str, Any]
    read: Callable[["Observed"], tuple[object, object | None]] = field(repr=False, compare=False)
    volatile: re.Pattern[str] | None = None
    persistent: bool = True
    saved_xml: str | None = None
    ask: Callable[["Observed"], "Observed"] | None = field(default=None, repr=False, compare=False)
    read_names: Callable[["Observed"], object] | None = field(default=None, repr=False, compare=False)
    has_secrets: bool = False

    @cached_property
    def whole(self) -> "Observed":
        """Read it again with its secrets; itself where there are none to ask for, or libvirt does not tell them."""
        return self.ask(self) if self.ask else self

    @property
    def resumed(self) -> Self:
        """The machine as it is when it goes on, from its saved memory where there is one."""
        return replace(self, active_xml=self.saved_xml) if self.saved_xml else self

    @property
    def steady(self) -> tuple[str, str, str]:
        """All that was observed, but what changes on its own (`volatile`) while nobody changes anything."""
        xml, active = self.xml, self.active_xml or ""
        if self.volatile:
            xml, active = self.volatile.sub("", xml), self.volatile.sub("", active)
        return xml, active, repr((sorted(self.calls.items()), self.persistent, self.saved_xml))

    @property
    def running(self) -> bool:
        return self.active_xml is not None

    @property
    def state(self) -> str:
        """In a word: running, paused, stopped or saved; active or inactive; else present."""
        if self.saved_xml:
            return "saved"
        active = {True: "active", False: "inactive", None: "present"}[self.calls.get("active")]
        return str(self.calls.get("state", active))

    @property
    def config(self) -> Any:
        return self._specs[0]

    @property
    def active(self) -> object | None:
        return self._specs[1]

    @cached_property
    def referring(self) -> Any:
        """What `config` says of other objects; where there is little else to read, all of it."""
        return self.read_names(self) if self.read_names and "_specs" not in self.__dict__ else self.config

    @cached_property
    def _specs(self) -> tuple[object, object | None]:
        return self.read(self)
