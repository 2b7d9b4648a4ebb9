"""What systemd hears of `kvmstate run`, on a real datagram socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from harness import MAIN, ROOT

from kvmstate.errors import ConnectionFailed
from kvmstate.manifest import Project
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.desired import Desired, Source
from kvmstate.reconcile.loop import Loop
from kvmstate.reconcile.reconciler import HUNG
from kvmstate.reconcile.status_store import ConditionType, ResourceStatus, State, StatusStore, Sync
from kvmstate.reconcile.systemd import Notify, Supervised, status
from kvmstate.sources.revision import Revision

NETWORK = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: lan}\nspec: {}\n"


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.heard: list[dict[str, str]] = []

    def hear(self, seconds: float = 20) -> dict[str, str]:
        """The next message. Raises TimeoutError."""
        self._socket.settimeout(seconds)
        message = self._socket.recv(65536).decode()
        self.heard.append(dict(line.split("=", 1) for line in message.split("\n")))
        return self.heard[-1]

    def until(self, wanted: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        end = time.monotonic() + 30
        while not wanted(heard := self.hear()):
            assert time.monotonic() < end, self.heard
        return heard

    def said(self, name: str) -> list[str]:
        return [message[name] for message in self.heard if name in message]


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    return Manager(str(tmp_path / "notify"))


@pytest.fixture
def daemon(manager: Manager, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """On a host that is not there until `host.xml` is."""
    (tmp_path / "kvmstate.yaml").write_text("project: lab\n")
    (tmp_path / "lan.yaml").write_text(NETWORK)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "200000",
    }
    # which the project's file may not say: it would be a file of its choice
    command = [sys.executable, "-c", MAIN, "run", str(tmp_path), "-c", f"test://{tmp_path}/host.xml"]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_is_ready_after_the_first_pass_reloads_and_stops(
    manager: Manager, daemon: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    manager.until(lambda message: "HostUnreachable" in message.get("STATUS", ""))
    # starting takes as long as it takes
    assert int(manager.until(lambda message: "WATCHDOG" in message)["EXTEND_TIMEOUT_USEC"]) > 100_000
    assert not manager.said("READY")
    (tmp_path / "host.xml").write_text("<node/>")
    manager.until(lambda message: message.get("READY") == "1")
    assert manager.said("STATUS")[-1] == "1 in sync"
    assert "EXTEND_TIMEOUT_USEC" not in manager.until(lambda message: "WATCHDOG" in message)

    before = time.monotonic_ns() // 1000
    daemon.send_signal(signal.SIGHUP)
    assert before <= int(manager.until(lambda message: message.get("RELOADING") == "1")["MONOTONIC_USEC"])
    manager.until(lambda message: message.get("READY") == "1")

    daemon.send_signal(signal.SIGTERM)
    manager.until(lambda message: message.get("STOPPING") == "1")
    assert daemon.wait(20) == 0


def given(fetch: Callable[[], tuple[Revision, str]] | None = None) -> Source:
    project = Project()
    return Source(lambda: project, lambda: Desired(project, ()), fetch=fetch)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")


@pytest.mark.usefixtures("brief")
def test_a_loop_that_hangs_is_no_sign_of_life(manager: Manager) -> None:
    status = StatusStore(State())
    loop = Loop(given(), status)
    loop._reconciler._beat -= HUNG
    Supervised(loop, status, Notify(manager.address)).start()
    with pytest.raises(TimeoutError):
        manager.hear(0.2)
    loop._reconciler._beat += HUNG
    assert manager.hear()["WATCHDOG"] == "1"


@pytest.mark.usefixtures("brief")
def test_what_takes_long_is_no_reason_to_be_killed(manager: Manager) -> None:
    status = StatusStore(State())
    loop = Loop(given(), status)
    with loop._reconciler.taking_time():
        loop._reconciler._beat -= HUNG
        Supervised(loop, status, Notify(manager.address)).start()
        assert manager.hear()["WATCHDOG"] == "1"


def test_the_socket_may_have_an_abstract_name(tmp_path: Path) -> None:
    manager = Manager(f"@kvmstate-{os.getpid()}{tmp_path}")
    Notify(manager.address)(READY=1, STATUS="a=b")
    assert manager.hear() == {"READY": "1", "STATUS": "a=b"}


def test_without_a_service_manager_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    Notify("")(READY=1)
    Notify(str(tmp_path / "nobody"))(READY=1)


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (State(), "the first pass is under way"),
        (State(standby="a@b"), "standing by: a@b keeps this project"),
        (State(ready=True), "nothing is declared"),
        (
            State(
                ready=True,
                resources={
                    (a := ResourceId("domain", "a")): ResourceStatus(a, Sync.IN_SYNC),
                    (b := ResourceId("domain", "b")): ResourceStatus(b, Sync.PENDING, "for a window"),
                    (c := ResourceId("domain", "c")): ResourceStatus(c, Sync.FAILED, "no\nsuch file"),
                },
            ),
            "1 in sync, 1 pending, 1 failed; domain/c: no\\nsuch file",
        ),
        (
            State(ready=True, conditions={ConditionType.HOST: (datetime.now(UTC), ConnectionFailed("gone"))}),
            "HostUnreachable: gone",
        ),
    ],
)
def test_the_line_of_status_says_the_worst(state: State, line: str) -> None:
    assert status(state) == line
