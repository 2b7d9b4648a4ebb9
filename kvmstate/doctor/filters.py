"""Checks of what network filters need of a host."""

from __future__ import annotations

from collections.abc import Iterator

from kvmstate.doctor.finding import Finding, ok, warning
from kvmstate.host import Host, network_filters
from kvmstate.host.kernel_links import unfiltered, way_in
from kvmstate.kinds import ON_HOST


def bridged_packets(host: Host) -> Iterator[Finding]:
    """Whether rules of network filters about IP have an effect, where somebody has made filters."""
    given = {name for kind in ON_HOST for name in kind.says.given}
    if all(each.name in given for each in network_filters.all_filters(host.connection)):
        return
    off = unfiltered(host)
    for family, setting in off.items():
        yield warning(
            f"rules of network filters, and security groups, do not filter {family}: {setting} is not 1",
            f"`modprobe br_netfilter`, `sysctl -w {setting}=1`; /etc/modules-load.d and /etc/sysctl.d make that last",
        )
    if not off and way_in(host):
        yield ok("packets on bridges pass through the rules of network filters")


CHECKS = (bridged_packets,)
