"""A change that fails, or the health check after it, is taken back where a policy says so, and nothing is lost."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest
from harness import Guest, Project, Run, idle, kvmstate, resource, until

from kvmstate.app import Session

pytestmark = pytest.mark.real

NOTHING = {"path": "/nothing/there"}


def policy(**before: Any) -> dict[str, Any]:
    return resource(
        "SnapshotPolicy",
        "safe",
        selector={"names": ["*"]},
        schedule="@yearly",
        retention={"keepLast": 9},
        beforeChange={"revert": "onFailure", **before},
    )


@pytest.fixture
def documents(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """A machine with a disk in a pool that has the same path inside of the host and outside."""

    def made(before: dict[str, Any] | None = None, restart: str = "whenOff", **spec: Any) -> list[dict[str, Any]]:
        disk = {"name": "root", "volume": "images/web.qcow2"}
        return [
            resource("StoragePool", "images", type="dir", target={"path": str(tmp_path / "images")}),
            resource("Volume", "web.qcow2", pool="images", format="qcow2", capacity="8MiB"),
            idle("web", {"restart": restart}, disks=[disk], **spec),
            policy(**before or {}),
        ]

    return made


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def tcp(port: int, timeout: str = "1s") -> dict[str, Any]:
    return {"healthCheck": {"tcpSocket": {"host": "127.0.0.1", "port": port}, "timeout": timeout}}


def xml(connection: libvirt.virConnect, live: bool = False) -> str:
    return connection.lookupByName("web").XMLDesc(0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE)


def write(connection: libvirt.virConnect, pattern: int) -> None:
    """64 KiB of this byte onto the running machine's disk."""
    domain, hmp = connection.lookupByName("web"), libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
    alias = re.search(r"<disk .*?<alias name='([^']*)'", domain.XMLDesc(), re.DOTALL)
    assert alias
    for command in (f"write -P {pattern} 1M 64k", "flush"):
        disk = f"/machine/peripheral/{alias[1]}/virtio-backend"
        assert libvirt_qemu.qemuMonitorCommand(domain, f'qemu-io -d {disk} "{command}"', hmp) == ""


def reads(path: str, pattern: int) -> bool:
    command = ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", f"read -P {pattern} 1M 64k", path]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    return "Pattern verification failed" not in said.stdout + said.stderr


def image(connection: libvirt.virConnect) -> str:
    """The file that the disk is written to."""
    found = re.search(r"file='([^']*/web[^']*)'", xml(connection))
    assert found
    return found[1]


def snapshots(connection: libvirt.virConnect) -> list[str]:
    return [found.getName() for found in connection.lookupByName("web").listAllSnapshots()]


def failed(project: Project, *said: str) -> Run:
    """What an apply says that fails; the next plan has the same change, and what is there is what was applied last."""
    applied = project.apply()
    assert applied.code == 1
    for words in said:
        assert words in applied.out, applied
    planned = project.plan()
    assert planned.code == 2, planned
    assert "~ domain/web" in planned.out
    assert project.kvmstate("drift").code == 0
    return applied


def test_a_machine_that_does_not_start_after_a_change_is_off_as_before(
    project: Project, connection: libvirt.virConnect, documents: Any
) -> None:
    project.converge(*documents(state="stopped"))
    before = xml(connection)
    project.write(*documents(state="running", kernel=NOTHING, title="second", autostart=True))
    assert "takes a snapshot of domain/web before it is changed, and brings it back when that" in project.plan().out
    applied = failed(project, "/nothing/there", "domain/web was reverted to snapshot safe-", "its configuration")
    assert "kept as snapshot" not in applied.out, "it has written nothing"
    (taken,) = snapshots(connection)
    assert image(connection).endswith(f".{taken}~2.overlay")
    assert xml(connection) == before.replace("/web.qcow2", f"/{Path(image(connection)).name}")
    domain = connection.lookupByName("web")
    assert (domain.isActive(), domain.autostart()) == (0, 0)
    # fixed, it goes through
    project.converge(*documents(state="running", title="second"))


def test_a_machine_that_does_not_start_again_runs_as_before(
    project: Project, connection: libvirt.virConnect, documents: Any
) -> None:
    project.converge(*documents(restart="now"))
    write(connection, 7)
    project.write(*documents(restart="now", kernel=NOTHING, memory="64MiB"))
    failed(project, "domain/web was reverted to snapshot")
    assert connection.lookupByName("web").isActive()
    assert "<kernel>" not in xml(connection, live=True)
    assert len(snapshots(connection)) == 1
    write(connection, 8)
    connection.lookupByName("web").destroy()
    assert reads(image(connection), 8)


