"""What the guest knows of the time: https://libvirt.org/formatdomain.html#time-keeping"""

from typing import Any, Literal, Self

from pydantic import model_validator

from kvmstate.xmlbind import Section, xml, xml_list


class Timer(Section):
    """A clock of the guest's."""

    name: Literal["platform", "hpet", "kvmclock", "pit", "rtc", "tsc", "hypervclock", "armvtimer"] = xml(
        "@name", required=True
    )
    present: bool | None = xml("@present", doc="Whether the guest has it. Default: QEMU's own choice.")
    tickpolicy: Literal["delay", "catchup", "merge", "discard"] | None = xml(
        "@tickpolicy", doc="What becomes of ticks that the guest has missed."
    )
    track: Literal["boot", "guest", "wall", "realtime"] | None = xml("@track", doc="What it follows.")
    frequency: int | None = xml("@frequency", ge=1, doc="In hertz; tsc only.")
    mode: Literal["auto", "native", "emulate", "paravirt", "smpsafe"] | None = xml("@mode", doc="tsc only.")
    catchup_threshold: int | None = xml("catchup/@threshold", ge=1, doc="Nanoseconds to be late before it catches up.")
    catchup_slew: int | None = xml("catchup/@slew", ge=1, doc="By how much it goes faster then.")
    catchup_limit: int | None = xml("catchup/@limit", ge=1, doc="Nanoseconds of which more is given up.")


class Clock(Section):
    """What the guest's hardware clock shows. `clock: localtime` is `clock: {offset: localtime}`."""

    offset: Literal["utc", "localtime", "timezone", "variable", "absolute"] | None = xml(
        "@offset", lasting=True, doc="Windows wants localtime. Default: utc."
    )
    adjustment: str | None = xml(
        "@adjustment",
        pattern=r"^(reset|-?[0-9]+)$",
        lasting=True,
        doc="Seconds from the basis, or reset at each start.",
    )
    basis: Literal["utc", "localtime"] | None = xml("@basis", lasting=True, doc="Of offset variable.")
    timezone: str | None = xml(
        "@timezone", pattern=r"^[A-Za-z0-9_/+:.-]+$", doc="Of offset timezone, such as Europe/Paris."
    )
    start: int | None = xml("@start", ge=0, doc="Of offset absolute: seconds since 1970.")
    timers: list[Timer] = xml_list("timer", key="name")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"offset": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _goes_with_its_offset(self) -> Self:
        wants = {"basis": "variable", "timezone": "timezone", "start": "absolute"}
        for name, offset in wants.items():
            if getattr(self, name) is not None and self.offset != offset:
                raise ValueError(f"{name} goes with offset {offset}")
        return self
