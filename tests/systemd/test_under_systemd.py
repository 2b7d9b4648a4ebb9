"""`kvmstate service` under a real systemd, on a real libvirt."""

from __future__ import annotations

import json

import pytest
from box import PROGRAM, Box, Unit
from harness import until

# the first one boots the tree, and installs kvmstate in it
pytestmark = pytest.mark.timeout(900)

NETWORK = "{apiVersion: kvmstate/v1, kind: Network, metadata: {name: NAME}, spec: {autostart: true}}\n"
# stops only when it is powered off
MACHINE = """
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {name: NAME}
lifecycle: {stop: {timeout: 3s, onTimeout: destroy}}
spec: {state: STATE, memory: 32MiB}
"""


def network(unit: Unit) -> str:
    return NETWORK.replace("NAME", unit.project)


def machine(unit: Unit, state: str) -> str:
    return MACHINE.replace("NAME", unit.project).replace("STATE", state)


def is_at_work(unit: Unit) -> bool:
    """Somebody holds the project's lock."""
    return unit.box.sh(f"virsh secret-list | grep -q kvmstate:{unit.project}:lock").returncode == 0


def is_autostarted(unit: Unit) -> bool:
    return unit.project in unit.box.run("virsh net-list --all --autostart --name").split()


def test_it_is_ready_after_the_first_pass_and_runs_with_little(box: Box, unit: Unit) -> None:
    unit.manifests(lan=network(unit))
    box.run("systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service")
    said = unit.kvmstate("install", "--enable")
    assert f"started {unit.name}" in said
    assert "warning" not in said
    until(lambda: "HostUnreachable" in unit["StatusText"], "it says what it waits for")
    assert unit["ActiveState"] == "activating"
    box.run("systemctl start libvirtd.socket")
    unit.becomes("active")
    # ready is not only started
    assert unit.project in box.run("virsh net-list --name")
    assert 'Status: "1 in sync"' in box.run(f"systemctl status {unit.name}")

    pid = unit["MainPID"]
    assert box.run(f"ps -o user= -p {pid}") == "kvmstate"
    assert box.run("id -nG kvmstate").split() == ["kvmstate", "libvirt"]
    assert "NoNewPrivs:\t1" in box.run(f"cat /proc/{pid}/status")
    exposed = box.sh(f"systemd-analyze security --no-pager --threshold=20 {unit.name}")
    print(exposed.stdout.splitlines()[-1])
    assert exposed.returncode == 0
    assert box.run(f"systemctl is-enabled {unit.name}") == "enabled"
    # stopped before the guests are, which it would start again
    assert {"libvirt-guests.service", "libvirtd.service"} <= set(unit["After"].split())

    events = [json.loads(line) for line in unit.log().splitlines() if line.startswith("{")]
    assert {"Applied", "HostUnreachable"} <= {event["reason"] for event in events}
    assert all({"event", "level", "timestamp"} <= event.keys() for event in events)
    warnings = box.run(f"journalctl --unit={unit.name} --priority=warning --output=cat --no-pager")
    assert [json.loads(line)["level"] for line in warnings.splitlines() if line.startswith("{")] == ["warning"]


def test_one_that_hangs_is_killed_and_started_again(unit: Unit) -> None:
    unit.manifests(lan=network(unit))
    unit.kvmstate("install")
    unit.override("WatchdogSec=2s", "TimeoutAbortSec=1s", "RestartSec=100ms")
    unit.box.run(f"systemctl start {unit.name}")
    pid = unit["MainPID"]
    unit.box.run(f"kill -STOP {pid}")
    until(lambda: unit["NRestarts"] == "1", "it is started again")
    unit.becomes("active")
    assert unit["MainPID"] != pid
    assert "Watchdog timeout" in unit.log()


def test_a_reload_reads_the_manifests_anew(unit: Unit) -> None:
    unit.manifests(lan=network(unit))
    unit.kvmstate("install")
    unit.box.run(f"systemctl start {unit.name}")
    # of which libvirt tells nobody, and the next look at everything is minutes away
    unit.box.run(f"virsh net-autostart --disable {unit.project}")
    pid, version = unit["MainPID"], int(unit.box.run("systemctl --version").split()[1])
    assert unit["Type"] == ("notify-reload" if version >= 253 else "notify")
    unit.box.run(f"systemctl reload {unit.name}")
    if version < 253:
        until(lambda: is_autostarted(unit), "it has looked")
    assert is_autostarted(unit)
    unit.becomes("active")
    assert unit["MainPID"] == pid


def test_a_stop_lets_what_runs_end(unit: Unit) -> None:
    unit.manifests(web=machine(unit, "running"))
    unit.kvmstate("install")
    unit.box.run(f"systemctl start {unit.name}")
    assert unit.box.run(f"virsh domstate {unit.project}") == "running"
    unit.manifests(web=machine(unit, "stopped"))
    until(lambda: is_at_work(unit), "it is at work")
    assert unit.box.run(f"virsh domstate {unit.project}") == "running"
    unit.box.run(f"systemctl stop {unit.name}")
    assert unit.box.run(f"virsh domstate {unit.project}") == "shut off"
    assert unit["Result"] == "success"
    assert unit["ExecMainStatus"] == "0"


def test_one_that_was_killed_goes_on_where_it_was(unit: Unit) -> None:
    unit.manifests(web=machine(unit, "running"))
    unit.kvmstate("install")
    # a step takes longer than the watchdog waits
    unit.override("RestartSec=100ms", "WatchdogSec=2s")
    unit.box.run(f"systemctl start {unit.name}")
    unit.manifests(web=machine(unit, "stopped"))
    until(lambda: is_at_work(unit), "it is at work")
    unit.box.run(f"kill -KILL {unit['MainPID']}")
    until(lambda: unit["NRestarts"] == "1", "it is started again")
    # the lock that it held is not waited for
    until(lambda: unit.box.run(f"virsh domstate {unit.project}") == "shut off", "it is done", 25)
    unit.becomes("active")
    assert unit["NRestarts"] == "1"


