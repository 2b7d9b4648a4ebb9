"""Who reads what an apply says may go at any time: all is done, and the exit code says so."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Any

import libvirt
import pytest
from harness import MAIN, ROOT, Project, idle, pool, resource

from kvmstate.apply import Event
from kvmstate.cli import run
from kvmstate.views.apply import Lines

pytestmark = pytest.mark.real

NETWORKS = [resource("Network", f"lan{number}", active=False) for number in range(12)]


def sh(project: Project, command: str) -> subprocess.CompletedProcess[str]:
    """The exit code is that of kvmstate, the first of a pipe."""
    kvmstate = f"{shlex.quote(sys.executable)} -c {shlex.quote(MAIN)}"
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; kvmstate() {{ {kvmstate} "$@"; }}; {command}'],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize(
    "rest",
    [
        "--json | head -3",
        "--json | true",
        "2>&1 | head -1",
        ">&- 2>&-",
        ">/dev/full 2>/dev/full",
        "--json >/dev/full",
        "2>/dev/full",
    ],
)
def test_all_is_done_whoever_listens(project: Project, connection: libvirt.virConnect, rest: str) -> None:
    project.converge(idle("web"))
    began = connection.lookupByName("web").ID()
    project.write(pool(), *NETWORKS, idle("web", {"restart": "now"}, cpus=2))
    applied = sh(project, f"kvmstate apply --auto-approve --parallelism 2 {rest}")
    assert applied.returncode == 0, applied.stderr
    assert "Traceback" not in applied.stderr
    assert project.plan().code == 0
    # what was shut down to be changed runs again
    web = connection.lookupByName("web")
    assert (bool(web.isActive()), web.ID() != began) == (True, True)
    destroyed = sh(project, f"kvmstate destroy --auto-approve {rest.replace('--json', '')}")
    assert destroyed.returncode == 0
    assert connection.listAllDomains() == connection.listAllNetworks() == []


def test_what_fails_is_told_by_the_exit_code_when_nobody_listens(project: Project) -> None:
    project.write(pool(), resource("VirtualMachine", "web", memory="32MiB", xml={"./nonsense": "x"}))
    for rest in ("2>&1 | head -0", ">&- 2>&-", "--json | head -0"):
        assert sh(project, f"kvmstate apply --auto-approve {rest}").returncode == 1
    assert sh(project, "kvmstate plan --detailed-exitcode | head -0").returncode == 2


def test_a_folder_that_is_deleted_meanwhile_holds_nothing_up(project: Project) -> None:
    project.write(pool(), *NETWORKS)
    applied = sh(
        project,
        f"mkdir here; cd here; (sleep 0.2; rmdir {project.folder}/here) & "
        f"kvmstate apply --auto-approve {project.folder} && kvmstate plan --detailed-exitcode {project.folder}",
    )
    assert applied.returncode == 0, applied.stderr


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "full"), UnicodeEncodeError("ascii", "x", 0, 1, "no")]
)
def test_a_view_that_raises_stops_no_work(
    project: Project, connection: libvirt.virConnect, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(self: Any, event: Event) -> None:
        raise error

    monkeypatch.setattr(Lines, "__call__", fails)
    project.write(pool(), *NETWORKS)
    # a bug of the view is told, when all is done
    assert run(["apply", str(project.folder), "--auto-approve"]) == (0 if isinstance(error, OSError) else 1)
    assert len(connection.listAllNetworks()) == len(NETWORKS)
    monkeypatch.undo()
    assert project.plan().code == 0
