"""What a running daemon tells, seen from outside."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest
from conftest import Daemon
from harness import Project, await_old, idle, pool
from test_web import ask, metrics

from kvmstate.reconcile.web.address import Address

pytestmark = pytest.mark.real


def at(daemon: Daemon) -> Address:
    return Address(Path(daemon.env["XDG_RUNTIME_DIR"]) / "kvmstate" / "shop.sock")


@pytest.fixture
def still(project: Project) -> Iterator[Callable[[], None]]:
    """Lets the host's libvirtd answer nothing, until the test is over."""
    stopped = []

    def stop() -> None:
        stopped.append(await_old(project.host))
        os.kill(stopped[0], signal.SIGSTOP)

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def test_it_tells_of_a_silent_host_what_it_saw_last_and_asks_it_nothing(
    project: Project, run: Callable[..., Daemon], still: Callable[[], None]
) -> None:
    project.converge(pool())
    socket = at(run())
    still()
    found = metrics(socket)
    capacity = found["kvmstate_pool_capacity_bytes", frozenset({("pool", "images")})]
    assert capacity >= found["kvmstate_pool_available_bytes", frozenset({("pool", "images")})] > 0
    assert found["kvmstate_resources", frozenset({("kind", "pool"), ("sync", "InSync")})] == 1
    for path in ("/healthz", "/readyz", "/status", "/events"):
        assert ask(socket, path)[0] == 200


def test_what_nobody_told_of_is_seen_when_it_is_asked_to_look(
    project: Project, run: Callable[..., Daemon], connection: libvirt.virConnect
) -> None:
    project.converge(idle("web", state="stopped", autostart=False))
    daemon = run()
    # no event comes for it
    connection.lookupByName("web").setAutostart(True)
    assert ask(at(daemon), "/reconcile", "POST")[0] == 202
    daemon.says("DriftCorrected", "domain/web")
    assert daemon.stop() == 0
    assert not at(daemon).path.exists()
