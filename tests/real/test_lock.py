"""One writer per project and host: on a real host's secrets, and on the files of drivers that have none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kvmstate.app import Writing, open_session
from kvmstate.apply import Event, EventKind
from kvmstate.apply import lock as locks
from kvmstate.apply.keep import open_keep
from kvmstate.apply.lock import LEASE, Holder, Lock
from kvmstate.errors import ConnectionFailed, Locked
from kvmstate.host import open_host
from kvmstate.kinds import BY_WORD
from kvmstate.model.resource import Metadata, Resource, ResourceId
from kvmstate.plan import Options
from kvmstate.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
HOLD = """
import select, sys
from kvmstate.apply import open_lock
from kvmstate.host import open_host
with open_host(sys.argv[1]) as host, open_lock(host, sys.argv[2]).held("apply"):
    print("held", flush=True)
    # a signal that another thread gets does not end a read
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        pass
"""
TAKE = """
import sys
from kvmstate.apply import open_lock
from kvmstate.errors import ConnectionFailed, Locked
from kvmstate.host import open_host
with open_host(sys.argv[1]) as host:
    for _ in range(20):
        with open_lock(host, sys.argv[2]).held("apply", timeout=60):
            value = int(open(sys.argv[3]).read())
            open(sys.argv[3], "w").write(str(value + 1))
