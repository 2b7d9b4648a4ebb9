"""What the projects of a host own there, by their records."""

from __future__ import annotations

from kvmstate.apply.inventory import Store
from kvmstate.apply.keep import open_keep
from kvmstate.errors import ConnectionFailed, HostError
from kvmstate.host import Host
from kvmstate.model.inventory import Inventory


def records(host: Host, but: str = "") -> tuple[dict[str, Inventory], set[str]]:
    """What each project of the host owns; and those whose record is damaged, or a newer version's: nothing can be told
    of them."""
    found, unread = {}, set()
    for project in sorted(open_keep(host, but or "any").projects() - {but}):
        try:
            found[project] = Store(open_keep(host, project), project).inventory
        except ConnectionFailed:
            raise
        except HostError:
            unread.add(project)
    return found, unread
