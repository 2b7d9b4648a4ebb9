"""What every kind must have, wherever it is told: a kind that is missing in a table fails here, not at its users'."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from in_memory import AnyPermit, MemoryHost, NotThere
from pydantic import ValidationError
from scene import PROJECT, host, id_, inventory, resource, seen

from kvmstate.cli import import_
from kvmstate.cli.explain import describe, find
from kvmstate.errors import NotFound, UsageError
from kvmstate.host import events
from kvmstate.host.events import Heard
from kvmstate.host.faults import translate
from kvmstate.kind import Context, Kind, Spec
from kvmstate.kind.policy import Policy
from kvmstate.kinds import ALL_KINDS, BY_NAME, BY_WORD, ON_HOST, POLICIES
from kvmstate.manifest import folder
from kvmstate.manifest.project import Moved
from kvmstate.manifest.schema import manifest_schema
from kvmstate.model.change import Action, Change, FieldChange, Key
from kvmstate.model.effect import Effect
from kvmstate.model.plan import Plan
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId
from kvmstate.plan import Options, make_plan, moves
from kvmstate.reconcile.metrics import Metrics
from kvmstate.reconcile.status_store import ResourceStatus, State, StatusStore, Sync
from kvmstate.reconcile.triggers import GATHER, EventRouter
from kvmstate.reconcile.workqueue import WorkQueue
from kvmstate.views import graph, status
from kvmstate.xmlbind import Section, bindings, without

# What libvirt has calls of their own for: on running objects and on stopped ones alike
CALLS = {"state", "active", "autostart"}
# Of these libvirt tells nothing; who hears of what they are in looks at them too
UNHEARD = {"volume": "pool"}
# and of these nobody hears: the daemon's regular look finds what has changed
UNTOLD = {"nwfilter", "interface"}
# of which there is nothing to start: each is there, or is not
STATELESS = {"volume", "nwfilter", "secret"}
# The parameters of a kind's functions, see kvmstate.kinds
OPS = {
    "observe": ["host", "names"],
    "names": ["host"],
    "portable": ["observed", "host"],
    "complete": ["resource", "observed", "project"],
    "steps": ["change", "at"],
    "adopted": ["change", "at"],
}

every_kind = pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
every_kind_on_hosts = pytest.mark.parametrize("kind", ON_HOST, ids=lambda kind: kind.name)


def address(kind: Kind, name: str = "one") -> str:
    """With the pool that it is in, for what is in one."""
    return f"{kind.word}/images/{name}" if kind.word == "volume" else f"{kind.word}/{name}"


def example(kind: Kind, name: str = "one") -> Resource:
    if kind.on_host:
        return resource(address(kind, name))
    if kind.inherited_by:
        spec = kind.adapter.validate_python({"pool": "images", "source": {"volume": "images/base"}})
        return Resource(ResourceId(kind.word, name), spec, Metadata(name=name))
    spec = kind.adapter.validate_python({"selector": {"names": ["*"]}, "every": "1d", "retention": {"keepLast": 1}})
    return Resource(ResourceId(kind.word, name), spec, Metadata(name=name))


def host_with(kind: Kind, name: str = "one", runs: bool = False) -> MemoryHost:
    there = address(kind, name)
    return host(*dict.fromkeys(("pool/images", there + ("!" if runs and kind.word == "domain" else ""))),
                off=() if runs else (there,))  # fmt: skip


def declared(section: type[Section], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field below, as its path with a key for each list, and its cost."""
    for b in bindings(section):
        here = (*at, b.alias)
        yield ((*here, Key("one")) if b.repeated else here), b.effect
        for inner in b.sections:
            yield from declared(inner, (*here, Key("one")) if b.repeated else here)


def live_fields(kind: Kind) -> list[tuple[str, ...]]:
    found = {
        path: {effect} if isinstance(effect, Effect) else {*vars(effect).values()}
        for section in kind.specs
        if issubclass(section, Section)
        for path, effect in declared(section)
    }
    return [path for path, effects in found.items() if Effect.LIVE in effects and path[0] not in CALLS]


