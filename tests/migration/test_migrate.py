"""A machine moves to another host with its project, while it counts, and back."""

from __future__ import annotations

import libvirt
import pytest
from conftest import Pair
from harness import resource, until

pytestmark = pytest.mark.real

LAN = resource("Network", "lan")


def test_a_running_machine_moves_to_a_host_that_sees_its_disks_and_back(pair: Pair) -> None:
    project = pair.project
    machine = pair.machine("shared", autostart=True, interfaces=[{"name": "one", "network": "lan"}])
    pair.stage(pair.pool("shared"))
    project.converge(LAN, pair.pool("shared"), *machine)
    until(pair.counts, "it counts")

    checked = pair.migrate("--check")
    assert checked.code == 1, checked
    assert "there is no network lan" in checked.out
    refused = pair.migrate()
    assert "there is no network lan" in refused.err, refused
    assert pair.states == ("running", "")
    pair.stage(pair.pool("shared"), LAN)

    boot = pair.guest.boot()
    done = pair.migrate()
    assert done.code == 0, done
    assert "stood still for" in done.out
    assert pair.states == ("", "running")
    by_now = pair.counts()
    until(lambda: pair.counts() > by_now, "it goes on there")
    assert pair.guest.boot() == boot

    # what it left does not make it once more, and the other host's project has it
    assert "has been moved to" in project.plan().out
    assert project.apply().code == 0
    assert pair.states == ("", "running")
    there = project.kvmstate("status", "-c", pair.there, "--json")
    assert '"domain/web"' in there.out
    assert project.plan("-c", pair.there, "--target", "domain/web", "--exclude", "pool/*").code == 0
    connection = libvirt.open(pair.there)
    assert connection.lookupByName("web").autostart()
    connection.close()
    again = pair.migrate()
    assert again.code == 0, again

    back = pair.migrate(back=True)
    assert back.code == 0, back
    assert pair.states == ("running", "")
    assert project.plan().code == 0
    assert not list(pair.shared.glob(".kvmstate*"))
    by_now = pair.counts()
    until(lambda: pair.counts() > by_now, "it goes on here")
