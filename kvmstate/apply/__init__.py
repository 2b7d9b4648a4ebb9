"""Making a plan real: the inventory of what a project owns, and the executor that never forgets what it began.

Who only reads a record need not load what applies plans: a name is imported with its first use.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmstate.apply.executor import Event, EventKind, Result, apply_plan
    from kvmstate.apply.inventory import Store, open_store
    from kvmstate.apply.lock import Lock, open_lock
    from kvmstate.apply.recheck import Recheck

_IN = {
    **dict.fromkeys(("Event", "EventKind", "Result", "apply_plan"), "executor"),
    **dict.fromkeys(("Store", "open_store"), "inventory"),
    **dict.fromkeys(("Lock", "open_lock"), "lock"),
    "Recheck": "recheck",
}

__all__ = [
    "Event",
    "EventKind",
    "Lock",
    "Recheck",
    "Result",
    "Store",
    "apply_plan",
    "open_lock",
    "open_store",
]


def __getattr__(name: str) -> object:
    if name not in _IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_IN[name]}"), name)
