"""How machines name each other."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from kvmstate.model.resource import Name


def _local(address: Any) -> Any:
    return address.removeprefix("domain/") if isinstance(address, str) else address


MachineName = Annotated[Name, BeforeValidator(_local)]