LIVE = [pytest.param(kind, path, id=f"{kind.name}.{'.'.join(path)}") for kind in ON_HOST for path in live_fields(kind)]


@every_kind
def test_it_has_its_names(kind: Kind) -> None:
    assert BY_NAME[kind.name] is BY_WORD[kind.word] is kind
    assert re.fullmatch("[A-Z][A-Za-z]+", kind.name)
    assert re.fullmatch("[a-z]+", kind.word)
    assert kind.title.endswith(".")
    assert all(kind.on_host is issubclass(spec, Spec) for spec in kind.specs)


@every_kind_on_hosts
def test_it_works_on_hosts(kind: Kind) -> None:
    for name, parameters in OPS.items():
        assert [*inspect.signature(getattr(kind.ops, name)).parameters] == parameters, name


@pytest.mark.parametrize("kind", POLICIES, ids=lambda kind: kind.name)
def test_a_policy_keeps_to_its_contract(kind: Kind) -> None:
    assert not kind.on_host
    for name in ("selects", "next_due", "run", "before", "notes", "metrics", "leftovers"):
        parameters = [*inspect.signature(getattr(Policy, name)).parameters]
        assert [*inspect.signature(getattr(kind.policy, name)).parameters] == parameters, name
    policy = kind.policy(example(kind))
    assert policy.resource == example(kind)
    assert policy.selects(resource("domain/web"))


@every_kind_on_hosts
def test_it_is_observed_and_named_on_a_host(kind: Kind) -> None:
    on, id = host_with(kind, runs=True), id_(address(kind))
    assert id.name in kind.ops.names(on)
    observed = kind.ops.observe(on, {id.name, "images/nothing"})
    assert [*observed] == [id.name]
    assert observed[id.name].id == id
    assert isinstance(observed[id.name].config, kind.specs)
    without(observed[id.name].xml, kind.says.volatile)


@every_kind_on_hosts
def test_it_agrees_with_what_it_was_made_from(kind: Kind) -> None:
    wanted, on = example(kind), host_with(kind, runs=kind.word != "domain")
    pool = [] if kind.word == "pool" else [resource("pool/images")]
    plan = make_plan(on, [wanted, *pool], inventory(wanted, *pool), Options())
    assert [(str(c.id), c.action, c.blocked) for c in plan.changes if not c.agrees] == []


@every_kind_on_hosts
def test_what_is_imported_has_a_place_of_its_own(kind: Kind) -> None:
    path = folder.place(id_(address(kind)))
    assert path.name == "one.yaml"
    assert [k.name for k in ON_HOST if folder.place(id_(address(k))).parts[0] == path.parts[0]] == [kind.name]
    assert import_._address(f"{kind.name}/{id_(address(kind)).name}") == id_(address(kind))
    with pytest.raises(UsageError) as raised:
        import_._address("nothing")
    assert f"{kind.word}/" in raised.value.hint


@every_kind
def test_kvmstate_yaml_may_say_that_it_has_moved(kind: Kind) -> None:
    said = {"from": address(kind, "old"), "to": address(kind, "new")}
    if kind.on_host or kind.inherited_by:
        Moved.model_validate(said)
    else:
        # it has no object that would have to be renamed
        with pytest.raises(ValidationError):
            Moved.model_validate(said)


@every_kind_on_hosts
def test_it_is_renamed_or_says_why_not(kind: Kind) -> None:
    on, old = host_with(kind, "old"), id_(address(kind, "old"))
    wanted = example(kind, "new")
    spec = kind.complete(wanted, None, PROJECT)
    change = Change(wanted.id, Action.NOOP, desired=wanted, spec=spec, observed=seen(on, str(old)))
    judged = moves.judge(change, old)
    if judged.blocked:
        assert judged.hint
    else:
        assert f"rename {old.name}" in steps(judged, on)


def steps(change: Change, on: MemoryHost) -> list[str]:
    found = BY_WORD[change.id.kind].ops.steps(change, Context(on, PROJECT, AnyPermit()))
    return [step.describe for step in found]


