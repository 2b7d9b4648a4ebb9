"""Volumes grow, whether a machine runs or not; they never shrink."""

from __future__ import annotations

import pytest
from harness import Guest, Project, pool, resource

pytestmark = pytest.mark.real


def volume(name: str, capacity: str, format: str) -> dict:
    return resource("Volume", name, pool="images", format=format, capacity=capacity)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_volume_grows_under_its_running_guest(project: Project, tiny: Guest, format: str) -> None:
    machine = tiny.machine("web", disks=[{"name": "root", "volume": "images/root"}])
    project.converge(pool(), volume("root", "4MiB", format), machine)
    tiny.says("vda:4MiB")
    boot = tiny.boot()
    project.converge(pool(), volume("root", "8MiB", format), machine)
    tiny.says("vda:8MiB")
    assert tiny.boot() == boot


def test_a_volume_grows_while_its_machine_is_off(project: Project, tiny: Guest) -> None:
    off = tiny.machine("web", state="stopped", disks=[{"name": n, "volume": f"images/{n}"} for n in ("raw", "qcow2")])
    project.converge(pool(), volume("raw", "4MiB", "raw"), volume("qcow2", "4MiB", "qcow2"), off)
    grown = [volume("raw", "8MiB", "raw"), volume("qcow2", "12MiB", "qcow2")]
    project.converge(pool(), *grown, off)
    off["spec"]["state"] = "running"
    project.converge(pool(), *grown, off)
    tiny.says("vda:8MiB,vdb:12MiB")


def test_shrinking_is_refused_and_the_rest_goes_on(project: Project) -> None:
    project.converge(pool(), volume("data", "8MiB", "qcow2"))
    project.write(pool(), volume("data", "4MiB", "qcow2"), volume("other", "4MiB", "qcow2"))
    applied = project.apply()
    assert applied.code == 1
    assert "volume/images/data" in applied.out
    assert "blocked: capacity cannot shrink: data would be lost" in applied.out
    assert project.path("images/other").exists()
    project.converge(pool(), volume("data", "8MiB", "qcow2"), volume("other", "4MiB", "qcow2"))