"""


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["files", pytest.param("secrets", marks=pytest.mark.real)])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return "test:///default" if request.param == "files" else str(request.getfixturevalue("host").uri)


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    return f"lock-{request.node.originalname.removeprefix('test_')[:40]}"


@pytest.fixture
def two(uri: str, project: str) -> Iterator[tuple[Lock, Lock, Clock]]:
    """The locks of two runs, and the clock that both go by."""
    clock = Clock()
    with open_host(uri) as one, open_host(uri) as other:
        first, second = (Lock(open_keep(host, project), project, clock, lambda seconds: None) for host in (one, other))
        yield first, second, clock


def test_a_second_run_is_told_who_holds_the_lock_since_and_until_when(two: tuple[Lock, Lock, Clock]) -> None:
    first, second, _ = two
    with first.held("apply"), pytest.raises(Locked) as raised, second.held("destroy"):
        pytest.fail("two hold the lock")
    said = str(raised.value)
    assert f"(pid {os.getpid()}, kvmstate" in said
    assert " apply), since 2001-09-09 " in said
    assert ", until 2001-09-09 " in said
    assert "hint: --lock-timeout" in said
    assert first.holder() is None
    with second.held("destroy"):
        assert "destroy" in str(second.holder())


def test_a_waiting_run_gets_the_lock_when_it_becomes_free(uri: str, project: str) -> None:
    told: list[str] = []
    with open_host(uri) as host:
        first = Lock(open_keep(host, project), project)
        holding, free = threading.Event(), threading.Event()

        def hold() -> None:
            with first.held("apply"):
                holding.set()
                free.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        assert holding.wait(30)
        second = Lock(open_keep(host, project), project, pause=lambda seconds: (free.set(), thread.join()))
        with second.held("apply", timeout=60, told=told.append):
            pass
    assert len(told) == 1
    assert told[0].startswith("waiting for ")


def test_a_lock_that_this_process_could_not_give_back_is_not_waited_for(
    uri: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(token: str) -> None:
        raise ConnectionFailed("the daemon was restarted")

    with open_host(uri) as host:
        first, second = (Lock(open_keep(host, project), project) for _ in range(2))
        with first.held("run"):
            monkeypatch.setattr(first._keep, "release", gone)
        assert second.holder()
        with second.held("run"):
            pass
        assert second.holder() is None


def test_a_lease_that_was_not_renewed_is_taken_over_and_the_sleeper_notices(two: tuple[Lock, Lock, Clock]) -> None:
    first, second, clock = two
    with first.held("apply"):
        first.check()
        clock.now += LEASE
        with second.held("destroy"):
            with pytest.raises(Locked, match=r"was taken over by .* destroy\) while this run held it"):
                first.check()
            second.check()
    assert second.holder() is None


def test_a_sleeper_whose_lock_was_taken_and_given_back_notices_too(two: tuple[Lock, Lock, Clock]) -> None:
    first, second, clock = two
    with first.held("apply"):
        clock.now += LEASE
        with second.held("destroy"):
            pass
        with pytest.raises(Locked, match="was removed while this run held it"):
            first.check()


def test_a_long_run_renews_its_lease(two: tuple[Lock, Lock, Clock], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, clock = two
    monkeypatch.setattr(locks, "RENEW", 0.01)
    with first.held("apply"):
        clock.now += LEASE - 1
        for _ in range(1000):
            _, holder = second.holder() or pytest.fail("it is not held")
            if holder.until == clock.now + LEASE:
                break
            threading.Event().wait(0.01)
        clock.now += LEASE - 1
        with pytest.raises(Locked), second.held("apply"):
            pass
        first.check()


@pytest.mark.parametrize("alive", [False, True])
def test_the_lock_of_another_machine_is_watched_before_it_is_taken_over(uri: str, project: str, alive: bool) -> None:
    """Its clock may be late: what it renews meanwhile is held, whatever its note says of the time."""
    token = str(uuid.uuid4())
    there = Holder("root@elsewhere", "boot/1", 1, 1, "apply", "0.1.0", since=0, until=1)
    watched: list[float] = []
    with open_host(uri) as host:
        keep = open_keep(host, project)
        assert keep.claim(token, json.dumps(asdict(there)))

        def watch(seconds: float) -> None:
            watched.append(seconds)
            if alive:
                keep.claim(token, json.dumps(asdict(replace(there, until=2))))

        lock = Lock(keep, project, pause=watch)
        with pytest.raises(Locked) if alive else nullcontext(), lock.held("apply"):
            pass
        assert watched == [locks.WATCH]
        assert (lock.holder() is not None) == alive
        keep.release(token)


def test_a_note_from_nowhere_does_not_lock_for_ever(uri: str, project: str) -> None:
    with open_host(uri) as host:
        keep = open_keep(host, project)
        assert keep.claim("3a4c8a3e-0c0c-4f0e-9d5b-3f2f6f0a9d11", "no JSON")
        with Lock(keep, project, pause=lambda seconds: None).held("apply"):
            pass


@pytest.mark.real
def test_a_killed_run_on_this_machine_does_not_hold_up_the_next(host: Sandbox, project: str) -> None:
    with _holder(host.uri, project) as process:
        process.kill()
        process.wait()
        told: list[str] = []
        with open_host(host.uri) as found, Lock(open_keep(found, project), project).held("apply", told=told.append):
            pass
    assert "its process is dead" in told[0]


@pytest.mark.real
def test_of_many_that_take_it_at_once_one_has_it(host: Sandbox, project: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    with _holder(host.uri, project) as dead:
        # all of them find the lock of a dead run first
        dead.kill()
        dead.wait()
        runs = [subprocess.Popen([sys.executable, "-c", TAKE, host.uri, project, str(counter)]) for _ in range(4)]
        assert [run.wait(120) for run in runs] == [0] * 4
    assert counter.read_text() == "80"


@pytest.mark.real
def test_a_run_that_lost_its_lock_changes_nothing_more(host: Sandbox, project: str) -> None:
    spec = BY_WORD["network"].adapter.validate_python({"active": False})
    network = Resource(ResourceId("network", "locked-out"), spec, Metadata(name="locked-out"))
    with open_session(host.uri, project, [network], writing=Writing("apply")) as session:
        plan = session.plan(Options())
        lock = session.store.guard.__self__  # type: ignore[attr-defined]
        lock.remove(lock.holder()[0])
        lock._clock = lambda: 5e9
        with pytest.raises(Locked, match="was removed while this run held it"):
            session.apply(plan, Options(), lambda event: None)
        assert [n.name() for n in session.host.connection.listAllNetworks()].count("locked-out") == 0
    with open_session(host.uri, project, [network]) as session:
        assert session.store.inventory.entries == {}


@pytest.mark.real
def test_a_run_that_loses_its_lock_in_the_middle_stops_before_the_next_step(host: Sandbox, project: str) -> None:
    names = [f"cut-{n}" for n in range(3)]
    spec = BY_WORD["network"].adapter.validate_python({"autostart": True})
    networks = [Resource(ResourceId("network", name), spec, Metadata(name=name)) for name in names]
    with open_session(host.uri, project, networks, writing=Writing("apply")) as session:
        lock = session.store.guard.__self__  # type: ignore[attr-defined]

        def lose(event: Event) -> None:
            if event.kind is EventKind.STEP:
                lock.remove(lock.holder()[0])
                lock._clock = lambda: 5e9

        result = session.apply(session.plan(Options()), Options(), lose, parallelism=1)
        assert [type(error) for _, error in result.failed] == [Locked]
        assert [reason for _, reason in result.skipped] == ["no lock", "no lock"]
        made = [n for n in session.host.connection.listAllNetworks() if n.name() in names]
        assert [(n.isActive(), n.autostart()) for n in made] == [(0, 0)], "one is defined, and nothing more was done"
    with open_session(host.uri, project, networks, writing=Writing("apply")) as session:
        assert session.apply(session.plan(Options()), Options(), lambda event: None).ok
    with open_session(host.uri, project, [], writing=Writing("destroy")) as session:
        options = Options(prune=True, allow_empty=True)
        assert session.apply(session.plan(options), options, lambda event: None).ok


@pytest.mark.real
def test_commands_that_write_heed_the_lock_and_plan_does_not(host: Sandbox, project: str, tmp_path: Path) -> None:
    (tmp_path / "kvmstate.yaml").write_text(f"project: {project}\n")
    (tmp_path / "m.yaml").write_text(
        "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: lk}\nspec: {active: false}\n"
    )

    def kvmstate(*args: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-c", "from kvmstate.cli import main; main()", *args, "-c", host.uri]
        return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    with _holder(host.uri, project) as process:
        for command in ("apply", "destroy", "adopt"):
            done = kvmstate(command, "--auto-approve")
            assert done.returncode == 1
            assert f"error: project {project} is locked on this host by" in done.stderr
        assert kvmstate("apply", "--auto-approve", "--lock-timeout", "1s").returncode == 1
        assert "expected a duration" in kvmstate("apply", "--lock-timeout", "soon").stderr
        assert kvmstate("plan", "--detailed-exitcode").returncode == 2
        refused = kvmstate("unlock")
        assert refused.returncode == 1
        assert f"(pid {process.pid}," in refused.stderr
        assert "--force" in refused.stderr
        forced = kvmstate("unlock", "--force")
        assert (forced.returncode, forced.stdout.splitlines()[-1]) == (0, "removed")
        assert kvmstate("apply", "--auto-approve").returncode == 0
    assert kvmstate("unlock").stdout.startswith(f"project {project} is not locked on ")
    assert kvmstate("destroy", "--auto-approve").returncode == 0


@pytest.mark.real
def test_an_interrupted_run_gives_the_lock_back(host: Sandbox, project: str) -> None:
    with _holder(host.uri, project) as process:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    with open_host(host.uri) as found:
        assert Lock(open_keep(found, project), project).holder() is None


def _holder(uri: str, project: str) -> subprocess.Popen[str]:
    """A process that holds the lock, until it is killed or its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, uri, project], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process
