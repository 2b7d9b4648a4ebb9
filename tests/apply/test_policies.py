"""A second kind of policy: all of the program works with it as with snapshot policies, and nothing else was changed."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import libvirt
import pytest

from kvmstate.app import Session, Writing, open_session
from kvmstate.apply import EventKind
from kvmstate.apply import policies as at_work
from kvmstate.errors import HostError, Reverted
from kvmstate.host import Host
from kvmstate.kind import Declaration, Form, Kind
from kvmstate.kind.policy import Gauge, Made, Outcome, Told, Verdict, Work
from kvmstate.kind.steps import Precaution, simple
from kvmstate.kinds import BY_NAME, BY_WORD, POLICIES
from kvmstate.manifest import Project
from kvmstate.model.change import Action, Change
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Lifecycle, Metadata, Observed, Resource, ResourceId
from kvmstate.plan import Options, saved
from kvmstate.reconcile.desired import Desired, Source
from kvmstate.reconcile.metrics import Metrics
from kvmstate.reconcile.notify.notices import Notice, notice
from kvmstate.reconcile.reconciler import Reconciler
from kvmstate.reconcile.scheduler import Scheduler
from kvmstate.reconcile.status_store import State, StatusStore
from kvmstate.reconcile.workqueue import WorkQueue
from kvmstate.views import graph, snapshot_run

URI = "test:///default"
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


class BackupSpec(Declaration):
    """When machines are copied somewhere: for these tests."""

    selector: str
    every: int = 3600
    suspend: bool = False
    undoes: bool = False


class Backup:
    """Writes into a list what it would copy."""

    log: list[str] = []

    def __init__(self, resource: Resource) -> None:
        self.resource = resource

    def selects(self, resource: Resource) -> bool:
        return resource.id.kind == "domain" and resource.id.name.startswith(self.resource.spec.selector)

    def next_due(self, after: datetime) -> datetime | None:
        return None if self.resource.spec.suspend else after + timedelta(seconds=self.resource.spec.every)

    def run(self, work: Work, target: Resource, observed: Observed | None) -> Outcome:
        if observed is None:
            failed = Told("BackupFailed", "it is not there", warning=True, hint="make it")
            return Outcome(self.resource, target, errors=(HostError(failed.message, failed.hint),), events=(failed,))
        copy = f"{target.id.name}-{work.now:%H}"
        if not work.dry:
            self.log.append(f"{self.resource.id}: {copy}")
        verdicts = (Verdict(Made(copy, work.now), ("newest",)), Verdict(Made("old", work.now), why="no rule keeps it"))
        events = (Told("BackupMade", copy),)
        return Outcome(self.resource, target, copy, verdicts=verdicts, deleted=("old",), events=events)

    def before(self, work: Work, change: Change) -> Precaution:
        if not (change.desired and self.selects(change.desired)):
            return Precaution()

        def undo(error: HostError, say: Callable[[str], None]) -> HostError:
            self.log.append(f"{self.resource.id}: undone")
            return Reverted(error.message)

        copy = simple(f"copy for {self.resource.id}", lambda: self.log.append(f"{self.resource.id}: before"))
        verify = simple(f"verify for {self.resource.id}", lambda: self.log.append(f"{self.resource.id}: after"))
        return Precaution((copy,), (verify,), undo if self.resource.spec.undoes else None)

    def notes(self, plan: Plan) -> Iterator[str]:
        for change in plan.todo:
            if change.desired and self.selects(change.desired):
                yield f"{self.resource.id} copies {change.id} before"

    def metrics(self, outcomes: Sequence[Outcome]) -> Iterator[Gauge]:
        if outcomes:
            yield Gauge("backup_age_seconds", "Since the last one.", NOW, {"policy": self.resource.id.name})

    @staticmethod
    def leftovers(host: Host, project: str, resources: Iterable[Resource]) -> Iterator[str]:
        known = {resource.id.name for resource in resources}
        yield from (f"copies of {name} are left" for name in ("nightly", "gone") if name not in known)


@pytest.fixture(autouse=True)
def kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The test driver forgets all once its last connection is closed."""
    found = Kind("Backup", "backup", "When machines are copied.", Form(BackupSpec), on_host=False, is_policy=True)
    # it would be in the module `policy` beside its spec
    found.__dict__["policy"] = Backup
    monkeypatch.setitem(BY_NAME, found.name, found)
    monkeypatch.setitem(BY_WORD, found.word, found)
    monkeypatch.setattr(at_work, "POLICIES", (*POLICIES, found))
    monkeypatch.setattr(Backup, "log", [])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    stays = libvirt.open(URI)
    yield
    stays.close()
    gc.collect()


def machine(name: str, memory: str = "64MiB", suspended: bool = False) -> Resource:
    spec = BY_WORD["domain"].adapter.validate_python({"memory": memory, "state": "stopped"})
    return Resource(ResourceId("domain", name), spec, Metadata(name=name), Lifecycle(suspend=suspended))


def backup(name: str, selector: str = "web", **spec: object) -> Resource:
    return Resource(ResourceId("backup", name), BackupSpec(selector=selector, **spec), Metadata(name=name))  # type: ignore[arg-type]


@contextmanager
def session(*resources: Resource) -> Iterator[Session]:
    with open_session(URI, "shop", resources, writing=Writing("test")) as opened:
        yield opened


def converge(*resources: Resource) -> list[str]:
    """What the steps said that were done."""
    said: list[str] = []
    with session(*resources) as opened:
        plan = opened.plan(Options())
        result = opened.apply(plan, Options(), lambda e: said.append(e.text) if e.kind is EventKind.STEP else None)
        assert result.ok, result
    return said