def test_what_an_unhealthy_machine_has_written_is_kept(
    project: Project, connection: libvirt.virConnect, documents: Any
) -> None:
    with listening() as server:
        port = server.getsockname()[1]
        project.converge(*documents(tcp(port), restart="now"))
        assert snapshots(connection) == []
        write(connection, 7)
        project.converge(*documents(tcp(port), restart="now", title="healthy"))
        assert len(snapshots(connection)) == 1

        def guest() -> None:
            """Breaks once the change has begun, and goes on writing after its restart."""
            until(lambda: len(snapshots(connection)) == 2, "the snapshot before the change")
            server.close()
            domain = connection.lookupByName("web")
            wanted = (libvirt.VIR_DOMAIN_RUNNING, 65536)
            until(lambda: tuple(domain.info()[:2]) == wanted, "the machine has been started again")
            write(connection, 9)

        thread = threading.Thread(target=guest)
        thread.start()
        project.write(*documents(tcp(port, "3s"), restart="now", title="healthy", memory="64MiB"))
        applied = failed(project, "the health check failed: 127.0.0.1:", "kept as snapshot")
        thread.join()
    kept = re.search(r"kept as snapshot (\S+-failed)", applied.out)
    assert kept
    assert f"`kvmstate snapshot delete web {kept[1]}`" in applied.out
    assert "65536" not in xml(connection) + xml(connection, live=True)
    assert len(snapshots(connection)) == 3
    connection.lookupByName("web").destroy()
    assert reads(image(connection), 7)
    reverted = kvmstate("snapshot", "revert", "web", kept[1], "--auto-approve", "-c", project.uri)
    assert reverted.code == 0, reverted
    assert reads(image(connection), 9)


def test_a_machine_that_was_unhealthy_before_is_not_taken_back(
    project: Project, connection: libvirt.virConnect, documents: Any
) -> None:
    with listening() as server:
        port = server.getsockname()[1]
    project.converge(*documents(tcp(port), restart="now"))
    project.write(*documents(tcp(port), restart="now", title="second"))
    applied = project.apply()
    assert applied.code == 1
    assert "was not reverted: it was not healthy before the change either" in applied.out
    assert "<title>second</title>" in xml(connection, live=True)
    assert project.plan().code == 0


@pytest.mark.parametrize("restart", ["whenOff", "now"])
def test_a_change_that_fails_while_it_runs_is_taken_back_only_where_it_may_restart(
    project: Project, connection: libvirt.virConnect, documents: Any, restart: str
) -> None:
    off = resource("Network", "off", active=False)
    project.converge(*documents(restart=restart), off)
    started = connection.lookupByName("web").ID()
    project.write(*documents(restart=restart, interfaces=[{"network": "off"}]), off)
    if restart == "now":
        failed(project, "'off' is not active", "domain/web was reverted to snapshot")
        assert "<interface" not in xml(connection)
        assert connection.lookupByName("web").ID() not in (-1, started)
        return
    applied = project.apply()
    assert "domain/web was not reverted: it runs, and lifecycle.restart does not say" in applied.out
    assert "kvmstate snapshot revert web safe-" in applied.out
    assert connection.lookupByName("web").ID() == started
    assert project.plan().code == 2


def test_a_machine_that_somebody_started_after_the_plan_is_not_powered_off(
    project: Project, connection: libvirt.virConnect, documents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.converge(*documents(state="stopped"))
    with listening() as closed:
        port = closed.getsockname()[1]
    project.write(*documents(tcp(port), state="running", title="second"))
    carry_out = Session.apply

    def started(*args: Any, **given: Any) -> Any:
        connection.lookupByName("web").create()
        write(connection, 7)
        return carry_out(*args, **given)

    monkeypatch.setattr(Session, "apply", started)
    applied = project.apply()
    assert applied.code == 1
    assert "domain/web was not reverted: it was not healthy before the change either" in applied.out
    assert connection.lookupByName("web").isActive()


def test_the_guest_agent_is_asked(
    project: Project, connection: libvirt.virConnect, documents: Any, tiny: Guest
) -> None:
    without = {**tiny.kernel, "cmdline": "console=ttyS0 quiet"}
    with_agent = {**without, "initrd": f"{tiny.kernel['initrd']}-agent"}
    serial = {"port": 0, "log": str(tiny.log)}
    booted: dict[str, Any] = {"memory": "128MiB", "guestAgent": True, "serials": [serial], "title": "second"}

    def agent(timeout: str) -> dict[str, Any]:
        return {"healthCheck": {"guestAgent": True, "timeout": timeout}}

    project.converge(*documents(state="stopped", **{**booted, "title": "first"}, kernel=with_agent))
    # started with a change: the agent takes its time to come up
    project.converge(*documents(agent("60s"), state="running", **booted, kernel=with_agent))
    (taken,) = snapshots(connection)
    project.write(*documents(agent("2s"), "now", **booted, kernel=without))
    failed(project, "the health check failed: its guest agent does not answer (waited 2 s)", "domain/web was reverted")
    assert "/initrd-agent<" in xml(connection, live=True)
    assert taken in snapshots(connection)
