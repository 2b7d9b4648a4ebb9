"""A plan shows of what another resource's manifest makes what that names, and how much is always there besides."""

from __future__ import annotations

from dataclasses import replace

from kvmstate.kinds import BY_WORD
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.resource import Lifecycle, Metadata, Origin, Resource, ResourceId
from kvmstate.plan.reasons import row


def test_rules_of_security_groups() -> None:
    drop = {"action": "drop", "direction": "in", "all": {}}
    spec = BY_WORD["nwfilter"].adapter.validate_python({"rules": [{"filter": "ssh"}, {"filter": "http"}, drop, drop]})
    id_ = ResourceId("nwfilter", "web-lan-groups")
    made = Resource(id_, spec, Metadata(name=id_.name), Lifecycle(), Origin("web.yaml", 1, "domain/web"))
    field = FieldChange(("rules",), None, spec.rules, Effect.LIVE)
    change = Change(id_, Action.CREATE, fields=(field,), desired=made, spec=spec)
    assert row(change, field).lines == ("+ filter ssh", "+ filter http", "... 2 rules that are always there")
    # what a manifest says itself is shown as it is
    own = replace(change, desired=replace(made, origin=Origin("web.yaml", 1)))
    assert len(row(own, field).lines) == 4
