"""`snapshot run` takes what policies say is due and deletes what their retention drops, and touches nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import libvirt
import pytest
from harness import MAIN, Project, Run, idle, kvmstate, patching, pool, resource

pytestmark = pytest.mark.real


def policy(name: str = "nightly", names: str = "*", **spec: Any) -> dict[str, Any]:
    given = {"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "retention": {"daily": 2}}
    return resource("SnapshotPolicy", name, selector={"names": [names]}, **{**given, **spec})


def disk(name: str, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, pool="images", **{"capacity": "4MiB", **spec})


def machine(name: str, state: str = "stopped", volume: str = "", device: str = "root") -> dict[str, Any]:
    return idle(name, state=state, disks=[{"name": device, "volume": f"images/{volume or name}"}])


def run_at(project: Project, time: str, *options: str) -> Run:
    return project.kvmstate("snapshot run", "--at", time, *options)


def names(connection: libvirt.virConnect, domain: str) -> list[str]:
    return sorted(found.getName() for found in connection.lookupByName(domain).listAllSnapshots())


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_what_is_due_is_taken_once_and_what_no_rule_keeps_is_deleted(
    project: Project, connection: libvirt.virConnect, state: str
) -> None:
    project.converge(pool(), disk("web"), machine("web", state), policy())
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
            f"<domainsnapshot><name>{name}</name><description>{text}</description></domainsnapshot>",
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY,
        )
    for day in (1, 2, 3):
        assert run_at(project, f"2026-05-0{day}T12:00").code == 0
    assert names(connection, "web") == sorted([*described, "nightly-20260503T120000Z"])


def test_a_machine_that_fails_does_not_stop_the_others_and_is_made_up_for(
    project: Project, connection: libvirt.virConnect
) -> None:
    volumes, root = [pool(), disk("a"), disk("b"), disk("c")], policy(disks=["root"])
    project.converge(*volumes, machine("a", device="data"), machine("b"), root)
    project.write(*volumes, machine("a", device="data"), machine("b"), machine("c"), root)
    done = run_at(project, "2026-05-01T12:00")
    assert done.code == 1
    assert "domain/a: snapshotpolicy/nightly\n  ! domain/a has none of the disks root\n" in done.out
    assert "! domain/c is not on the host, or not this project's\n      hint: `kvmstate apply` makes it" in done.out
    assert "1 created, 0 deleted, 2 failed" in done.out
    assert names(connection, "b") == ["nightly-20260501T120000Z"]
    project.converge(*volumes, machine("a"), machine("b"), machine("c"), root)
    assert "2 created, 0 deleted, 0 failed" in run_at(project, "2026-05-01T12:05").out
    assert names(connection, "a") == names(connection, "c") == ["nightly-20260501T120500Z"]


def test_nothing_is_deleted_while_none_can_be_taken(project: Project, connection: libvirt.virConnect) -> None:
    documents, short = [pool(), disk("web"), machine("web")], {"retention": {"maxAge": "2d"}}
    project.converge(*documents, policy(**short))
    for day in (1, 2):
        run_at(project, f"2026-05-0{day}T12:00")
    before = names(connection, "web")
    project.write(*documents, policy(disks=["data"], **short))
    assert "0 created, 0 deleted, 1 failed" in run_at(project, "2026-05-09T12:00").out
    assert names(connection, "web") == before
    project.write(*documents, policy(**short))
    assert "1 created, 2 deleted, 0 failed" in run_at(project, "2026-05-09T12:00").out


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


def test_chains_grow_no_longer_than_the_policy_lets_them(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), disk("web"), machine("web"), policy(retention={"keepLast": 9}, maxChainDepth=3))
    for day in range(1, 5):
        done = run_at(project, f"2026-05-0{day}T12:00")
    assert "- nightly-20260502T120000Z   deleted: its chain would be too deep" in done.out
    assert names(connection, "web") == ["nightly-20260503T120000Z", "nightly-20260504T120000Z"]
    assert len(list(project.path("images").iterdir())) == 3


def test_a_run_that_was_killed_leaves_nothing_behind_for_long(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), disk("web"), machine("web"), policy(retention={"keepLast": 1}))
    run_at(project, "2026-05-01T12:00")
    # right after it has made the overlay
    killed = f"import os; {patching(host__snapshots__create_external='lambda *_, **__: os.kill(os.getpid(), 9)')}"
    command = [sys.executable, "-c", f"{killed}\n{MAIN}", "snapshot", "run", str(project.folder)]
    assert subprocess.run([*command, "--at", "2026-05-02T12:00"], check=False).returncode == -9
    assert len(list(project.path("images").iterdir())) == 3
    for day in (3, 4):
        assert "1 created, 1 deleted, 0 failed" in run_at(project, f"2026-05-0{day}T12:00", "--lock-timeout", "1m").out
    assert {file.name for file in project.path("images").iterdir()} == {"web", "web.nightly-20260504T120000Z.overlay"}


def test_what_a_detached_disk_holds_stays(project: Project, connection: libvirt.virConnect) -> None:
    documents, both = [pool(), disk("web"), disk("data")], machine("web")
    both["spec"]["disks"].append({"name": "data", "volume": "images/data"})
    project.converge(*documents, both, policy(retention={"keepLast": 1}))
    run_at(project, "2026-05-01T12:00")
    project.converge(*documents, machine("web"), policy(retention={"keepLast": 1}))
    for day in (2, 3):
        assert "1 created, 1 deleted, 0 failed" in run_at(project, f"2026-05-0{day}T12:00").out
    assert {file.name for file in project.path("images").iterdir()} == {
        "web",
        "web.nightly-20260503T120000Z.overlay",
        "data",
        "data.nightly-20260501T120000Z.overlay",
    }


def test_two_runs_at_once_do_not_both_take_one(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(pool(), disk("web"), machine("web"), policy())
    program = "import sys; from kvmstate.cli import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "snapshot", "run", str(project.folder), "--lock-timeout", "1m"]
    runs = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in runs] == [0, 0]
    assert len(names(connection, "web")) == 1


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_one_is_taken_before_a_machine_is_changed_also_by_a_saved_plan(
    project: Project, connection: libvirt.virConnect, state: str
) -> None:
    def documents(title: str, **spec: Any) -> list[dict[str, Any]]:
        web = machine("web", state)
        web["spec"]["title"] = title
        return [pool(), disk("web"), web, policy(beforeChange=True, **spec)]

    project.converge(*documents("first"))
    assert names(connection, "web") == [], "a new machine has nothing to go back to"
    project.write(*documents("second"))
    planned = project.plan("--out", str(project.folder / "plan"))
    assert "snapshotpolicy/nightly takes a snapshot of domain/web before it is changed" in planned.out + planned.err
    assert kvmstate("apply", str(project.folder / "plan")).code == 0
    domain = connection.lookupByName("web")
    (taken,) = domain.listAllSnapshots()
    assert "<title>first</title>" in taken.getXMLDesc()
    # what is defined goes on in the overlay, and the snapshot's file stays as it is
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        assert "<title>second</title>" in domain.XMLDesc(flags)
        assert f"/images/web.{taken.getName()}.overlay'" in domain.XMLDesc(flags)
    project.converge(*documents("third", suspend=True))
    assert len(names(connection, "web")) == 1


def test_what_cannot_be_snapshotted_is_not_changed(project: Project, connection: libvirt.virConnect) -> None:
    agent = policy(beforeChange=True, quiesce="required")
    web = machine("web", "running")
    project.converge(pool(), disk("web"), web, agent)
    web["spec"]["title"] = "another"
    project.write(pool(), disk("web"), web, agent)
    applied = project.apply()
    assert applied.code == 1
    assert "domain/web: failed" in applied.err
    assert "another" not in connection.lookupByName("web").XMLDesc()
    project.converge(pool(), disk("web"), web)


def test_what_two_branches_grow_from_is_held_back_until_one_has_gone(
    project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(pool(), disk("web"), machine("web"), policy(retention={"keepLast": 2}))
    for day in (1, 2):
        assert run_at(project, f"2026-05-0{day}T12:00").code == 0
    first, second = names(connection, "web")
    reverted = kvmstate("snapshot", "revert", "web", first, "--auto-approve", "-c", project.uri)
    assert reverted.code == 0, reverted
    held = f"    {first}   held back: another branch builds on it: {second}\n"
    dry = run_at(project, "2026-05-03T12:00", "--dry-run")
    assert held in dry.out
    assert dry.out.endswith("Dry run: 1 to create, 0 to delete, 1 held back.\n")
    done = run_at(project, "2026-05-03T12:00")
    assert done.code == 0
    assert held in done.out
    assert done.out.endswith("Snapshots: 1 created, 0 deleted, 1 held back, 0 failed.\n")
    told = json.loads(run_at(project, "2026-05-03T12:01", "--json").out)["policies"][0]["domains"][0]
    assert told["held_back"] == [first]
    # the next one is too many: what keeps the first from going goes, too
    assert "1 created, 2 deleted, 0 failed" in run_at(project, "2026-05-04T12:00").out
    assert len(names(connection, "web")) == 2
    assert project.plan().code == 0


def test_what_a_policy_that_has_gone_leaves_is_said_and_deleted_on_request(
    project: Project, connection: libvirt.virConnect, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [pool(), disk("a"), disk("b"), machine("a"), machine("b")]
    project.converge(*documents, policy(), policy("often"))
    for day in (1, 2):
        assert run_at(project, f"2026-05-0{day}T12:00").code == 0
    connection.lookupByName("a").snapshotCreateXML(
        "<domainsnapshot><name>by-hand</name></domainsnapshot>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    )
    assert "stay" not in project.plan().out
    project.write(*documents, policy("often", names="b"))
    gone = (
        "note: 4 snapshots of snapshotpolicy/nightly, which is not in the manifests any more, stay: a (2), b (2); "
        "`kvmstate snapshot delete --policy nightly` deletes them"
    )
    not_selected = (
        "note: 2 snapshots of snapshotpolicy/often, which does not select them any more, stay: a (2); "
        "`kvmstate snapshot delete --policy often a` deletes them"
    )
    for command in ("plan", "status"):
        lines = project.kvmstate(command).out.splitlines()
        assert [line for line in lines if line.startswith("note: ")] == [gone, not_selected]
        assert json.loads(project.kvmstate(command, "--json").out)["notes"] == [gone[6:], not_selected[6:]]
    # part of the manifests says nothing of what the others have
    assert "note: " not in kvmstate("plan", str(project.folder / "manifests.yaml")).out
    monkeypatch.chdir(project.folder)
    delete = ("snapshot", "delete", "--auto-approve", "--policy")
    wrong = kvmstate(*delete, "nightly", "c")
    assert (wrong.code, "policy nightly of project shop has no snapshot of c" in wrong.err) == (1, True)
    dry = kvmstate(*delete, "often", "a", "--dry-run")
    assert (dry.code, len(names(connection, "a"))) == (0, 5)
    for words in (("often", "a"), ("nightly",)):
        deleted = kvmstate(*delete, *words)
        assert deleted.code == 0, deleted
    assert names(connection, "a") == ["by-hand"]
    assert names(connection, "b") == ["often-20260501T120000Z", "often-20260502T120000Z"]
    assert "note: " not in project.plan().out
    assert kvmstate(*delete, "nightly").out == "no snapshot of policy nightly is left\n"
