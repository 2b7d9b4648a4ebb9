"""Making a plan real: the inventory of what a project owns, and the executor that never forgets what it began."""

from kvmstate.apply.executor import Event, EventKind, Result, apply_plan, note_agreement
from kvmstate.apply.inventory import Store, open_store
from kvmstate.apply.lock import Lock, open_lock

__all__ = [
    "Event",
    "EventKind",
    "Lock",
    "Result",
    "Store",
    "apply_plan",
    "note_agreement",
    "open_lock",
    "open_store",
]
