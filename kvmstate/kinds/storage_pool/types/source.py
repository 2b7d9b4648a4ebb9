"""What the sources of several types of pools have."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from kvmstate.kind import UUID
from kvmstate.kind.secrets import Named, secret_reference
from kvmstate.model.effect import Effect
from kvmstate.xmlbind import Section, xml
from kvmstate.xmlbind.codecs import same_case, same_path

Name = Annotated[str, Field(pattern=r"^[^\s/][^\x00-\x1f/]*$")]


QualifiedName = Annotated[str, Field(pattern=r"^(iqn|eui|naa)\.[^\s]+$", examples=["iqn.2026-01.example.nas:images"])]


Uuid = Annotated[str, Field(pattern=UUID)]


def server(path: str = "host/@name") -> Any:
    """Declare the server that has the volumes."""
    return xml(
        path,
        same=same_case,
        required=True,
        pattern=r"^[^-\s/][^\s/]*$",
        effect=Effect.REPLACE,
        doc="The server's name or address.",
    )


def port(path: str = "host/@port") -> Any:
    """Declare its port."""
    return xml(path, ge=1, le=65535, doc="Its port. Default: that of the protocol.")


def device(path: str, doc: str) -> Any:
    """Declare a block device of the host."""
    return xml(path, same=same_path, required=True, effect=Effect.REPLACE, doc=doc)


class SecretOf(Named):
    """A Secret of the manifests, or one that the host has, see `virsh secret-list`."""

    secret: str | None = secret_reference()
    usage: str | None = xml("@usage", pattern=r"^[^\x00-\x1f]+$", doc="Or of the host: by what it is for.")
    uuid: Uuid | None = xml("@uuid", same=same_case, doc="Or by its UUID.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.usage is None) is (self.uuid is None):
            raise ValueError("a secret is named by secret, by its usage, or by its uuid")
        return self


class Login(Section):
    """Who the host is to the server. The password is a secret of libvirt's."""

    username: str = xml("@username", required=True, pattern=r"^[^\x00-\x1f]+$", doc="The user.")
    secret: SecretOf = xml("secret", required=True, doc="The secret with the password, or the key.")
