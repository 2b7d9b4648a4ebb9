"""How machines are restarted, a few at a time. The words are those of Kubernetes' roll-outs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from kvmstate.model.quantity import Duration
from kvmstate.model.resource import Model

SHARE_PATTERN = r"^(100|[1-9]?[0-9])%$"


class Rollout(Model):
    """How machines are restarted whose lifecycle says `restart: now`."""

    max_unavailable: Annotated[
        Annotated[int, Field(ge=1), Tag("number")] | Annotated[str, Field(pattern=SHARE_PATTERN), Tag("share")],
        Discriminator(lambda given: "share" if isinstance(given, str) else "number"),
        Field(
            description="How many of the project's machines may be down at a time: a number, or a share of those that "
            "should run, such as 25%. What is down, or not healthy, for another reason counts, too."
        ),
    ] = 1
    min_ready: Annotated[
        Duration, Field(description="How long a restarted machine has to run before the next ones are restarted.")
    ] = 0

    def most(self, machines: int) -> int:
        """How many of so many may be down: of a share the whole ones, and always one."""
        if isinstance(self.max_unavailable, int):
            return self.max_unavailable
        return max(1, machines * int(self.max_unavailable.rstrip("%")) // 100)
