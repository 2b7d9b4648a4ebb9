"""`--target` and `--exclude`: a part of a plan, with what it needs, and nothing else."""

from __future__ import annotations

import pytest

from tests.artefacts.conftest import MACHINE, POOL, VOLUME, Done, Project

OTHER = {"kind": "StoragePool", "metadata": {"name": "other"}, "spec": {"type": "dir", "target": {"path": "/other"}}}


def addresses(done: Done) -> list[str]:
    return [line.split()[1] for line in done.out.splitlines() if line[:3].strip() in {"+", "~", "-", "-/+", "."}]


@pytest.mark.parametrize(
    ("args", "left"),
    [
        (["--target", "domain/web-1"], ["pool/images", "volume/images/root", "domain/web-1"]),
        (["--target", "volume/images/*"], ["pool/images", "volume/images/root"]),
        (["--target", "Volume/images/root"], ["pool/images", "volume/images/root"]),
        (["--target", "pool/other", "--target", "pool/images"], ["pool/images", "pool/other"]),
        (["--exclude", "volume/images/root"], ["pool/images", "pool/other"]),
        (["--exclude", "domain/*"], ["pool/images", "pool/other", "volume/images/root"]),
        (["--target", "domain/web-1", "--exclude", "volume/*"], ["pool/images"]),
    ],
)
def test_a_part_of_a_plan(kvmstate: Project, args: list[str], left: list[str]) -> None:
    kvmstate.write(POOL, VOLUME, MACHINE, OTHER)
    done = kvmstate("plan", *args)
    assert (done.code, sorted(addresses(done))) == (0, sorted(left))
    count = 4 - len(left)
    assert f"leaves {count} resource{'s' if count > 1 else ''} out." in done.out


def test_json_says_that_a_plan_is_partial(kvmstate: Project) -> None:
    answer = kvmstate("plan", "--json", "--exclude", "domain/*").json
    assert (answer["complete"], answer["summary"]["left_out"]) == (False, 1)
    assert kvmstate("plan", "--json").json["complete"] is True


def test_an_unknown_address_is_refused_with_the_nearest_one(kvmstate: Project) -> None:
    done = kvmstate("plan", "--target", "domain/wbe-1")
    assert (done.code, done.out) == (1, "")
    assert "--target domain/wbe-1: there is no such resource in this plan" in done.err
    assert "hint: did you mean domain/web-1?" in done.err


def test_a_targeted_apply_changes_nothing_else(kvmstate: Project) -> None:
    kvmstate.write(POOL, VOLUME, MACHINE, OTHER)
    assert kvmstate("apply", "--auto-approve", "--target", "pool/other").code == 0
    names = {pool.name() for pool in kvmstate.connection.listAllStoragePools(0)}
    assert "other" in names
    assert "images" not in names
    assert kvmstate("apply", "--auto-approve").code == 0
    assert kvmstate("plan", "--detailed-exitcode").code == 0


def test_a_targeted_prune_deletes_only_what_is_targeted(kvmstate: Project) -> None:
    kvmstate.write(POOL, VOLUME, MACHINE, OTHER)
    assert kvmstate("apply", "--auto-approve").code == 0
    kvmstate.write(POOL, VOLUME)
    assert addresses(kvmstate("plan", "--prune", "--target", "domain/web-1")) == ["domain/web-1"]
    assert kvmstate("apply", "--auto-approve", "--prune", "--target", "pool/other").code == 0
    assert {domain.name() for domain in kvmstate.connection.listAllDomains(0)} == {"test", "web-1"}
    assert "other" not in {pool.name() for pool in kvmstate.connection.listAllStoragePools(0)}


def test_what_is_still_used_does_not_go_alone(kvmstate: Project) -> None:
    kvmstate.write(POOL, {**VOLUME, "lifecycle": {"deletion": "delete"}})
    assert kvmstate("apply", "--auto-approve").code == 0
    done = kvmstate("destroy", "--auto-approve", "--target", "pool/images")
    assert done.code == 1
    assert "pool/images cannot go alone: volume/images/root, which leaves too, refers to it" in done.err
    assert "hint: say --target volume/images/root as well" in done.err
    done = kvmstate("destroy", "--auto-approve", "--target", "pool/images", "--target", "volume/images/root")
    assert (done.code, addresses(done)) == (0, ["volume/images/root", "pool/images"])


def test_the_brake_on_deletes_counts_what_is_selected(kvmstate: Project) -> None:
    kvmstate.write(POOL, VOLUME, MACHINE, OTHER)
    assert kvmstate("apply", "--auto-approve").code == 0
    kvmstate.write(POOL, VOLUME)
    assert kvmstate("plan", "--prune", "--max-deletes", "1").code == 1
    assert kvmstate("plan", "--prune", "--max-deletes", "1", "--exclude", "domain/web-1").code == 0
