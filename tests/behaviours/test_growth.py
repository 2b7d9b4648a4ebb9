"""Volumes grow, whether a machine runs or not; they never shrink."""

from __future__ import annotations

import pytest
from harness import Guest, Project, pool, resource

pytestmark = pytest.mark.real


def volume(name: str, capacity: str, format: str) -> dict:
    return resource("Volume", name, pool="images", format=format, capacity=capacity)


def test_volumes_grow_while_their_machine_is_off_and_under_its_running_guest(project: Project, tiny: Guest) -> None:
    disks = [{"name": format, "volume": f"images/{format}"} for format in ("raw", "qcow2")]

    def sized(raw: str, qcow2: str, state: str) -> list[dict]:
        machine = tiny.machine("web", state=state, disks=disks)
        return [pool(), volume("raw", raw, "raw"), volume("qcow2", qcow2, "qcow2"), machine]

    project.converge(*sized("4MiB", "4MiB", "stopped"))
    project.converge(*sized("6MiB", "8MiB", "stopped"))
    project.converge(*sized("6MiB", "8MiB", "running"))
    tiny.says("vda:6MiB,vdb:8MiB")
    boot = tiny.boot()
    project.converge(*sized("10MiB", "12MiB", "running"))
    tiny.says("vda:10MiB,vdb:12MiB")
    assert tiny.boot() == boot


def test_shrinking_is_refused_and_the_rest_goes_on(project: Project) -> None:
    project.converge(pool(), volume("data", "8MiB", "qcow2"))
    project.write(pool(), volume("data", "4MiB", "qcow2"), volume("other", "4MiB", "qcow2"))
    applied = project.apply()
    assert applied.code == 1
    assert "volume/images/data" in applied.out
    assert "blocked: capacity cannot shrink: data would be lost" in applied.out
    assert project.path("images/other").exists()
    project.converge(pool(), volume("data", "8MiB", "qcow2"), volume("other", "4MiB", "qcow2"))
