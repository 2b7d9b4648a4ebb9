"""A host that falls silent, or whose daemon dies, ends a command with a word about it; the next apply goes on."""

from __future__ import annotations

import re

import pytest
from harness import Project, patching, pool, resource
from trouble import IMAGE, inside, kill_daemon, silent, stalling_download, until_it_may_die, wait_for_daemon

from kvmstate.host import liveness

pytestmark = pytest.mark.real

NETWORK = resource("Network", "lan", bridge={"name": "kvmlan"})


def test_a_daemon_that_does_not_answer_ends_connecting(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(liveness.CONNECT_TIMEOUT, "local", 0.5)
    with silent(project.host):
        planned = project.plan()
    assert planned.code == 1
    assert "no answer within 0.5 s" in planned.err
    assert "hint: the daemon there hangs or is stopped" in planned.err


def survive_its_waking(project: Project) -> None:
    """Now and then libvirtd crashes of the upload that was cut off, as soon as it finds that out, and leaves the bridge
    that it was just making: that is its own fault, and not what is tried here."""
    wait_for_daemon(project.host)
    if "connection to the host was lost" in project.apply().err:
        wait_for_daemon(project.host)
        if "bridge interface kvmlan: File exists" in project.apply().out:
            inside(project.host, "ip link delete kvmlan")


def test_a_daemon_that_falls_silent_ends_an_apply(project: Project) -> None:
    impatient = patching(host__liveness__INTERVAL="0.5", host__liveness__SILENCE="0.5")
    impatient += "kvmstate.host.liveness.CONNECT_TIMEOUT['local'] = 3"
    # should it crash, it comes back
    until_it_may_die(project.host)
    with stalling_download() as download:
        project.write(pool(), download.volume(), NETWORK)
        applying = project.start_apply(first=impatient)
        assert download.halfway.wait(10), project.log.read_text()
        with silent(project.host):
            download.goes_on.set()
            assert applying.wait(10) == 1
        lost = r"error: volume/images/base: the connection to the host was lost.*\n  hint: "
        assert re.search(lost, project.log.read_text())
        survive_its_waking(project)
        project.converge()
    assert project.path("images/base").read_bytes() == IMAGE


def test_a_daemon_that_dies_in_an_apply_is_named_and_the_next_apply_converges(project: Project) -> None:
    with stalling_download() as download:
        machine = resource(
            "VirtualMachine", "web", memory="64MiB", state="stopped", disks=[{"name": "root", "volume": "images/base"}]
        )
        project.write(pool(), download.volume(), machine, NETWORK)
        applying = project.start_apply("--parallelism", "1")
        assert download.halfway.wait(10), project.log.read_text()
        kill_daemon(project.host)
        download.goes_on.set()
        assert applying.wait(30) == 1
        said = project.log.read_text()
        assert "error: volume/images/base: the connection to the host was lost" in said
        assert "then apply again" in said
        assert "skipped: domain/web: volume/images/base failed" in said
        assert "Apply incomplete." in said
        wait_for_daemon(project.host)
        assert project.plan().code == 2
        project.converge()
    assert project.path("images/base").read_bytes() == IMAGE
