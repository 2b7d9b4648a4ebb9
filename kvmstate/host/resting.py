"""Who would see that a volume is smaller, or has other content, than a moment before: all but machines that are off."""

from __future__ import annotations

from collections.abc import Iterable

from kvmstate.host import domains
from kvmstate.host.connection import Host
from kvmstate.host.named import User


def busy(host: Host, users: Iterable[User]) -> list[User]:
    """All of the users but definitions of machines that are off: what runs, is saved or has a snapshot, and layers."""
    found = sorted(users)
    off = {user for user in found if user.id.kind == "domain" and not user.snapshot}
    named = {domain.name: domain for domain in domains.named(host.connection, {user.id.name for user in off})}
    stopped = {name for name, domain in named.items() if domains.state(domain) == "stopped"}
    return [user for user in found if user not in off or user.id.name not in stopped]