@pytest.mark.parametrize(("kind", "path"), LIVE)
def test_what_changes_live_is_changed_in_the_running_object(kind: Kind, path: tuple[str, ...]) -> None:
    on, wanted = host_with(kind, runs=True), example(kind)
    field = FieldChange(path, 1, 2, Effect.LIVE)
    spec = kind.complete(wanted, None, PROJECT)
    if "state" in type(spec).model_fields:
        spec = spec.model_copy(update={"state": "running"})
    running = seen(on, str(wanted.id))
    change = Change(wanted.id, Action.UPDATE, fields=(field,), active_fields=(field,), spec=spec, observed=running)
    assert {*steps(change, on)} - {"define", "set autostart"}, "nothing is done for it: it needs a handler"


@every_kind_on_hosts
@pytest.mark.parametrize("runs", [False, True])
def test_its_state_has_a_word(kind: Kind, runs: bool) -> None:
    on, wanted = host_with(kind, runs=runs or kind.word == "volume"), example(kind)
    change = Change(wanted.id, Action.NOOP, desired=wanted, observed=seen(on, str(wanted.id)))
    [row] = status.rows(Plan(PROJECT, on.uri, (change,)))
    words = {
        "domain": {False: "stopped", True: "running"},
        **dict.fromkeys(STATELESS, dict.fromkeys((False, True), "present")),
    }
    assert row.state == words.get(kind.word, {False: "inactive", True: "active"})[runs]
    assert row.sync == "InSync"


@every_kind
def test_it_is_drawn(kind: Kind) -> None:
    for draw in (graph.dot, graph.mermaid):
        assert f'"{address(kind)}"' in draw([example(kind)])


def test_names_are_no_html_where_they_are_drawn() -> None:
    assert graph.html_quoted('a<b> & "c"') == '"a#lt;b#gt; #amp; #quot;c#quot;"'


@every_kind
def test_it_is_explained_to_the_last_field(kind: Kind) -> None:
    assert "\n".join(describe(find(kind.name))).startswith(f"{kind.name}  <object>")
    for section in kind.specs:
        for b in bindings(section) if issubclass(section, Section) else ():
            assert next(describe(find(f"{kind.name}.{b.alias}"))).startswith(f"{kind.name}.{b.alias}  <")
    assert any(part["if"]["properties"]["kind"]["const"] == kind.name for part in manifest_schema()["allOf"])


@every_kind_on_hosts
def test_its_events_have_it_looked_at(kind: Kind) -> None:
    if kind.word in UNTOLD:
        assert kind.word not in events._WORDS
        return
    told = UNHEARD.get(kind.word, kind.word)
    words, _ = events._WORDS[told]
    id, queue = id_(address(kind)), WorkQueue(clock := Clock())
    router = EventRouter(queue, lambda: {id})
    for word in words:
        router.on_event(Heard(id_("pool/images") if told != kind.word else id, word))
    clock.now = GATHER
    assert id in queue.get(0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@every_kind_on_hosts
def test_one_that_is_gone_is_not_found(kind: Kind) -> None:
    assert isinstance(translate(NotThere(kind.word, "one")), NotFound)


@every_kind_on_hosts
def test_it_is_counted(kind: Kind) -> None:
    status = StatusStore(State(resources={id_(address(kind)): ResourceStatus(id_(address(kind)), Sync.IN_SYNC)}))
    told = Metrics(status, WorkQueue()).text().decode()
    assert f'kvmstate_resources{{kind="{kind.word}",sync="{Sync.IN_SYNC.value}"}} 1.0' in told


@every_kind_on_hosts
def test_what_it_does_when_it_leaves_is_told(kind: Kind) -> None:
    assert kind.deletion(None) == ("orphan" if kind.holds_data else "delete")
    for chosen in ("delete", "orphan"):
        assert kind.deletion(chosen) == chosen
    change = Change(id_(address(kind)), Action.DELETE, observed=seen(host_with(kind), address(kind)),
                    lifecycle=Lifecycle(deletion="delete"))  # fmt: skip
    assert steps(change, host_with(kind))