def run(*resources: Resource, dry: bool = False) -> list[Outcome]:
    with session(*resources) as opened:
        return list(opened.policies.run(NOW, dry, lambda text: None))


def test_it_acts_around_a_change_and_a_plan_says_so() -> None:
    converge(machine("web"), machine("db"))
    Backup.log.clear()
    wanted = [machine("web", "96MiB"), machine("db", "96MiB"), backup("nightly"), backup("weekly", "w")]
    with session(*wanted) as opened:
        plan = opened.plan(Options())
        assert [note for note in plan.notes if "copies" in note] == [
            "backup/nightly copies domain/web before",
            "backup/weekly copies domain/web before",
        ]
    converge(*wanted)
    assert Backup.log == [f"backup/{name}: {when}" for when in ("before", "after") for name in ("nightly", "weekly")]


def test_the_last_one_that_takes_a_change_back_does() -> None:
    converge(machine("web"))
    change = Change(ResourceId("domain", "web"), Action.UPDATE, desired=machine("web"))
    with session(machine("web"), *(backup(n, undoes=n != "c") for n in "abc")) as opened:
        wanted = opened.policies.before(change)
        assert [step.describe for step in wanted.before] == [f"copy for backup/{n}" for n in "abc"]
        assert wanted.undo
        assert isinstance(wanted.undo(HostError("failed"), lambda text: None), Reverted)
    assert Backup.log == ["backup/b: undone"]


def test_it_runs_on_what_it_selects_and_the_project_owns() -> None:
    converge(machine("web-1"), machine("web-2"), machine("db"))
    resources = (machine("web-1"), machine("web-2", suspended=True), machine("web-3"), machine("db"))
    policies = (backup("nightly"), backup("never", suspend=True))
    outcomes = run(*resources, *policies)
    assert [(str(o.target.id), o.created, bool(o.skipped), len(o.errors)) for o in outcomes] == [
        ("domain/web-1", "web-1-12", False, 0),
        ("domain/web-2", "", True, 0),
        ("domain/web-3", "", False, 1),
    ]
    assert Backup.log == ["backup/nightly: web-1-12"]
    run(*resources, *policies, dry=True)
    assert Backup.log == ["backup/nightly: web-1-12"]


def test_what_it_did_is_shown_and_drawn() -> None:
    converge(machine("web"))
    resources = (machine("web"), backup("nightly"), backup("never", suspend=True))
    outcomes = run(*resources)
    with session(*resources) as opened:
        policies = opened.policies.all
    assert list(snapshot_run.lines(outcomes[0], False)) == [
        "domain/web: backup/nightly",
        "  + web-12   created",
        "  - old   deleted: no rule keeps it",
    ]
    assert list(snapshot_run.summary(policies, outcomes, NOW, False))[:2] == [
        "backup/nightly: 1 machine, next at 2026-11-28 13:00 UTC",
        "backup/never: suspended",
    ]
    told = snapshot_run.as_json(policies, outcomes, NOW, False)["policies"]
    assert [(p["address"], p["next"], len(p["domains"])) for p in told] == [
        ("backup/nightly", "2026-11-28T13:00:00Z", 1),
        ("backup/never", None, 0),
    ]
    assert '"backup/nightly" -> "domain/web"' in graph.dot(resources)


def test_what_it_left_is_told() -> None:
    with session(backup("nightly")) as opened:
        notes = opened.with_leftovers(Plan("shop", URI, ())).notes
    assert notes == ("copies of gone are left",)


def test_a_saved_plan_has_it() -> None:
    converge(machine("web"))
    with session(machine("web", "96MiB"), backup("nightly")) as opened:
        content = json.dumps(opened.saved(opened.plan(Options()), Options()))
    again = saved.read(content, "plan")
    assert [str(resource.id) for resource in again.resources] == ["backup/nightly", "domain/web"]
    with session(*again.resources) as opened:
        assert [str(policy.resource.id) for policy in opened.policies.all] == ["backup/nightly"]


def daemon(*resources: Resource) -> tuple[StatusStore, WorkQueue, Scheduler]:
    """As much of it as runs policies."""
    project = Project(name="shop")
    desired = Desired(project, resources)
    status, queue = StatusStore(State(ready=True)), WorkQueue()
    source = Source(lambda: project, lambda: desired, uri=lambda project: URI)
    reconciler = Reconciler(source, status, queue, threading.Event())
    reconciler.project = project
    reconciler.use(desired, changed=False)
    return status, queue, Scheduler(status, queue, reconciler)


def test_the_daemon_tells_who_wants_to_hear_of_failures() -> None:
    status, _, scheduler = daemon(machine("web"), backup("nightly"))
    heard: list[Notice | None] = []
    status.subscribe(lambda event: heard.append(notice(event, "shop", URI)))
    scheduler.run_due(NOW)
    (told,) = heard
    assert told
    assert (told.topic, told.reason, told.about, told.hint) == ("failure", "BackupFailed", "domain/web", "make it")


def test_the_daemon_runs_it_when_it_is_due_tells_of_it_and_counts() -> None:
    converge(machine("web"))
    status, queue, scheduler = daemon(machine("web"), backup("nightly"))
    for minutes, count in ((0, 1), (59, 1), (61, 2), (90, 2)):
        # the clock did not jump: nobody looked meanwhile
        scheduler._last = NOW + timedelta(minutes=minutes)
        scheduler.run_due(NOW + timedelta(minutes=minutes))
        assert len(Backup.log) == count, minutes
    assert [(e.reason, e.message, e.resource) for e in status.events()] == [
        ("BackupMade", "web-12", "domain/web"),
        ("BackupMade", "web-13", "domain/web"),
    ]
    assert 'kvmstate_backup_age_seconds{policy="nightly"}' in Metrics(status, queue).text().decode()
