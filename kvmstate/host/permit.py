"""Leave to do what cannot be undone.

Every function of `host` that deletes, wipes, undefines, builds, uploads or resizes takes a Permit, and asks it right
before the call. Permits are made here and in `kvmstate.apply.gate` only; a test holds that. What is written over an
existing definition is computed from a Configuration that still holds at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from kvmstate.errors import HostError
from kvmstate.host.objects import Handle, Volume
from kvmstate.model.resource import ResourceId

if TYPE_CHECKING:
    from kvmstate.host.connection import Host

H = TypeVar("H", bound=Handle)


class Permit:
    """For one deed; `check` is given the object that it is about to be done to."""

    def __init__(self, check: Callable[[Handle], None]) -> None:
        self._check = check

    def check(self, thing: Handle) -> None:
        """Check that this may still be done. Raises HostError when it must not be done by now."""
        self._check(thing)


def unused(host: Host, id_: ResourceId, but: Collection[str] = ()) -> Permit:
    """For the file of a snapshot: nobody uses it by now, `but` for these users (as they are shown)."""

    def check(volume: Handle) -> None:
        assert isinstance(volume, Volume)
        host.uses.look_again()
        if others := sorted(user for user in host.uses.of_volume(id_, volume.path) if str(user) not in but):
            raise InUse(f"volume {id_.name} is in use by {others[0]} by now", "look again")

    return Permit(check)


@dataclass(frozen=True)
class Configuration(Generic[H]):
    """What an object's definition said when it was read, to be edited and written back."""

    thing: H
    text: str
    read: Callable[[H], str]

    def check(self) -> None:
        """Check that the configuration is still the one that was read. Raises Changed when somebody else has written
        another one since."""
        if self.read(self.thing) != self.text:
            raise Changed(self.thing.name)


class InUse(HostError):
    """What was to be deleted is used by somebody by now."""


class Changed(HostError):
    """Somebody else has changed a definition between our look at it and our change of it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was changed by somebody else at this moment", "nothing was changed: apply again")
