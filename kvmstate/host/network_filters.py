"""Network filters: https://libvirt.org/html/libvirt-libvirt-nwfilter.html

A filter has one definition, which running machines follow: no active one beside it, no state, and no events.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

import libvirt

from kvmstate.errors import NotFound
from kvmstate.host.faults import described, faults
from kvmstate.host.objects import NetworkFilter
from kvmstate.host.permit import Configuration, Permit

# So many are looked up one by one; for more it is quicker to list all
FEW = 5


def supported(connection: Any) -> bool:
    """Whether the host has network filters: libvirt's driver for them is a package of its own, which may be missing."""
    with faults():
        try:
            connection.numOfNWFilters()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
            return False
    return True


def all_filters(connection: Any) -> list[NetworkFilter]:
    if not supported(connection):
        return []
    with faults():
        return [NetworkFilter(raw) for raw in connection.listAllNWFilters(0)]


def named(connection: Any, names: Collection[str]) -> list[NetworkFilter]:
    """Those of these names that exist."""
    if len(names) > FEW:
        return [each for each in all_filters(connection) if each.name in names]
    found = []
    for name in names if supported(connection) else ():
        with suppress(NotFound):
            found.append(find(connection, name))
    return found


def find(connection: Any, name: str) -> NetworkFilter:
    """Find a filter by its name. Raises NotFound."""
    with faults():
        return NetworkFilter(connection.nwfilterLookupByName(name))


def xml(each: NetworkFilter) -> str:
    return described(each.raw, 0)


def configuration(each: NetworkFilter) -> Configuration[NetworkFilter]:
    """What is defined, to be edited for `redefine`."""
    return Configuration(each, xml(each), xml)


def redefine(before: Configuration[NetworkFilter], text: str) -> NetworkFilter:
    """Define a filter otherwise; machines that run follow at once, or none does. Raises Changed when it is no longer
    what `before` says, of which `text` was made."""
    before.check()
    return define(before.thing.connection, text)


def define(connection: Any, text: str) -> NetworkFilter:
    """Define a filter that is not there: libvirt refuses the name of one that is, with another UUID."""
    with faults():
        return NetworkFilter(connection.nwfilterDefineXML(text))


def undefine(each: NetworkFilter, permit: Permit) -> None:
    permit.check(each)
    with faults():
        each.raw.undefine()
