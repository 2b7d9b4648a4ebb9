"""What a manifest says of secrets: which one is meant, and where its value comes from."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Self

from pydantic import model_validator

from kvmstate.model.effect import Effect
from kvmstate.model.resource import ResourceId
from kvmstate.xmlbind import Element, Section, Sensitive, bindings, is_sealed, owned, xml

# Of what no XML has: it is neither read nor written, and never differs
NOWHERE = Element(lambda node, lookup: None, lambda node, value, lookup: None)
KIND = "secret"
Path = tuple[str | int, ...]


def secret_reference(required: bool = False, doc: str = "The Secret, by its name in the manifests.") -> Any:
    """Declare the Secret that a section is about."""
    return xml(".", NOWHERE, same=lambda want, seen: True, ref=KIND, required=required, doc=doc)


def usage_of(name: str) -> str:
    """What libvirt knows a Secret of this name by; see `kvmstate.host.objects.secret_name`."""
    from urllib.parse import unquote

    return unquote(name)


class Value(Section):
    """The value of a Secret. It is in no manifest: `from` names what the command line has (`--secret NAME=...`, or a
    file of these, `--secrets FILE`)."""

    from_: str | None = xml(
        ".",
        NOWHERE,
        same=lambda want, seen: True,
        effect=Effect.LIVE,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        doc="The name by which the command line knows where it is.",
    )
    encoding: Literal["text", "base64", "binary"] | None = xml(
        ".",
        NOWHERE,
        same=lambda want, seen: True,
        effect=Effect.LIVE,
        doc="How it is there. text: without the last line break; base64: decoded, as Ceph's keys; binary: as it is. "
        "Default: text.",
    )
    clear: str | None = xml(
        ".",
        NOWHERE,
        same=lambda want, seen: True,
        effect=Effect.LIVE,
        sensitive=Sensitive(),
        doc="Instead of from: the value itself, which all who read the manifest can read. There is a warning.",
    )
    data: str | None = xml(
        ".",
        NOWHERE,
        lasting=True,
        sensitive=Sensitive(asked=True),
        doc="Filled in by kvmstate; not to be written.",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.from_ is None) is (self.clear is None) and self.data is None:
            raise ValueError("a value is named by from, or said by clear")
        return self

    @classmethod
    def of(cls, value: bytes) -> Value:
        """Make the value that the host has."""
        return cls.model_construct(_fields_set={"data"}, data=base64.b64encode(value).decode())

    def know(self, found: bytes) -> None:
        """Fill in what was found where `from` says. Raises ValueError for what is not as `encoding` says."""
        if self.encoding == "base64":
            try:
                found = base64.b64decode(b"".join(found.split()), validate=True)
            except binascii.Error:
                raise ValueError("it is not base64") from None
        elif self.encoding != "binary":
            found = found.removesuffix(b"\n").removesuffix(b"\r")
        if not found:
            raise ValueError("it is empty")
        self.data = base64.b64encode(found).decode()

    @property
    def known(self) -> bytes | None:
        """What it is; None where nothing gives it, or a record that has its hash alone."""
        return base64.b64decode(self.data) if self.data and not is_sealed(self.data) else None


class Password(Section):
    """A password that libvirt has in the XML itself. It is the value of a Secret of the manifests."""

    secret: str | None = secret_reference(doc="The Secret of the manifests whose value it is.")
    clear: str | None = xml(
        "@passwd",
        lasting=True,
        effect=Effect.LIVE,
        sensitive=Sensitive(asked=True),
        doc="Instead of secret: the password itself, which all who read the manifest can read. There is a warning.",
    )
    valid_to: str | None = xml(
        "@passwdValidTo",
        effect=Effect.LIVE,
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}$",
        doc="Until when it is taken, in UTC: 2027-01-31T12:00:00.",
    )

    @model_validator(mode="after")
    def _said(self) -> Self:
        if self.secret is None and self.clear is None:
            raise ValueError("a password is that of a secret, or said by clear")
        return self


class Named(Section):
    """Names a secret of libvirt's by its usage or its UUID, or a Secret of the manifests, whose usage is its name."""

    @model_validator(mode="after")
    def _usage(self) -> Self:
        said: Any = self
        if said.secret is not None:
            if said.uuid is not None or said.usage not in (None, usage_of(said.secret)):
                raise ValueError("a secret is named by one of secret, usage and uuid")
            said.usage = usage_of(said.secret)
        return self


def passwords(spec: object, at: Path = ()) -> Iterator[tuple[Path, Password]]:
    """Those in a spec."""
    if isinstance(spec, Password):
        yield at, spec
    elif isinstance(spec, Section):
        for b in owned(spec, _with_passwords):
            value = getattr(spec, b.name)
            for index, each in enumerate(value if isinstance(value, list) else [value] if value else ()):
                yield from passwords(each, (*at, b.alias, index) if isinstance(value, list) else (*at, b.alias))


@cache
def _with_passwords(section: type[Section]) -> tuple[Any, ...]:
    return tuple(b for b in bindings(section) if b.below(lambda each: each is Password or _with_passwords(each)))


def target(section: Password) -> ResourceId | None:
    """The Secret whose value a password is."""
    return ResourceId(KIND, section.secret) if section.secret else None


def unknown(spec: object) -> str:
    """The Secret whose value is to be written and nobody gives; empty where all are known."""
    return next((each.secret for _, each in passwords(spec) if each.secret and each.clear is None), "")
