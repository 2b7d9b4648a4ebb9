"""A run that is killed at any moment leaks nothing and breaks nothing: the next one goes on from there."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path

import libvirt
import pytest
from harness import MAIN, Project, pool, resource, until

pytestmark = pytest.mark.real

IMAGE = os.urandom(8 << 20)
RUNS = int(os.environ.get("KVMSTATE_TEST_KILLS", "12"))


def documents(image: Path, number: int) -> list[dict]:
    """Eight objects; every run changes some, adds some and drops some."""
    base = resource("Volume", f"base-{number}", {"deletion": "delete"}, pool="images", format="raw",
                    content={"file": str(image)})  # fmt: skip
    layer = resource("Volume", f"root-{number}", {"deletion": "delete"}, pool="images",
                     backing=f"images/base-{number}")  # fmt: skip
    machines = [
        resource(
            "VirtualMachine",
            name,
            {"stop": {"timeout": "1s", "onTimeout": "destroy"}},
            state=state,
            memory="32MiB",
            description=f"run {number}",
            disks=[{"name": "root", "volume": f"images/root-{number}"}] if state == "stopped" else [],
            interfaces=[{"network": "lan"}],
        )
        for name, state in (("web", "running"), (f"db-{number}", "stopped"))
    ]
    networks = [
        resource("Network", "lan", ips=[{"address": "192.168.90.1/24"}]),
        resource("Network", f"net-{number}", active=False),
    ]
    return [pool(), base, layer, *machines, *networks, resource("Network", "still")]


def test_an_apply_killed_at_any_moment(project: Project, tmp_path: Path, connection: libvirt.virConnect) -> None:
    image = tmp_path / "base.img"
    image.write_bytes(IMAGE)
    options = ("--prune", "--max-deletes", "20", "--max-delete-share", "100%")
    moments = random.Random(os.environ.get("KVMSTATE_TEST_SEED", "kill"))
    cut_off = 0
    for number in range(RUNS):
        project.write(*documents(image, number))
        applying = project.start_apply(*options)
        cut_off += killed(applying, project.host.directory / "etc" / "secrets", moments.uniform(0, 0.35))
        project.converge(options=options)
        assert project.path(f"images/base-{number}").read_bytes() == IMAGE
        assert on_host(connection) == {
            "network/lan", "network/still", f"network/net-{number}", "pool/images", "domain/web", f"domain/db-{number}",
            f"volume/base-{number}", f"volume/root-{number}",
        }  # fmt: skip
    assert cut_off >= RUNS // 4


def test_an_adoption_that_is_killed_leads_to_no_upload(project: Project, connection: libvirt.virConnect) -> None:
    (project.folder / "image").write_bytes(IMAGE)
    data = resource("Volume", "data", pool="images", format="raw", content={"file": "image"})
    project.converge(pool())
    project.path("images/data").write_bytes(b"theirs".ljust(len(IMAGE), b"\0"))
    connection.storagePoolLookupByName("images").refresh()
    project.write(pool(), data)
    kill = "import os; from kvmstate.apply import executor; executor._carry_out = lambda *_: os._exit(9)"
    killed = [sys.executable, "-c", f"{kill}\n{MAIN}", "adopt", "--auto-approve"]
    assert subprocess.run(killed, cwd=project.folder, check=False).returncode == 9
    project.converge()
    assert project.path("images/data").read_bytes().startswith(b"theirs")


def test_what_a_killed_import_leaves_is_nobodys_and_goes(
    project: Project, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    connection.defineXML("<domain type='qemu'><name>web</name><memory>65536</memory><os><type>hvm</type></os></domain>")

    def left() -> list[str]:
        return [domain.name() for domain in connection.listAllDomains() if domain.name() != "web"]

    def run(before: str, *words: str) -> subprocess.CompletedProcess[str]:
        said = [sys.executable, "-c", f"{before}\n{MAIN}", *words, "-c", project.uri]
        return subprocess.run(said, cwd=tmp_path, check=False, text=True, capture_output=True)

    kill = "import os, libvirt; libvirt.virDomain.undefineFlags = lambda *_: os._exit(9)"
    assert run(kill, "import", "--all", "--output", "taken").returncode == 9
    assert len(left()) == 1
    # at first it may be one that another import is about to undefine
    young, old = "pass", "from kvmstate.host import domains; domains._TRIAL_LASTS = -1.0"
    assert left()[0] not in run(young, "doctor").stdout
    assert f"domain {left()[0]} is left from an import" in run(old, "doctor").stdout
    first = run(young, "import", "--all", "--output", "first", "--no-adopt")
    assert "1 imported" in first.stdout, first
    assert len(left()) == 1
    again = run(old, "import", "--all", "--output", "again")
    assert again.returncode == 0, again
    assert {path.name for path in (tmp_path / "again").rglob("*.yaml")} == {"web.yaml", "kvmstate.yaml"}
    assert left() == []


def on_host(connection: libvirt.virConnect) -> set[str]:
    connection.storagePoolLookupByName("images").refresh()
    found = {
        "network": connection.listAllNetworks(),
        "pool": connection.listAllStoragePools(),
        "domain": connection.listAllDomains(),
        "volume": connection.storagePoolLookupByName("images").listAllVolumes(),
    }
    return {f"{kind}/{item.name()}" for kind, items in found.items() for item in items}


def killed(process: subprocess.Popen[bytes], record: Path, seconds: float) -> bool:
    """Whether the process was killed so long after it began to write its record, before its end."""
    before = written(record)
    until(lambda: process.poll() is not None or written(record) != before, "the apply has begun")
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def written(folder: Path) -> dict[Path, int]:
    """When each file was written; those that go meanwhile count as gone."""
    found = {}
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found
