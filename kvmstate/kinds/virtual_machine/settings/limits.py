"""Limits on disks: https://libvirt.org/formatdomain.html#throttle-group-management and `iotune` of disks"""

from typing import Any

from kvmstate.model.effect import Effect, Given
from kvmstate.xmlbind import Section, xml

GROUP = r"^[A-Za-z0-9_.-]+$"


def _limit(name: str, doc: str = "") -> Any:
    return xml(name, effect=Effect.LIVE, ge=1, doc=doc)


def _length(name: str) -> Any:
    return xml(name, same=_same_length, effect=Effect.LIVE, ge=1, doc="In seconds. Default: 1.")


def _same_length(want: int | None, seen: int | None) -> bool:
    return (want or 1) == (seen or 1)


class Limits(Section):
    """Limits; those of all replace those of reads and writes."""

    total_bytes_sec: int | None = _limit("total_bytes_sec")
    read_bytes_sec: int | None = _limit("read_bytes_sec")
    write_bytes_sec: int | None = _limit("write_bytes_sec")
    total_iops_sec: int | None = _limit("total_iops_sec")
    read_iops_sec: int | None = _limit("read_iops_sec")
    write_iops_sec: int | None = _limit("write_iops_sec")
    total_bytes_sec_max: int | None = _limit("total_bytes_sec_max", "For a while.")
    read_bytes_sec_max: int | None = _limit("read_bytes_sec_max")
    write_bytes_sec_max: int | None = _limit("write_bytes_sec_max")
    total_iops_sec_max: int | None = _limit("total_iops_sec_max")
    read_iops_sec_max: int | None = _limit("read_iops_sec_max")
    write_iops_sec_max: int | None = _limit("write_iops_sec_max")
    total_bytes_sec_max_length: int | None = _length("total_bytes_sec_max_length")
    read_bytes_sec_max_length: int | None = _length("read_bytes_sec_max_length")
    write_bytes_sec_max_length: int | None = _length("write_bytes_sec_max_length")
    total_iops_sec_max_length: int | None = _length("total_iops_sec_max_length")
    read_iops_sec_max_length: int | None = _length("read_iops_sec_max_length")
    write_iops_sec_max_length: int | None = _length("write_iops_sec_max_length")
    size_iops_sec: int | None = _limit("size_iops_sec", "Bytes that count as one operation.")


class Iotune(Limits):
    """Limits of a disk; those of all replace those of reads and writes."""

    group: str | None = xml(
        "group_name",
        effect=Given(Effect.LIVE, unset=Effect.RESTART),
        pattern=GROUP,
        doc="Disks of one group share their limits.",
    )


class ThrottleGroup(Limits):
    """Limits that disks share, each beside its own: see `throttleFilters` of disks."""

    name: str = xml("group_name", required=True, pattern=GROUP)
