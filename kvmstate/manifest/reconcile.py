"""`reconcile:` in kvmstate.yaml: how `kvmstate run` keeps a host as the manifests say."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kvmstate.manifest.notifications import Notification
from kvmstate.model.quantity import Duration
from kvmstate.model.resource import Model
from kvmstate.model.schedule import Schedule, check_cron, time_zone


def _zone(name: str) -> str:
    time_zone(name)
    return name


class Window(Model):
    """A change window: it opens by `schedule`, and closes after `duration`."""

    schedule: Annotated[
        str, AfterValidator(check_cron), Field(description="When it opens: cron's five fields, such as '0 22 * * fri'.")
    ]
    duration: Annotated[Duration, Field(gt=0, le=31 * 86400, description="How long it stays open.")]
    time_zone: Annotated[str, AfterValidator(_zone), Field(description="Such as Europe/Berlin.")] = "UTC"

    def opened(self, now: datetime) -> bool:
        """Whether it is open at `now` (UTC)."""
        return self._when.next(now - timedelta(seconds=self.duration)) <= now

    def next(self, now: datetime) -> datetime:
        """When it opens next, in UTC."""
        return self._when.next(now)

    @property
    def _when(self) -> Schedule:
        return Schedule(self.schedule, None, time_zone(self.time_zone))


class Reconcile(Model):
    mode: Annotated[
        Literal["enforce", "observe"],
        Field(description="Correct the host, or only report how it differs. lifecycle.mode overrides it."),
    ] = "enforce"
    interval: Annotated[
        Duration,
        Field(ge=10, description="Between two looks at everything: libvirt's events do not tell all."),
    ] = 600
    prune: Annotated[
        Literal["confirm"] | bool | None,
        Field(
            description="Whether resources are deleted that were removed from the manifests; confirm waits for "
            "`kvmstate confirm ADDRESS`. "
            "Default: the project's."
        ),
    ] = None
    windows: Annotated[
        list[Window],
        Field(
            description="When guests may be stopped, and anything deleted or replaced. Live changes are made at any "
            "time. Default: always."
        ),
    ] = []

    metrics: Annotated[
        Literal["resources", "machines"],
        Field(
            description="What /metrics tells: of resources as a whole, or also what each machine uses, looked at every "
            "15 s."
        ),
    ] = "resources"
    notifications: Annotated[
        list[Notification], Field(description="Who is notified of drift, failures and recoveries.")
    ] = []

    def may_disrupt(self, now: datetime) -> bool:
        """Whether a change window is open at `now` (UTC), or there is none to wait for."""
        return not self.windows or any(window.opened(now) for window in self.windows)

    def next_window(self, now: datetime) -> datetime | None:
        return min((window.next(now) for window in self.windows), default=None)
