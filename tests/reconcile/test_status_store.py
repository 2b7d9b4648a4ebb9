"""What is kept of each resource, so that pages can be drawn without asking the host."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from kvmstate.apply import Result
from kvmstate.errors import HostError
from kvmstate.kinds.virtual_machine.spec import VirtualMachineSpec
from kvmstate.model.change import Action, Change, FieldChange
from kvmstate.model.effect import Effect
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Metadata, Observed, Resource, ResourceId
from kvmstate.plan.reasons import MOST_KEPT, planned
from kvmstate.reconcile.gates import Gated
from kvmstate.reconcile.status_store import ResourceStatus, State, StatusStore, Sync
from kvmstate.reconcile.statuses import statuses
from kvmstate.views.status import rows
from kvmstate.web.status import status

WEB = ResourceId("domain", "web")
SPEC = VirtualMachineSpec.model_validate(
    {
        "memory": "64MiB",
        "cpus": 2,
        "state": "running",
        "disks": [{"name": "root", "file": "/root.img"}, {"name": "data", "file": "/data.img"}],
        "xml": {"devices/graphics/@passwd": "hush"},
    }
)


def seen(state: str, saved: str | None = None) -> Observed:
    def read(observed: Observed) -> tuple[Any, Any]:
        raise AssertionError("nobody needs to read its XML for this")

    running = "<domain/>" if state == "running" else None
    return Observed(WEB, "uuid", "<domain/>", running, {"state": state}, read, saved_xml=saved)


def change(action: Action = Action.NOOP, fields: int = 0, **parts: Any) -> Change:
    desired = Resource(WEB, SPEC, Metadata(name="web"))
    changed = tuple(FieldChange((f"field{n}",), "a" * 100_000, "b\n" * 100_000, Effect.LIVE) for n in range(fields))
    return Change(WEB, action, desired=desired, fields=changed, **{"observed": seen("running"), **parts})


def after(change: Change, result: Result | None = None, held: dict[ResourceId, Sync] | None = None) -> ResourceStatus:
    made, _ = statuses(Gated(Plan("shop", "test", (change,)), held or {}), result or Result())
    return made[0]


def test_what_is_as_it_should_be_is_kept_in_a_word_and_its_xml_is_not_read() -> None:
    now = after(change())
    assert (now.sync, now.state, now.plan, now.pending) == (Sync.IN_SYNC, "running", None, False)
    assert after(change(observed=seen("stopped", saved="<domain/>"))).state == "saved"
    assert after(change(Action.CREATE, observed=None, blocked="no pool")).state == ""


def test_what_was_done_is_shown_as_the_look_after_it_saw_it() -> None:
    made = change(Action.CREATE, observed=None)
    now = after(made, Result(done=[made], states={WEB: "running"}))
    assert (now.sync, now.state, now.pending) == (Sync.IN_SYNC, "running", False)
    assert now.plan
    assert now.plan.action is Action.CREATE


@pytest.mark.parametrize(
    ("result", "held", "sync"),
    [
        (lambda c: Result(), {WEB: Sync.DRIFTED}, Sync.DRIFTED),
        (lambda c: Result(failed=[(c, HostError("no memory"))]), {}, Sync.FAILED),
        (lambda c: Result(skipped=[(c, "volume/root failed")]), {}, Sync.FAILED),
        (lambda c: Result(done=[c], left=(c,)), {}, Sync.FAILED),
    ],
)
def test_what_differs_is_kept_with_its_fields(result: Any, held: dict[ResourceId, Sync], sync: Sync) -> None:
    cpus = FieldChange(("cpus",), 2, 3, Effect.LIVE)
    differs = replace(change(Action.UPDATE), fields=(cpus,))
    now = after(differs, result(differs), held)
    assert (now.sync, now.pending) == (sync, True)
    assert now.plan
    assert [(row.name, row.text, row.cost) for row in now.plan.rows] == [("cpus", "2 -> 3", "live")]


@pytest.mark.parametrize(
    "seen_so",
    [
        change(),
        change(Action.CREATE, observed=None, blocked="no pool"),
        change(Action.ADOPT, blocked="not owned"),
        change(Action.UPDATE, fields=1, blocked="preventDestroy"),
        change(suspended=True),
        change(observed=None, unknown=True),
        replace(change(), desired=None),
        replace(change(), active_fields=(FieldChange(("cpus",), 1, 2, Effect.RESTART),)),
    ],
    ids=lambda c: f"{c.action.name} {c.blocked or c.suspended or c.unknown or c.waiting or c.desired is None}",
)
def test_a_daemon_and_kvmstate_status_call_it_the_same(seen_so: Change) -> None:
    (row,) = rows(Plan("shop", "test", (seen_so,)))
    assert row.sync == after(seen_so).sync.value


def test_of_a_restart_that_is_pending_only_what_waits_for_it_is_kept() -> None:
    applied, waits = (
        FieldChange((name,), 1, 2, effect) for name, effect in (("title", Effect.LIVE), ("cpus", Effect.RESTART))
    )
    now = after(replace(change(Action.UPDATE), fields=(applied, waits), active_fields=(waits,)))
    assert now.sync is Sync.RESTART_PENDING
    assert now.plan
    assert [row.name for row in now.plan.rows] == ["cpus"]


def test_however_much_differs_little_is_kept_of_it() -> None:
    huge = planned(change(Action.UPDATE, fields=1000))
    assert huge
    assert (len(huge.rows), huge.more) == (MOST_KEPT, 1000 - MOST_KEPT)
    assert len(pickle.dumps(huge)) < 20_000


def test_no_secret_is_kept() -> None:
    password = FieldChange(("xml", "devices/graphics/@passwd"), "hush", "shh", Effect.RESTART)
    url = FieldChange(("kernel",), "https://me:hush@host/a", "https://me:shh@host/b", Effect.RESTART)
    hidden = FieldChange(("password",), "hush", "shh", Effect.LIVE, sensitive=True)
    kept = planned(replace(change(Action.UPDATE), fields=(password, url, hidden)))
    assert kept
    assert len(kept.rows) == 3
    assert not [secret for secret in ("hush", "shh") if secret in repr(kept)]


def test_a_plan_keeps_its_time_while_it_says_the_same_and_stays_the_last_one_when_it_is_done() -> None:
    store = StatusStore(State())
    drifted = replace(change(Action.UPDATE), fields=(FieldChange(("cpus",), 2, 3, Effect.LIVE),))
    first, again = (after(drifted, held={WEB: Sync.DRIFTED}) for _ in range(2))
    assert first.plan is not again.plan
    for now in (first, again):
        store.update_resources([now])
        assert store.state.resources[WEB].plan is first.plan
    other = replace(drifted, fields=(FieldChange(("cpus",), 2, 4, Effect.LIVE),))
    store.update_resources([later := after(other, held={WEB: Sync.DRIFTED})])
    assert store.state.resources[WEB].plan is later.plan
    store.update_resources([after(change())])
    assert store.state.resources[WEB].plan is later.plan
    assert not store.state.resources[WEB].pending


def test_a_page_has_all_in_short_and_one_in_full() -> None:
    resource = Resource(WEB, SPEC, Metadata(name="web", labels={"tier": "front"}))
    differs = replace(change(Action.UPDATE), fields=(FieldChange(("cpus",), 2, 3, Effect.LIVE),))
    known = after(differs, held={WEB: Sync.DRIFTED})
    state = State(resources={WEB: known}, desired={WEB: resource}, notes=("mind the gap",))
    (short,) = status(state)["resources"]
    assert (short["state"], short["labels"]) == ("running", {"tier": "front"})
    assert short["summary"] == {"memory": 64 << 20, "cpus": 2, "state": "running", "disks": 2}
    assert (short["plan"]["actions"], short["plan"]["pending"]) == (["update"], True)
    assert short["plan"]["fields"] == [{"path": "cpus", "change": "~", "text": "2 -> 3", "cost": "live"}]
    assert "spec" not in short
    (full,) = status(state, WEB)["resources"]
    assert [disk["file"] for disk in full["spec"]["disks"]] == ["/root.img", "/data.img"]
    assert status(state)["notes"] == ["mind the gap"]
    assert "hush" not in json.dumps([short, full])
    with pytest.raises(ValueError, match="knows no domain/db"):
        status(state, ResourceId("domain", "db"))


def test_what_is_owned_and_not_declared_has_no_spec() -> None:
    (shown,) = status(State(resources={WEB: ResourceStatus(WEB, Sync.ORPHANED)}), WEB)["resources"]
    assert (shown["summary"], shown["spec"], shown["plan"]) == ({}, None, None)
