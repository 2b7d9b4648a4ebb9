"""Making a plan real: the inventory of what a project owns, and the executor that never forgets what it began."""

from kvmstate.apply.executor import Event, EventKind, Result, apply_plan
from kvmstate.apply.inventory import Store, open_store

__all__ = ["Event", "EventKind", "Result", "Store", "apply_plan", "open_store"]
