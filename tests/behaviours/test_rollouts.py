"""restart: now over several machines: a few at a time, and not one more when one does not come back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, idle, resource, until

pytestmark = pytest.mark.real

NAMES = [f"web-{number}" for number in range(10)]
FIFTH = NAMES[4]


def machines(logs: Path, cpus: int) -> list[dict[str, Any]]:
    """Ten that are restarted for this many CPUs; the fifth writes a log, and does not start where it cannot."""
    logged = {"serials": [{"port": 0, "log": str(logs / "console.log")}]}
    return [
        idle(name, {"restart": "now"}, type="qemu", cpus=cpus, **(logged if name == FIFTH else {})) for name in NAMES
    ]


def starts(connection: libvirt.virConnect) -> dict[str, int]:
    """What libvirt numbers each start with, by the machine; -1 for one that is off."""
    return {name: connection.lookupByName(name).ID() for name in NAMES}


@contextmanager
def fewest(uri: str) -> Iterator[list[int]]:
    """How few of them ran at any moment."""
    found, ended = [len(NAMES)], threading.Event()

    def watch() -> None:
        with closing(libvirt.open(uri)) as watching:
            while not ended.wait(0.02):
                running = watching.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
                found[0] = min(found[0], sum(domain.name() in NAMES for domain in running))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


@contextmanager
def stops_by_itself(connection: libvirt.virConnect, name: str) -> Iterator[None]:
    """A machine whose guest ends soon after its next start."""
    before = connection.lookupByName(name).ID()

    def runs_again() -> bool:
        domain = connection.lookupByName(name)
        return domain.ID() != before and domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING

    def end() -> None:
        until(runs_again, f"{name} is started again")
        connection.lookupByName(name).destroy()

    thread = threading.Thread(target=end)
    thread.start()
    yield
    thread.join()


def test_a_rollout_stops_where_a_machine_does_not_come_back(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    file = project.folder / "kvmstate.yaml"
    plain = file.read_text()
    file.write_text(plain + "rollout: {maxUnavailable: 2}\n")
    # another machine of the project's, which does its work while something listens
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        check = {"healthCheck": {"tcpSocket": {"port": port, "host": "127.0.0.1"}}}
        policy = {"selector": {"names": ["db"]}, "every": "1d", "retention": {"keepLast": 1}, "beforeChange": check}
        others = [
            resource("SnapshotPolicy", "careful", **policy),
            idle("db", type="qemu"),
        ]
        project.converge(*others, *machines(logs, cpus=1))
        first = starts(connection)

        project.write(*others, *machines(logs, cpus=2))
        logs.rename(tmp_path / "gone")
        assert "10 machines are restarted: the first alone, then at most 2 at a time" in project.plan().out
        with fewest(project.uri) as ran:
            stopped = project.apply()
        assert stopped.code == 1, stopped
        assert f"error: domain/{FIFTH}: " in stopped.out, stopped
        for name in NAMES[5:]:
            assert f"skipped: domain/{name}: no other machine is restarted: domain/{FIFTH} failed" in stopped.out
        second = starts(connection)
        assert second[FIFTH] == -1
        assert all(second[name] > first[name] for name in NAMES[:4])
        assert {name: second[name] for name in NAMES[5:]} == {name: first[name] for name in NAMES[5:]}
        assert ran[0] >= len(NAMES) - 2
        for name in NAMES[5:]:
            assert connection.lookupByName(name).vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG) == 1

        # as long as it is off, no other one is taken down
        assert project.apply().code == 1
        assert starts(connection) == second

        # it is mended; the next apply goes on, and stops where a guest ends right after its start
        (tmp_path / "gone").rename(logs)
        file.write_text(plain + "rollout: {maxUnavailable: 20%, minReady: 1s}\n")
        with stops_by_itself(connection, NAMES[5]):
            stopped = project.apply()
        assert f"error: domain/{NAMES[5]}: it was started, and has stopped by itself" in stopped.out, stopped
        third = starts(connection)
        assert third[FIFTH] > second[FIFTH]
        assert {name: third[name] for name in NAMES[6:]} == {name: first[name] for name in NAMES[6:]}
        connection.lookupByName(NAMES[5]).create()

    # what is not healthy counts, too
    file.write_text(plain + "rollout: {maxUnavailable: 1}\n")
    stopped = project.apply()
    told = f"rollout.maxUnavailable is 1, and domain/db is not healthy: 127.0.0.1:{port} takes no connection"
    assert f"skipped: domain/{NAMES[6]}: {told}" in stopped.out, stopped
    assert {**starts(connection), NAMES[5]: -1} == third
    file.write_text(plain + "rollout: {maxUnavailable: 100%}\n")
    project.converge()
    assert all(starts(connection)[name] > first[name] for name in NAMES)
