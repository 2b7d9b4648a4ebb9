"""A value that is put into every field which takes a secret is nowhere but where it comes from, and in libvirt."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest
from daemons import Daemon
from harness import MAIN, ROOT, Project, resource, until

from kvmstate.kinds import ALL_KINDS
from kvmstate.xmlbind import Section, bindings
from tests.reconcile.test_no_secrets import recorded, served

pytestmark = pytest.mark.real

CANARY = "canary-"
# all that is marked as a secret; with each, where it is filled here
FIELDS = {
    **dict.fromkeys(
        ("CloudInit.users", "CloudInit.runCommands", "CloudInit.userData", "CloudInit.vendorData"), "seeded"
    ),
    **dict.fromkeys(("Ignition.config", "Combustion.script"), "seeded"),
    **dict.fromkeys(("Seed.userData", "Seed.vendorData"), "by cloudInit"),
    "Seed.files": "by combustion",
    "VirtualMachineSpec.ignitionText": "by ignition",
    **dict.fromkeys(("Kernel.cmdline", "InstallKernel.cmdline"), "machine"),
    **dict.fromkeys(("Cookie.value", "Qemu.arguments", "Variable.value", "Sysinfo.oemStrings"), "passed on"),
    "Entry.value": "to the firmware",
    **dict.fromkeys(("VolumeSpec.madeFor", "DiskVolume.madeFor", "VersionOf.recipe"), "digests, by kvmstate"),
    "TemplateSpec.defaults": "cloned",
    **dict.fromkeys(("Build.runCommands", "Build.firstBoot", "BuildFile.content"), "built"),
    "Password.clear": "machine, by a Secret and in clear",
    "Value.clear": "secret",
    "Value.data": "secret, from a file, the environment and a program",
}
# documents with secrets at places, and values by XPath
DOCUMENTS = {"remainder"}


def declared() -> set[str]:
    found, todo = set[type[Section]](), [section for kind in ALL_KINDS for section in kind.sections]
    while todo:
        section = todo.pop()
        if section not in found:
            found.add(section)
            todo += [inner for b in bindings(section) for inner in b.sections]
    return {
        f"{section.__name__}.{b.alias}"
        for section in found
        for b in bindings(section)
        if b.sensitive and not b.sensitive.document and b.alias not in DOCUMENTS
    }


def documents(number: int, spice: bool = True) -> list[dict[str, Any]]:
    """Not every QEMU has SPICE."""
    kernel = {"path": "/var/lib/libvirt/vmlinuz", "cmdline": f"console=ttyS0 luks={CANARY}{number}"}
    xml = {
        "./qemu:commandline/qemu:env/@name": "SOMETHING",
        "./qemu:commandline/qemu:env/@value": f"{CANARY}{number}",
    }
    screens = [
        {"type": "vnc", "password": {"secret": "screen"}},
        *([{"type": "spice", "password": {"clear": f"{CANARY}{number}"}}] if spice else []),
    ]
    rbd = {"protocol": "rbd", "name": "vms/root", "hosts": [{"name": "ceph1"}]}
    disk = {
        "name": "root",
        "network": {**rbd, "auth": {"username": "vms", "type": "ceph", "secret": "by-file"}},
        "encryption": {"format": "luks", "secret": "by-program"},
    }
    source = {"host": "nas", "device": "iqn.2026-01.example:a", "auth": {"username": "a", "secret": {"secret": "chap"}}}
    told = {
        "pool": "seeds",
        "users": ["default", {"name": "ada", "passwd": f"{CANARY}{number}"}],
        "runCommands": [f"echo {CANARY}{number}", ["echo", f"{CANARY}{number}"]],
        "userData": {"write_files": [{"path": "/motd", "content": f"{CANARY}{number}"}]},
        "vendorData": f"#!/bin/sh\n# {CANARY}{number}",
    }
    run = {
        "ignition": {"config": {"ignition": {"version": "3.4.0"}, "passwd": f"{CANARY}{number}"}},
        "combustion": {"script": f"#!/bin/sh\n# {CANARY}{number}", "pool": "seeds"},
    }
    passed = {
        "qemu": {"arguments": [f"-{CANARY}{number}"], "environment": [{"name": "OTHER", "value": f"{CANARY}{number}"}]},
        "sysinfo": {"type": "smbios", "oemStrings": [f"{CANARY}{number}"]},
        "disks": [
            {
                "name": "root",
                "network": {
                    "protocol": "https",
                    "name": "root.raw",
                    "hosts": [{"name": "web1"}],
                    "cookies": [{"name": "session", "value": f"{CANARY}{number}"}],
                },
            }
        ],
    }
    firmware = {"type": "fwcfg", "entries": [{"name": "opt/com.example/key", "value": f"{CANARY}{number}"}]}
    empty = {"name": "root", "create": {"pool": "seeds", "capacity": "1MiB"}}
    installed = {"install": {"kernel": kernel}, "disks": [empty]}
    build = {
        "runCommands": [f"echo {CANARY}{number}"],
        "firstBoot": [f"echo {CANARY}{number}"],
        "files": [{"path": "/etc/motd", "content": f"{CANARY}{number}"}],
    }
    image = {"pool": "seeds", "source": {"file": "image.raw"}}
    return [
        resource("Template", "cloned", **image, defaults={"memory": "64MiB", "state": "stopped", "cloudInit": told}),
        resource("VirtualMachine", "clone", template="cloned"),
        # without virt-sysprep, or of an image without a system: it fails
        resource("Template", "built", **image, build=build),
        resource("StoragePool", "seeds", type="dir", target={"path": "/var/lib/libvirt/behaviours/seeds"}),
        resource("VirtualMachine", "seeded", memory="64MiB", state="stopped", cloudInit=told, **run),
        resource("Secret", "by-file", usage="ceph", value={"from": "file", "encoding": "base64"}),
        resource("Secret", "chap", usage="iscsi", private=True, value={"from": "env"}),
        # what it opens would be lost with another value, unless that is allowed
        resource("Secret", "by-program", {"replace": "allow"}, usage="volume", value={"from": "program"}),
        resource("Volume", "locked", pool="seeds", content={"file": "image.raw"}, encryption={"secret": "by-program"}),
        resource("Secret", "screen", usage="tls", ephemeral=True, value={"from": "screen"}),
        resource("Secret", "in-clear", usage="vtpm", value={"clear": f"{CANARY}{number}"}),
        resource(
            "StoragePool", "luns", type="iscsi", active=False, source=source, target={"path": "/dev/disk/by-path"}
        ),
        resource("VirtualMachine", "web", memory="64MiB", state="stopped", graphics=screens, disks=[disk], xml=xml),
        resource("VirtualMachine", "db", memory="64MiB", state="stopped", kernel=kernel, **installed),
        resource("VirtualMachine", "passed", memory="64MiB", state="stopped", **passed),
        resource("VirtualMachine", "firmware", memory="64MiB", state="stopped", sysinfo=firmware),
        # what fails is told, too
        resource("VirtualMachine", "bad", memory="64MiB", state="stopped", xml={**xml, "./nonsense/@password": CANARY}),
    ]


@pytest.fixture
def arguments() -> Iterator[set[bytes]]:
    """The command lines of all processes while the test runs, as `ps` shows them."""
    seen, over = set[bytes](), threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            for each in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(each.read_bytes())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield seen
    over.set()
    thread.join()


def test_every_field_that_takes_a_secret_is_in_this_test() -> None:
    assert declared() == {*FIELDS}


def test_the_canary_is_nowhere(
    project: Project,
    connection: libvirt.virConnect,
    run: Callable[..., Daemon],
    arguments: set[bytes],
    tmp_path: Path,
) -> None:
    sources, kept = tmp_path / "sources", tmp_path / "kept"
    sources.mkdir()
    program = sources / "bin" / "sops"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nprint(open({str(sources / 'program')!r}).read(), end='')\n")
    program.chmod(0o755)
    # a passphrase is slow to guess; here little work is done for it
    image = program.with_name("qemu-img")
    image.write_text(
        "#!/bin/sh\nfor word; do shift; case $word in compat=*key-secret=*) word=$word,encrypt.iter-time=1 ;; esac\n"
        'set -- "$@" "$word"; done\nexec /usr/bin/qemu-img "$@"\n'
    )
    image.chmod(0o755)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "KVMSTATE_DEBUG": "1",
        "XDG_STATE_HOME": str(kept),
        "XDG_CACHE_HOME": str(kept),
    }
    places = {
        "file": f"file:{sources}/file",
        "env": "env:CHAP",
        "program": f"sops:{sources}/a#b",
        "screen": f"file:{sources}/screen",
    }
    (sources / "secrets.yaml").write_text("".join(f"{name}: {place}\n" for name, place in places.items()))
    options = ("--secrets", str(sources / "secrets.yaml"))

    (project.folder / "image.raw").write_bytes(bytes(1 << 20))

    spice = ">spice<" in connection.getDomainCapabilities(virttype="qemu")

    def put(number: int) -> None:
        (sources / "file").write_text(base64.b64encode(f"{CANARY}{number}".encode()).decode())
        for name in ("program", "screen"):
            (sources / name).write_text(f"{CANARY}{number}\n")
        env["CHAP"] = os.environ["CHAP"] = f"{CANARY}{number}"
        project.write(*documents(number, spice))

    said: list[str] = []

    def kvmstate(*words: str) -> int:
        command = [sys.executable, "-c", MAIN, *words]
        done = subprocess.run(command, env=env, cwd=project.folder, capture_output=True, text=True, check=False)
        said.append(done.stdout + done.stderr)
        return done.returncode

    put(1)
    plan = tmp_path / "plan.json"
    kvmstate("validate")
    kvmstate("graph")
    for fmt in ("text", "json", "yaml", "markdown"):
        assert kvmstate("plan", "--format", fmt, *options) == 0, said[-1]
    assert kvmstate("plan", "--out", str(plan), *options) == 0, said[-1]
    kvmstate("apply", str(plan), ".", "--auto-approve", *options)
    assert "domain/bad" in said[-1]
    secure = connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    assert secure.count(f"passwd='{CANARY}1'") == 1 + spice, said[-1]
    assert connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_VOLUME, "by-program").value() == b"canary-1"
    locked = project.path("seeds/locked").read_bytes()
    assert int.from_bytes(locked[32:36], "big") == 2, "it is not encrypted"
    assert CANARY.encode() not in locked
    assert any(b"secret,id=k,file=/proc/self/fd/" in each for each in arguments)
    put(2)
    for words in (
        ("plan",),
        ("plan", "--json"),
        ("status", "--json"),
        ("drift", "--json"),
        ("apply", "--auto-approve"),
    ):
        kvmstate(*words, *options)
    kvmstate("apply", "--auto-approve", "--secret", f"program=file:{sources}/nothing", *options)
    assert "No such file" in said[-1]
    foreign = "<secret ephemeral='no' private='no'><usage type='tls'><name>foreign</name></usage></secret>"
    connection.secretDefineXML(foreign).setValue(f"{CANARY}foreign".encode())
    kvmstate("import", "--all", "--output", str(tmp_path / "imported"), "--project", "other", "-c", project.uri)
    os.environ["PATH"], path = env["PATH"], os.environ["PATH"]
    try:
        daemon = run(*options)
        put(3)
        until(
            lambda: f"{CANARY}3" in connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE), "it is set"
        )
        chap = connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "by-file")
        until(lambda: chap.value() == b"canary-3", "it is set")
        said += [served(daemon, each) for each in ("/status", "/events", "/metrics")]
        assert daemon.stop() == 0
    finally:
        os.environ["PATH"] = path
        del os.environ["CHAP"]
    said += [recorded(connection), *map(str, daemon.events()), *(each.decode(errors="replace") for each in arguments)]
    folders = [plan, kept, tmp_path / "imported", *map(Path, daemon.env.values()), *tmp_path.glob("run-*.log")]
    files = [path for top in folders for path in (top.rglob("*") if top.is_dir() else [top]) if path.is_file()]
    assert {path.name for path in files} >= {"plan.json", "foreign.yaml", "run-0.log", "shop.events.jsonl"}
    said += [path.read_bytes().decode(errors="replace") for path in files]
    for text in said:
        assert CANARY not in text, text
        assert base64.b64encode(CANARY.encode()).decode()[:8] not in text, text
