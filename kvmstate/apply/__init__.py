"""Making a plan real: the inventory of what a project owns, and the executor that never forgets what it began."""

from kvmstate.apply.executor import Event, EventKind, Result, apply_plan
from kvmstate.apply.inventory import Store, open_store
from kvmstate.apply.lock import Lock, open_lock
from kvmstate.apply.recheck import Recheck

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
