"""`snapshot run` takes what policies say is due and deletes what their retention drops, and touches nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import libvirt
import pytest
from harness import Project, Run, idle, kvmstate, pool, resource

pytestmark = pytest.mark.real


def policy(name: str = "nightly", names: str = "*", **spec: Any) -> dict[str, Any]:
    given = {"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "retention": {"daily": 2}, "mode": "internal"}
    return resource("SnapshotPolicy", name, selector={"names": [names]}, **{**given, **spec})


def disk(name: str, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, pool="images", **{"capacity": "4MiB", **spec})


def machine(name: str, state: str = "stopped", volume: str = "") -> dict[str, Any]:
    return idle(name, state=state, disks=[{"name": "root", "volume": f"images/{volume or name}"}])


def run_at(project: Project, time: str, *options: str) -> Run:
    return project.kvmstate("snapshot run", "--at", time, *options)


def names(connection: libvirt.virConnect, domain: str) -> list[str]:
    return sorted(found.getName() for found in connection.lookupByName(domain).listAllSnapshots())


def test_what_is_due_is_taken_once_and_what_no_rule_keeps_is_deleted(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), disk("web"), machine("web", "running"), policy())
    assert run_at(project, "2026-05-01T12:00").code == 0
    # half past two in Berlin is half past zero here
    assert "0 created" in run_at(project, "2026-05-02T00:29").out
    done = run_at(project, "2026-05-02T00:30")
    assert done.out.splitlines() == [
        "domain/web: snapshotpolicy/nightly",
        "  + nightly-20260502T003000Z   created",
        "snapshotpolicy/nightly: 1 machine, next at 2026-05-03 02:30 CEST",
        "Snapshots: 1 created, 0 deleted, 0 failed.",
    ]
    assert "0 created, 0 deleted" in run_at(project, "2026-05-02T00:31").out
    # the runs of two nights are missed, and made up for once
    assert "1 created, 1 deleted" in run_at(project, "2026-05-05T00:29").out
    assert names(connection, "web") == ["nightly-20260502T003000Z", "nightly-20260505T002900Z"]
    assert project.plan().code == 0


def test_snapshots_of_others_are_never_touched(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), disk("web"), machine("web"), policy(retention={"keepLast": 1}))
    domain = connection.lookupByName("web")
    described = {
        "by-hand": "before the upgrade",
        "of-another-project": "kvmstate: project=other policy=nightly at=2020-01-01T00:00:00Z",
        "of-another-policy": "kvmstate: project=shop policy=hourly at=2020-01-01T00:00:00Z",
        "almost": "kvmstate: project=shop policy=nightly at=2020-01-01T00:00:00Z or so",
    }
    for name, text in described.items():
        domain.snapshotCreateXML(
            f"<domainsnapshot><name>{name}</name><description>{text}</description></domainsnapshot>"
        )
    for day in (1, 2, 3):
        assert run_at(project, f"2026-05-0{day}T12:00").code == 0
    assert names(connection, "web") == sorted([*described, "nightly-20260503T120000Z"])


def test_a_machine_that_fails_does_not_stop_the_others_and_is_made_up_for(
    project: Project, connection: libvirt.virConnect
) -> None:
    # libvirt refuses internal snapshots of raw images
    volumes = [pool(), disk("raw", format="raw"), disk("a"), disk("b")]
    project.converge(*volumes, machine("a", volume="raw"), machine("b"), policy())
    project.write(*volumes, machine("a", volume="raw"), machine("b"), machine("new", volume="a"), policy())
    done = run_at(project, "2026-05-01T12:00")
    assert done.code == 1
    assert "domain/a: snapshotpolicy/nightly\n  ! " in done.out
    assert "! domain/new is not on the host, or not this project's\n      hint: `kvmstate apply` makes it" in done.out
    assert "1 created, 0 deleted, 2 failed" in done.out
    assert names(connection, "b") == ["nightly-20260501T120000Z"]
    project.converge(*volumes, machine("a"), machine("b"), policy())
    assert "1 created, 0 deleted, 0 failed" in run_at(project, "2026-05-01T12:05").out
    assert names(connection, "a") == ["nightly-20260501T120500Z"]


def test_a_dry_run_says_what_is_kept_and_why_and_does_nothing(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), disk("web"), machine("web"), policy())
    for day in (1, 2):
        run_at(project, f"2026-05-0{day}T12:00")
    before = names(connection, "web")
    done = run_at(project, "2026-05-03T12:00", "--dry-run")
    assert done.out.splitlines() == [
        "domain/web: snapshotpolicy/nightly",
        "  + nightly-20260503T120000Z   will be created",
        "    nightly-20260503T120000Z   kept: daily 1 of 2",
        "    nightly-20260502T120000Z   kept: daily 2 of 2",
        "  - nightly-20260501T120000Z   will be deleted: no rule keeps it",
        "snapshotpolicy/nightly: 1 machine, next at 2026-05-04 02:30 CEST",
        "Dry run: 1 to create, 1 to delete.",
    ]
    told = json.loads(run_at(project, "2026-05-03T12:00", "--dry-run", "--json").out)["policies"][0]
    assert (told["address"], told["next"]) == ("snapshotpolicy/nightly", "2026-05-04T00:30:00Z")
    assert told["domains"][0]["deleted"] == ["nightly-20260501T120000Z"]
    assert [kept["reasons"] for kept in told["domains"][0]["snapshots"]] == [
        ["daily 1 of 2"],
        ["daily 2 of 2"],
        ["no rule keeps it"],
    ]
    assert names(connection, "web") == before


def test_suspended_policies_and_machines_that_are_off_are_left_alone(
    project: Project, connection: libvirt.virConnect
) -> None:
    documents = [pool(), disk("web"), machine("web")]
    project.converge(*documents, policy(retention={"keepLast": 1}))
    run_at(project, "2026-05-01T12:00")
    project.write(*documents, policy(suspend=True), policy("running", onlyIfRunning=True))
    done = run_at(project, "2026-05-08T12:00")
    assert done.code == 0
    assert "snapshotpolicy/nightly: suspended" in done.out
    assert "domain/web: snapshotpolicy/running\n    none is taken: it is not running\n" in done.out
    assert names(connection, "web") == ["nightly-20260501T120000Z"]


def test_two_runs_at_once_do_not_both_take_one(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), disk("web"), machine("web"), policy())
    program = "import sys; from kvmstate.cli import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "snapshot", "run", str(project.folder), "--lock-timeout", "1m"]
    runs = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in runs] == [0, 0]
    assert len(names(connection, "web")) == 1


def test_one_is_taken_before_a_machine_is_changed_also_by_a_saved_plan(
    project: Project, connection: libvirt.virConnect
) -> None:
    def documents(cpus: int, **spec: Any) -> list[dict[str, Any]]:
        web = machine("web")
        web["spec"]["cpus"] = cpus
        return [pool(), disk("web"), web, policy(beforeChange=True, **spec)]

    project.converge(*documents(1))
    assert names(connection, "web") == [], "a new machine has nothing to go back to"
    project.write(*documents(2))
    planned = project.plan("--out", str(project.folder / "plan"))
    assert "snapshotpolicy/nightly takes a snapshot of domain/web before it is changed" in planned.out + planned.err
    assert kvmstate("apply", str(project.folder / "plan")).code == 0
    (taken,) = connection.lookupByName("web").listAllSnapshots()
    assert ">1</vcpu>" in taken.getXMLDesc()
    assert ">2</vcpu>" in connection.lookupByName("web").XMLDesc()
    project.converge(*documents(3, suspend=True))
    assert len(names(connection, "web")) == 1


def test_what_cannot_be_snapshotted_is_not_changed(project: Project, connection: libvirt.virConnect) -> None:
    web = machine("web")
    project.converge(pool(), disk("web", format="raw"), web, policy(beforeChange=True))
    web["spec"]["cpus"] = 2
    project.write(pool(), disk("web", format="raw"), web, policy(beforeChange=True))
    applied = project.apply()
    assert applied.code == 1
    assert "domain/web: failed" in applied.err
    assert ">1</vcpu>" in connection.lookupByName("web").XMLDesc()
    project.converge(pool(), disk("web", format="raw"), web, policy())