def test_a_hidden_process_of_root_keeps_its_lock(unit: Unit) -> None:
    """ProtectProc= hides it, which is not its death."""
    unit.manifests(web=machine(unit, "running"))
    unit.kvmstate("install")
    unit.box.run(f"systemctl start {unit.name}; systemctl stop {unit.name}")
    # longer than the service takes to start
    unit.manifests(web=machine(unit, "stopped").replace("timeout: 3s", "timeout: 20s"))
    by_hand = f"{PROGRAM} apply --auto-approve -c qemu:///system /etc/kvmstate/{unit.project}"
    unit.box.run(f"systemd-run --quiet --unit=by-hand {by_hand}")
    until(lambda: is_at_work(unit), "it is at work")
    unit.box.run(f"systemctl start --no-block {unit.name}")
    until(lambda: "Locked" in unit.log(), "the service waits")
    unit.becomes("active")
    assert "Apply complete!" in unit.box.run("journalctl -u by-hand -o cat")
    assert "taking over" not in unit.log()


def test_a_repository_is_followed_with_a_key_that_only_root_reads(box: Box, unit: Unit) -> None:
    """The repository is behind an ssh server on loopback."""
    box.run(
        """
        mkdir -p /run/sshd /root/.ssh /srv/git /etc/kvmstate
        ssh-keygen -q -t ed25519 -N "" -f /etc/kvmstate/key
        cp /etc/kvmstate/key.pub /root/.ssh/authorized_keys
        ssh-keygen -A && /usr/sbin/sshd
        ssh-keyscan localhost >/etc/kvmstate/known_hosts 2>/dev/null
        git init -q --bare -b main /srv/git/lab.git
        git clone -q /srv/git/lab.git /srv/work 2>&1
        git config --global user.name Ann; git config --global user.email ann@example.org
        """
    )

    def push(text: str) -> None:
        box.write("/srv/work/lan.yaml", text)
        box.write("/srv/work/kvmstate.yaml", f"project: {unit.project}\nreconcile: {{prune: true}}\n")
        box.run("cd /srv/work && git add -A && git commit -qm change && git push -q 2>&1")

    push(network(unit))
    git = ["--git", "root@localhost:/srv/git/lab.git", "--ssh-key", "/etc/kvmstate/key", "--git-interval", "1h"]
    unit.kvmstate("install", *git, "--known-hosts", "/etc/kvmstate/known_hosts", "--enable")
    unit.becomes("active")
    assert unit.project in box.run("virsh net-list --name")
    assert box.run("stat -c %a%U /etc/kvmstate/key") == "600root"
    push(network(unit).replace(unit.project, f"{unit.project}-b"))
    box.run(f"systemctl reload {unit.name}")
    until(lambda: f"{unit.project}-b" in box.run("virsh net-list --name"), "the reload has fetched it")


def test_machines_start_and_stop_with_their_host(box: Box, unit: Unit) -> None:
    def guest(name: str, **spec: object) -> str:
        text = machine(unit, "ignore").replace(unit.project, f"{unit.project}-{name}", 1)
        return text.replace("state: ignore", f"state: ignore, {json.dumps(spec)[1:-1]}")

    def running() -> list[str]:
        """In the order in which they were started."""
        found = box.run("virsh list | awk '$1 ~ /[0-9]/ {print $2}'").split()
        return [name.removeprefix(f"{unit.project}-") for name in found if name.startswith(unit.project)]

    router = guest("router", hostBoot={"delay": 2}, onHostShutdown=["save"])
    after = {"after": [f"{unit.project}-router"]}
    unit.manifests(a=guest("a", hostBoot=after, onHostShutdown=["shutdown", "poweroff"]), router=router)
    unit.kvmstate("install", "--enable")
    unit.becomes("active")
    assert running() == []
    said = box.run(f"{PROGRAM} service guests install --enable 2>&1")
    assert "started kvmstate-guests.service" in said
    until(lambda: running() == ["router", "a"], "they are started in their order")
    assert "kvmstate-guests.service" in unit["After"].split()

    state = "systemctl show --property=ActiveState --value kvmstate-guests.service"
    until(lambda: box.run(state) == "active", "its command has ended")
    # all services are stopped, in the order of a shutdown
    box.write("/etc/systemd/system/idle.target", "[Unit]\nRequires=sysinit.target\nAllowIsolate=yes\n")
    box.run("systemctl daemon-reload")
    box.run("systemctl isolate idle.target 2>&1")
    until(lambda: box.run(state) == "inactive", "it has ended")
    log = box.run("journalctl --unit=kvmstate-guests.service --output=cat --no-pager")
    stopped = [line for line in log.splitlines() if "saved;" in line or "powered off;" in line]
    assert [line.split(":")[0] for line in stopped] == [f"{unit.project}-a", f"{unit.project}-router"]
    # the daemon had ended before, and has started nothing again
    assert unit["ActiveState"] == "inactive"
    assert box.sh("pgrep --full qemu-system").stdout == ""
    box.run("systemctl isolate multi-user.target")
    until(lambda: running() == ["router", "a"], "they are started again")
    log = box.run("journalctl --unit=kvmstate-guests.service --output=cat --no-pager")
    assert "router: goes on from its saved memory" in log
    assert box.run(f"{PROGRAM} doctor -c qemu:///system --json | grep -c 'starts and stops 2 machines'") == "1"
    box.run(f"{PROGRAM} service guests uninstall 2>&1")
    assert running() == ["router", "a"]
