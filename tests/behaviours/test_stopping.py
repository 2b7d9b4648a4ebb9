"""A machine is what its manifest says: running, stopped or paused; and it is never cut off unless that is allowed."""

from __future__ import annotations

import threading

import libvirt
import pytest
from harness import Guest, Project, idle, pool, resource, until

pytestmark = pytest.mark.real

DEAF = "kvmstate.ignore_shutdown=1"


def test_state_goes_in_every_direction(project: Project, connection: libvirt.virConnect) -> None:
    machine = idle("web")
    states = {"running": libvirt.VIR_DOMAIN_RUNNING, "paused": libvirt.VIR_DOMAIN_PAUSED}
    for state in ("stopped", "running", "paused", "running", "stopped", "paused", "stopped"):
        machine["spec"]["state"] = state
        project.converge(machine)
        seen = connection.lookupByName("web").state()[0]
        assert seen == states.get(state, libvirt.VIR_DOMAIN_SHUTOFF)


def test_state_ignore_leaves_it_to_people(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(idle("web", state="ignore"))
    domain = connection.lookupByName("web")
    assert not domain.isActive()
    domain.create()
    assert project.plan().code == 0


def test_a_guest_is_asked_to_shut_down(project: Project, tiny: Guest) -> None:
    machine = tiny.machine("web", {"stop": {"timeout": "2m"}})
    project.converge(machine)
    tiny.boot()
    machine["spec"]["state"] = "stopped"
    project.converge(machine)
    assert "guest: power button\n" in tiny.said()


def test_a_guest_that_ignores_the_power_button_is_powered_off_only_if_that_is_allowed(
    project: Project, tiny: Guest, connection: libvirt.virConnect
) -> None:
    machine = tiny.machine("web", {"stop": {"timeout": "2s"}}, options=DEAF)
    project.converge(machine)
    tiny.boot()
    machine["spec"]["state"] = "stopped"
    project.write(machine)
    applied = project.apply()
    assert applied.code == 1
    assert "error: domain/web: the guest did not shut down within 2 s" in applied.out
    assert "hint: " in applied.out
    assert "guest: power button ignored" in tiny.said()
    assert connection.lookupByName("web").isActive()
    assert project.plan().code == 2
    machine["lifecycle"]["stop"]["onTimeout"] = "destroy"
    project.converge(machine)
    assert not connection.lookupByName("web").isActive()


def test_a_guest_that_stops_on_its_own_meanwhile_is_no_error(
    project: Project, tiny: Guest, connection: libvirt.virConnect
) -> None:
    machine = tiny.machine("web", {"stop": {"timeout": "2m"}}, options=DEAF)
    project.converge(machine)
    tiny.boot()
    machine["spec"]["state"] = "stopped"
    project.write(machine)

    def stop_when_asked() -> None:
        until(lambda: "power button ignored" in tiny.said(), "the guest was asked")
        connection.lookupByName("web").destroy()

    other = threading.Thread(target=stop_when_asked)
    other.start()
    applied = project.apply()
    other.join()
    assert applied.code == 0, applied


def test_when_off_waits_for_the_next_power_cycle(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(idle("web", cpus=2))
    domain = connection.lookupByName("web")
    before = domain.ID()
    applied = project.converge(idle("web", cpus=1))
    assert "(restart required)" in applied.out
    assert project.todo() == {"pending": 1}
    assert (domain.ID(), domain.maxVcpus()) == (before, 2)
    domain.destroy()
    project.converge()
    assert domain.maxVcpus() == 1
    assert "pending" not in project.plan().out


def test_never_refuses_what_needs_a_restart(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(idle("web", {"restart": "never"}, cpus=2))
    domain = connection.lookupByName("web")
    before = domain.ID()
    project.write(idle("web", {"restart": "never"}, cpus=1))
    applied = project.apply()
    assert applied.code == 1
    assert "blocked: lifecycle.restart: never refuses a restart, which maxCpus, cpus would take" in applied.out
    assert (domain.ID(), domain.maxVcpus()) == (before, 2)
    assert "<vcpu placement='static'>2</vcpu>" in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


def test_now_restarts_gracefully(project: Project, tiny: Guest) -> None:
    machine = tiny.machine("web", {"restart": "now", "stop": {"timeout": "2m"}}, cpus=2)
    project.converge(machine)
    boot = tiny.boot()
    machine["spec"]["cpus"] = 1
    project.write(machine)
    assert "(restarts now)" in project.plan().out
    project.converge()
    tiny.says("cpus=1 ")
    assert tiny.boot() != boot


def test_destroy_goes_by_the_lifecycles_that_the_manifests_say_now(
    project: Project, connection: libvirt.virConnect
) -> None:
    slow = {"stop": {"timeout": "1s", "onTimeout": "fail"}}
    volume = {"pool": "images", "capacity": "1MiB"}
    project.converge(
        pool(),
        resource("Volume", "gone", **volume),
        resource("Volume", "kept", {"deletion": "delete"}, **volume),
        idle("web", slow),
        idle("safe"),
        idle("left"),
    )
    assert "did not shut down" in project.kvmstate("destroy --auto-approve --target domain/web").err
    # edited, and not applied
    project.write(
        pool(),
        resource("Volume", "gone", {"deletion": "delete"}, **volume),
        resource("Volume", "kept", **volume),
        idle("web"),
        idle("safe", {"preventDestroy": True}),
        idle("left", {"suspend": True}),
    )
    destroyed = project.kvmstate("destroy --auto-approve")
    assert "domain/safe" in destroyed.out
    assert "preventDestroy forbids deleting it" in destroyed.out
    assert sorted(domain.name() for domain in connection.listAllDomains()) == ["left", "safe"]
    assert not project.path("images/gone").exists()
    assert project.path("images/kept").exists()
