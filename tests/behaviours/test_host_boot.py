"""Machines start and stop with their host, in their order; see tests/systemd for who does it."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from harness import Project, Run, idle, kvmstate
from test_doctor import doctor

pytestmark = pytest.mark.real

ROUTER = idle("router", state="ignore", hostBoot={}, onHostShutdown=["poweroff"])
DB = idle("db", state="ignore", hostBoot={"after": ["domain/router"], "delay": "1s"}, onHostShutdown=["save"])
WEB = idle(
    "web",
    state="ignore",
    hostBoot={"after": ["db", "apart"]},
    # it hears no power button
    onHostShutdown=["shutdown", "poweroff"],
)
APART = idle("apart", state="running")


def host(project: Project, verb: str, *options: str) -> Run:
    return kvmstate("host", verb, "-c", project.uri, *options)


def running(connection: libvirt.virConnect) -> list[str]:
    """In the order in which they were started."""
    found = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    return [domain.name() for domain in sorted(found, key=lambda domain: domain.ID())]


def test_they_start_after_others_and_stop_before_them(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(ROUTER, DB, WEB, APART)
    assert running(connection) == ["apart"]
    booted = host(project, "boot")
    assert (booted.code, booted.out) == (0, "router: started\ndb: started\nweb: started\n"), booted
    assert running(connection) == ["apart", "router", "db", "web"]
    assert host(project, "boot").out.count("is running already") == 3
    # neither is what they say of it something that an apply corrects, nor that they run
    assert project.plan().code == 0
    stopped = host(project, "shutdown")
    assert stopped.code == 0, stopped
    assert stopped.out.splitlines() == [
        "web: powered off; shutdown: the guest did not shut down within 1 s",
        "db: saved; its next start goes on from there",
        "router: powered off",
    ]
    assert running(connection) == ["apart"]
    assert host(project, "boot").out == "router: started\ndb: goes on from its saved memory\nweb: started\n"


def test_what_it_says_is_changed_while_it_runs(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(ROUTER, APART)
    number = connection.lookupByName("apart").ID()
    hasty = idle("apart", state="running", hostBoot={"after": ["router"], "delay": "5s"}, onHostShutdown=["save"])
    project.converge(ROUTER, hasty)
    hasty["spec"]["hostBoot"] = {"waitFor": {"address": True}}
    project.converge(ROUTER, hasty)
    assert "router" not in connection.lookupByName("apart").XMLDesc(0)
    project.converge(ROUTER, APART)
    assert "host-boot" not in connection.lookupByName("apart").XMLDesc(0)
    assert connection.lookupByName("apart").ID() == number


def test_one_that_does_not_come_up_holds_up_nobody(project: Project, connection: libvirt.virConnect) -> None:
    broken = idle("broken", state="ignore", hostBoot={}, kernel={"path": "/nowhere"})
    mute = idle(
        "mute", state="ignore", hostBoot={"after": ["broken"], "waitFor": {"guestAgent": True, "timeout": "1s"}}
    )
    last = idle("last", state="ignore", hostBoot={"after": ["mute"]}, onHostShutdown=["shutdown"])
    project.converge(broken, mute, last)
    booted = host(project, "boot")
    assert booted.code == 1
    assert "broken: QEMU did not start" in booted.err
    assert "mute: started, and the health check failed: its guest agent does not answer (waited 1 s)" in booted.err
    assert booted.out == "last: started\n"
    assert running(connection) == ["mute", "last"]
    stopped = host(project, "shutdown")
    assert stopped.code == 1
    assert "last: it goes on running; shutdown: the guest did not shut down within 1 s" in stopped.err
    assert "hint: let onHostShutdown end with poweroff" in stopped.err


def test_those_that_wait_for_each_other_are_started_all_the_same(
    project: Project, connection: libvirt.virConnect
) -> None:
    def after(name: str, *others: str) -> dict[str, Any]:
        return idle(name, state="ignore", hostBoot={"after": list(others)})

    project.write(after("a", "b"), after("b", "a"))
    assert "these refer to each other in a circle: domain/a -> domain/b -> domain/a" in project.plan().err
    # two projects, which do not know of each other
    project.converge(after("a"), after("b", "a"))
    found = connection.lookupByName("a")
    text = found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    alone = '<host-boot:boot xmlns:host-boot="https://kvmstate.dev/xmlns/host-boot/1.0"/>'
    assert alone in text
    connection.defineXML(text.replace(alone, alone.replace("/>", '><host-boot:after domain="b"/></host-boot:boot>')))
    booted = host(project, "boot")
    assert booted.code == 1
    assert "waits for itself: " in booted.err
    assert sorted(running(connection)) == ["a", "b"]


def test_libvirt_starts_none_of_them_as_well(project: Project, connection: libvirt.virConnect) -> None:
    project.write(idle("vm", state="ignore", hostBoot={}, autostart=True))
    assert "autostart has libvirt start it at once, and hostBoot after others" in project.plan().err
    project.converge(idle("vm", state="ignore", hostBoot={}))
    connection.lookupByName("vm").setAutostart(1)
    found = doctor(project.host, 2)["guests-of-the-host"]
    assert found[0][:2] == ("warning", "domain vm has hostBoot, and libvirt starts it at once as well")
    assert "whether kvmstate-guests.service runs is not seen from here" in found[1][1]
