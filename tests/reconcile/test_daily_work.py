"""kvmstate vm on a real host, in the order of a day; what docs/jobs/daily-work.md shows is what it prints."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from counting import Proxy
from daemons import Daemon
from harness import MAIN, Guest, Project, Run, idle, kvmstate, pool, until
from prepared import execute
from ssh_server import Server

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "jobs" / "daily-work.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```console\n\$ kvmstate (vm .*)\n((?:.*\n)*?)```", DOCS)


TABLE = {
    row.split(" | ")[0].strip("|` "): [cell.strip("| ") for cell in row.split(" | ")[1:]]
    for row in DOCS.splitlines()
    if row.startswith("| `")
}
STATES = ("running", "paused", "stopped", "saved")
# a guest that hears it is another test's
DEAF = {("shutdown", "running"), ("shutdown", "paused")}
ALONE = """<domain type='qemu'><name>alone</name><memory unit='MiB'>32</memory>
<os><type machine='q35'>hvm</type></os><devices><video><model type='vga'/></video></devices></domain>"""


def vm(project: Project, *words: str) -> Run:
    return kvmstate("vm", words[0], "-C", str(project.folder), *words[1:])


def binary(project: Project, *words: str, stdin: bytes = b"") -> Any:
    return execute("vm", *words, cwd=project.folder, env={**os.environ}, stdin=stdin)


def shown(project: Project, number: int) -> None:
    """What the docs show of this command, with the daemon and the time of there, is what it prints."""
    words, expected = SHOWN[number]

    def told(text: str) -> str:
        text = re.sub(r"daemon \S+@\S+ \(pid \d+, kvmstate \S+ run\)", "daemon", text)
        return re.sub(r"since \d{4}-\d\d-\d\d \d\d:\d\d UTC by \S+:", "SINCE", text)

    done = vm(project, *words.split()[1:])
    said = done.out + "".join(line for line in done.err.splitlines(True) if not line.startswith("  "))
    assert told(said) == told(expected)


def console(project: Project, name: str, log: Path) -> tuple[str, int]:
    """On a terminal of 100 columns: what it shows until the guest prints, then ^] is typed; its exit code."""
    pid, master = pty.fork()
    if not pid:
        os.chdir(project.folder)
        program = [sys.executable, "-c", MAIN, "vm", "console", name, "--log", str(log)]
        os.execve(sys.executable, program, {**os.environ, "PYTHONPATH": str(ROOT)})
    import fcntl
    import termios

    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 100, 0, 0))
    said, end = b"", time.monotonic() + 60
    while b"guest: noted" not in said and time.monotonic() < end:
        if select.select([master], [], [], 1)[0]:
            said += os.read(master, 4096)
    until(lambda: b"33 100" in binary(project, "exec", name, "--", "stty", "-F", "/dev/ttyS0", "size").stdout, "a size")
    os.write(master, b"\x1d")
    # EIO is the end of a terminal
    with suppress(OSError):
        while part := os.read(master, 4096):
            said += part
    _, status = os.waitpid(pid, 0)
    os.close(master)
    return said.decode(errors="replace"), os.waitstatus_to_exitcode(status)


def test_a_day(
    project: Project, guest: Any, run: Callable[..., Daemon], connection: libvirt.virConnect, tmp_path: Path
) -> None:
    initrd = str(guest.initrd.with_name("initrd-agent"))
    tiny = Guest({"path": str(guest.vmlinuz), "initrd": initrd}, tmp_path / "console.log")
    disk = {"name": "data", "create": {"pool": "images", "capacity": "8MiB", "format": "raw"}}
    web = tiny.machine("web-1", {"stop": {"timeout": "30s"}}, disks=[disk], guestAgent=True, graphics=[{"type": "vnc"}])
    web["metadata"]["labels"] = {"tier": "web"}
    other = idle("db-1", cpus=2)
    project.converge(pool(), web, other)
    (domain, second) = (connection.lookupByName(name) for name in ("web-1", "db-1"))

    # in the guest
    assert vm(project, "wait", "web-1", "--for", "agent", "--timeout", "60s").code == 0
    ran = binary(project, "exec", "web-1", "--", "sh", "-c", "cat; echo err >&2; exit 3")
    assert (ran.returncode, ran.stderr) == (3, b"err\n")
    assert binary(project, "exec", "-i", "web-1", "--", "cat", stdin=b"in\n").stdout == b"in\n"
    for result, said in (
        ("", "cloud-init is not done"),
        ('{"v1": {"errors": ["no such package"]}}', "cloud-init has failed"),
        ('{\n "v1": {\n  "datasource": "DataSourceNoCloud",\n  "errors": []\n }\n}', ""),
    ):
        told = f"mkdir -p /run/cloud-init; echo '{result}' >/run/cloud-init/result.json" if result else "true"
        assert binary(project, "exec", "web-1", "--", "sh", "-c", told).returncode == 0
        waited = vm(project, "wait", "web-1", "--for", "cloud-init", "--timeout", "0s" if said else "60s")
        assert waited.code == (1 if said else 0), waited
        assert said in waited.out + waited.err
    data = bytes(range(256)) * 500
    (tmp_path / "here").write_bytes(data)
    assert binary(project, "copy", f"{tmp_path}/here", "web-1:/tmp/").returncode == 0
    assert binary(project, "copy", "web-1:/tmp/here", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == data
    assert b"No such file" in binary(project, "copy", "web-1:/nonesuch", str(tmp_path / "none")).stderr
    assert not (tmp_path / "none").exists()
    said, code = console(project, "web-1", tmp_path / "log")
    assert (code, "connected to web-1; ^] ends this" in said, said.rstrip().endswith("disconnected")) == (0, True, True)
    assert "guest: noted" in (tmp_path / "log").read_text(errors="replace")

    # its screen
    assert vm(project, "display", "web-1").out.startswith("vnc://127.0.0.1:59")
    assert binary(project, "screenshot", "web-1", "-o", "-").stdout.startswith(b"\x89PNG")
    pressed = vm(project, "send-key", "web-1", "enter", "--type", "root").out
    assert pressed == "web-1: pressed the keys of the text, enter\n"

    # what it uses: one call a look, over what opening costs
    proxy = Proxy(project.host)
    try:
        calls = []
        for looks in ("1", "2"):
            before = proxy.calls
            done = kvmstate("vm", "top", "-c", proxy.uri, "-n", looks, "--interval", "0.5", "--json")
            calls.append(proxy.calls - before)
    finally:
        proxy.close()
    assert calls[1] - calls[0] == 1
    used = {each["name"]: each for each in json.loads(done.out.splitlines()[-1])["machines"]}
    assert used["web-1"]["cpu"] is not None
    assert {each["name"] for each in used["web-1"]["disks"]} == {"vda"}

    # paused, as the docs show it; a saved machine goes on as it was
    boot = tiny.boot()
    shown(project, 0)
    assert "resumes it" in vm(project, "list", "--selector", "tier=web").out
    assert vm(project, "unpause", "web-1").out == "web-1: runs again\n"
    web["spec"]["state"] = "saved"
    project.converge(pool(), web, other)
    assert "web-1  saved" in vm(project, "list").out
    assert vm(project, "restore", "web-1").out.startswith("web-1: goes on from its saved memory\n")
    assert tiny.boot() == boot
    web["spec"]["state"] = "running"
    file = f"/var/lib/libvirt/{tmp_path.name}.save"
    assert vm(project, "save", "web-1", "--file", file).code == 0
    assert "is there already" in vm(project, "save", "db-1", "--file", file).err
    assert vm(project, "restore", "db-1", "--file", file).code == 1
    # the memory knows nothing of what somebody writes now
    [image] = project.path("images").glob("web-1-data*")
    os.utime(image)
    refused = vm(project, "restore", "web-1", "--file", file)
    assert (refused.code, "vda was written to after its memory was saved" in refused.err) == (1, True), refused
    told = vm(project, "restore", "web-1", "--file", file, "--force").out.splitlines()
    assert (told[0], "says saved: the next apply saves its memory" in told[1]) == (f"web-1: goes on from {file}", True)
    assert tiny.boot() == boot

    # a pending restart is done once
    other["spec"]["cpus"] = 1
    project.converge(pool(), web, other)
    before = connection.lookupByName("db-1").ID()
    assert "waits for a restart: maxCpus, cpus" in vm(project, "list", "db-1").out
    done = vm(project, "reboot", "--apply-pending", "*")
    assert sorted(done.out.splitlines()) == [
        "db-1: restarted, and has taken on maxCpus, cpus",
        "web-1: nothing waits for a restart",
    ]
    assert (connection.lookupByName("db-1").ID() != before, second.maxVcpus(), domain.isActive()) == (True, 1, 1)
    assert "pending" not in project.plan().out

    # with a daemon: it is refused, or held
    config = project.folder / "kvmstate.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"reconcile": {"metrics": "machines"}}))
    daemon = run()
    shown(project, 1)
    for verb in (["poweroff"], ["pause"], ["save"], ["save", "--file", file]):
        refused = vm(project, verb[0], "db-1", *verb[1:])
        assert "would undo it at once: its manifest (project shop) says running" in refused.err
    assert domain.isActive()
    assert second.isActive()
    shown(project, 2)
    assert vm(project, "poweroff", "db-1", "--no-hold").code == 0
    daemon.says("DriftCorrected", "domain/db-1")
    assert not domain.isActive()
    domain.create()
    assert "says running" not in vm(project, "list", "web-1").out
    assert vm(project, "pause", "web-1").code == 0
    assert kvmstate("resume", "-C", str(project.folder), "domain/web-1").code == 0
    daemon.says("DriftCorrected", "domain/web-1")
    assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING

    # memory in a file is held until it is restored
    until(lambda: tiny.boot() != boot, "it has booted again")
    boot, kept = tiny.boot(), f"/var/lib/libvirt/{tmp_path.name}.held"
    held = vm(project, "save", "web-1", "--file", kept, "--hold")
    assert "says running, and it is suspended" in held.out, held
    assert vm(project, "restore", "web-1", "--file", kept).out.startswith(f"web-1: goes on from {kept}\n")
    assert kvmstate("resume", "-C", str(project.folder), "domain/web-1").code == 0
    assert tiny.boot() == boot

    # one that only observes undoes nothing
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"reconcile": {"mode": "observe"}}))
    done = until(lambda: (done := vm(project, "pause", "db-1")).code == 0 and done, "it says that it only observes")
    assert done.out == "db-1: paused\n  its manifest (project shop) says running: the next apply resumes it\n"


def bring(domain: libvirt.virDomain, state: str) -> None:
    if domain.hasManagedSaveImage(0):
        domain.managedSaveRemove(0)
    if domain.isActive():
        domain.destroy()
    if state != "stopped":
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if state == "paused" else 0)
    if state == "saved":
        domain.managedSave(0)


def test_each_verb_prints_on_a_host_what_the_docs_tell(
    project: Project, connection: libvirt.virConnect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of all, on the host and by ssh in turn; script/trials verbs tries all of them."""
    monkeypatch.chdir(tmp_path)
    domain = connection.defineXML(ALONE)
    by_ssh = Server(project.host, tmp_path).uri()
    cells = [(verb, at) for verb in TABLE for at in range(4) if (verb, STATES[at]) not in DEAF]
    some, order = int(os.environ.get("KVMSTATE_VERBS", 2)), random.Random(os.environ.get("KVMSTATE_SEED"))
    for number, (verb, at) in enumerate(order.choices(cells, k=some) if some < len(cells) else 2 * cells):
        bring(domain, STATES[at])
        first, *words = verb.split() if "NAME" in verb else (verb, "NAME")
        uri = by_ssh if (number + number // len(cells)) % 2 else project.uri
        done = kvmstate("vm", first, "-c", uri, *(word.replace("NAME", "alone") for word in words))
        said = (done.out or done.err).splitlines()[0].removeprefix("error: ").removeprefix("alone: ")
        said = re.sub(r"\balone\b", "NAME", said) + (f" ({done.code})" if done.code else "")
        assert said == TABLE[verb][at], (verb, STATES[at], uri)


def test_machines_of_nobody(project: Project, connection: libvirt.virConnect) -> None:
    connection.defineXML(ALONE)
    assert vm(project, "start", "alo*").out == "alone: started\n"
    refused = vm(project, "shutdown", "alone", "--timeout", "1s")
    assert refused.code == 1
    assert "alone: the guest did not shut down within 1 s" in refused.err
    assert "`kvmstate vm poweroff alone` does not ask the guest" in refused.err
    assert connection.lookupByName("alone").isActive()
    assert "has no screen" in vm(project, "display", "alone").err
    assert "no address of alone is known" in vm(project, "ssh", "alone").err
    assert vm(project, "poweroff", "alone", "--hold").out == "alone: powered off\n"
