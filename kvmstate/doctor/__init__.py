"""What a host lacks, and how to fix it.

A check is one function: it takes what is known of the host and yields findings. Its name is its id. Those in
`machine` look at files of this machine and run for local hosts only; those in the others ask libvirt,
wherever it is. A check that fails itself is a finding, and no other check is left out for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from kvmstate.doctor import chains, filters, guests, machine, records, service
from kvmstate.doctor.finding import Finding, Severity, note
from kvmstate.errors import KvmstateError
from kvmstate.host import faults, open_host
from kvmstate.host.connection import default_uri, is_local

__all__ = ["Finding", "Severity", "examine"]

T = TypeVar("T")


def examine(uri: str | None) -> Iterator[Finding]:
    """All findings about a host, as they come. Changes nothing on it but for a tiny machine that runs for a moment."""
    uri = uri or default_uri()
    if uri.startswith("qemu") and is_local(uri):
        yield from _all(machine.CHECKS, uri)
    else:
        yield note("what only the host itself can see is left out: run doctor there as well", check="machine")
    try:
        with open_host(uri) as host:
            yield from _all((*service.CHECKS, *records.CHECKS, *chains.CHECKS, *guests.CHECKS, *filters.CHECKS), host)
    except KvmstateError as error:
        yield Finding(Severity.ERROR, error.message, error.hint, "connection")


def _all(checks: Iterable[Callable[[T], Iterable[Finding]]], about: T) -> Iterator[Finding]:
    for check in checks:
        name = check.__name__.replace("_", "-")
        try:
            with faults():
                for finding in check(about):
                    yield finding.of(name)
        except KvmstateError as error:
            yield Finding(Severity.WARNING, f"could not be checked: {error.message}", error.hint, name)
        except OSError as error:
            yield Finding(Severity.WARNING, f"could not be checked: {error}", "", name)
