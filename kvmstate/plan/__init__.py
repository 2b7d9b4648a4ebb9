"""From what should be, what is and what was applied last, to a Plan. Reads the host; changes nothing."""

from kvmstate.plan.planner import Options, make_drift, make_plan

__all__ = ["Options", "make_drift", "make_plan"]
