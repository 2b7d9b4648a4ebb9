"""What cloudInit says, read back in a guest that has booted a cloud image: each short form, and what an edit does.

Minutes on an emulated CPU, so that it is run only when asked for: script/trials cloud-init, or KVMSTATE_CLOUD_INIT=1.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import MAIN, PATIENCE, ROOT, Project, kvmstate, pool, resource, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("KVMSTATE_CLOUD_INIT" not in os.environ, reason="takes minutes: script/trials cloud-init"),
]

# Seconds in which an emulated machine boots, and how kvmstate is told them
BOOTS = 600
TIMEOUT = f"{BOOTS * PATIENCE:g}s"
GATEWAY, PORT = "192.168.150.1", 8150
RANGE = {"start": "192.168.150.100", "end": "192.168.150.200"}
PACKAGE = "from-the-repository"
# In the guest, as root, by its agent. The root file system is the one of an image of about 1 GiB.
READ = r"""
hostname
cat /var/lib/cloud/data/instance-id
cat /etc/ssh/ssh_host_ed25519_key.pub
cat /usr/share/from-the-repository 2>&1
tr '\n' ';' </root/shell; echo
tr '\n' ';' </root/boots; echo
ls '/root/as it is' 2>&1
stat -f -c '%b %S' /
cat /root/kept 2>&1
cat /proc/sys/kernel/random/boot_id
"""


@pytest.fixture
def repository(project: Project, tmp_path: Path) -> Iterator[str]:
    """Packages of a distribution of its own, which the guest reaches on its network; the network has to be there."""
    root, folder = tmp_path / "package", tmp_path / "repository"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr" / "share").mkdir(parents=True)
    folder.mkdir()
    (root / "usr" / "share" / PACKAGE).write_text("installed\n")
    about = (
        f"Package: {PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: -\n"
    )
    (root / "DEBIAN" / "control").write_text(about)
    file = folder / f"{PACKAGE}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, file], check=True, capture_output=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "Packages").write_text(f"{about}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n")
    serve = [sys.executable, "-m", "http.server", str(PORT), "--directory", str(folder)]
    server = subprocess.Popen([*on_its_network(project), *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"deb [trusted=yes] http://{GATEWAY}:{PORT}/ ./\n"
    server.kill()
    server.wait()


def on_its_network(project: Project) -> list[str]:
    """Runs a program in the throw-away host's network, with the files of this machine."""
    user = ["--user", "--preserve-credentials"] if os.geteuid() else []
    return ["nsenter", "--target", str(project.host.pid), *user, "--net"]


def key(folder: Path, name: str) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    return (folder / f"{name}.pub").read_text().strip()


class Web:
    """The machine, and what is seen in its guest."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def _exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", MAIN, "vm", "exec", "web", "-c", self._project.uri, "--", *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def by_agent(self, *words: str) -> str:
        done = self._exec(*words)
        assert done.returncode == 0, done
        return done.stdout

    def boot(self) -> str:
        """Which boot this is; empty while nothing answers."""
        return self._exec("cat", "/proc/sys/kernel/random/boot_id").stdout.strip()

    def by_ssh(self, user: str, identity: Path) -> str:
        """As whom `sudo` runs programs, and who is logged in, with that key and without a password; or why not."""
        rows = json.loads(self._project.kvmstate("status", "--json").out)["resources"]
        [address] = [row["addresses"][0] for row in rows if row["address"] == "domain/web"]
        options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        said = [word for option in [*options, "LogLevel=ERROR"] for word in ("-o", option)]
        words = [*on_its_network(self._project), "ssh", "-F", "none", "-i", str(identity), *said, f"{user}@{address}"]
        done = subprocess.run([*words, "sudo -n id -u; id -un"], capture_output=True, text=True, check=False)
        return done.stdout or done.stderr

    def read(self) -> dict[str, Any]:
        said = self.by_agent("sh", "-c", READ).splitlines()
        names = ("host", "instance", "key", "package", "shell", "boots", "list", "size", "kept", "boot")
        assert len(said) == len(names), said
        found: dict[str, Any] = dict(zip(names, said, strict=True))
        blocks, size = map(int, found["size"].split())
        return {**found, "size": blocks * size}

    def keep(self, word: str) -> None:
        self.by_agent("sh", "-c", f"echo {word} >/root/kept; sync")

    def errors(self) -> str:
        """What cloud-init says went wrong in this boot."""
        return str(json.loads(self.by_agent("cat", "/run/cloud-init/result.json"))["v1"]["errors"])


def test_what_a_guest_is_told_is_so_in_it(project: Project, repository: str, tmp_path: Path) -> None:
    made = subprocess.run([ROOT / "script" / "cloud-image"], check=True, capture_output=True, text=True).stdout.strip()
    image = shutil.copy(made, tmp_path)
    network = resource("Network", "lan", ips=[{"address": f"{GATEWAY}/24", "dhcp": {"ranges": [RANGE]}}])
    base = resource("Volume", "debian.qcow2", pool="images", content={"file": image})
    ours, hers = key(tmp_path, "ours"), key(tmp_path, "hers")
    log = tmp_path / "console.log"

    def machine(host: str, on_change: str, restart: str) -> dict[str, Any]:
        created = {"backing": "images/debian.qcow2", "capacity": "3GiB", "lifecycle": {"replace": "allow"}}
        told = {
            "hostname": host,
            "sshAuthorizedKeys": [ours],
            "users": ["default", {"name": "ann", "shell": "/bin/bash", "ssh_authorized_keys": [hers]}],
            "packages": [PACKAGE],
            "runCommands": [f"echo {host} $((1 + 1)) >>/root/shell", ["touch", "/root/as it is"]],
            "growRoot": True,
            "userData": {
                # once per boot; all else once per instance
                "bootcmd": [f"echo {host} >>/root/boots"],
                "write_files": [{"path": "/etc/apt/sources.list", "content": repository}],
            },
            "onChange": on_change,
        }
        lifecycle = {"restart": restart, "stop": {"timeout": "2m", "onTimeout": "destroy"}}
        return resource(
            "VirtualMachine",
            "web",
            lifecycle,
            memory="1GiB",
            cpus=2,
            disks=[{"name": "root", "create": {"pool": "images", **created}}],
            interfaces=[{"name": "lan", "network": "lan"}],
            serials=[{"port": 0, "log": str(log)}],
            guestAgent=True,
            waitFor={"cloudInit": True, "timeout": TIMEOUT},
            cloudInit=told,
        )

    def wanted(host: str, on_change: str, restart: str = "now") -> list[dict[str, Any]]:
        return [pool(), network, base, machine(host, on_change, restart)]

    web = Web(project)
    project.converge(*wanted("first", "ignore"))
    first = web.read()
    assert (first["host"], first["instance"], first["package"]) == ("first", "web", "installed"), first
    assert (first["shell"], first["boots"], first["list"]) == ("first 2;", "first;", "/root/as it is"), first
    assert first["size"] > 2 << 30, first
    assert web.errors() == "[]"
    assert web.by_ssh("debian", tmp_path / "ours") == "0\ndebian\n"
    assert web.by_ssh("ann", tmp_path / "hers") == "ann\n"
    assert "Permission denied" in web.by_ssh("ann", tmp_path / "ours")
    assert "Permission denied" in web.by_ssh("debian", tmp_path / "hers")
    web.keep("one")

    # ignore: the edit is shown, nothing happens, and a reboot does not bring it
    project.write(*wanted("second", "ignore"))
    assert "the seed stays as it is" in project.plan().out
    project.converge()
    assert web.read() == {**first, "kept": "one"}
    assert kvmstate("vm", "reboot", "web", "-c", project.uri).code == 0
    # it answers before it goes down
    until(lambda: web.boot() not in ("", first["boot"]), "it has rebooted", BOOTS)
    waited = kvmstate("vm", "wait", "web", "--for", "cloud-init", "--timeout", TIMEOUT, "-c", project.uri)
    assert waited.code == 0, waited
    rebooted = web.read()
    assert rebooted == {**first, "kept": "one", "boots": "first;first;", "boot": rebooted["boot"]}

    # replace: another machine on a new disk, which runs all of it, and has nothing of the one before
    project.converge(*wanted("third", "replace"))
    third = web.read()
    assert third["key"] != first["key"]
    assert (third["shell"], third["boots"], "No such file" in third["kept"]) == ("third 2;", "third;", True), third
    own = ("key", "kept", "boot")
    assert third == {**first, "host": "third", "shell": "third 2;", "boots": "third;"} | {n: third[n] for n in own}
    assert web.errors() == "[]"
    assert web.by_ssh("ann", tmp_path / "hers") == "ann\n"
    web.keep("two")

    # reboot: once it may be restarted it is another instance, on the disk that it has
    project.write(*wanted("fourth", "reboot", "whenOff"))
    assert project.apply().code == 0
    assert project.syncs()["domain/web"] == "RestartPending"
    assert web.read() == {**third, "kept": "two"}
    project.converge(*wanted("fourth", "reboot"))
    fourth = web.read()
    assert fourth["key"] != third["key"]
    assert re.fullmatch("web-[0-9a-f]{8}", fourth["instance"]), fourth
    ran = {"host": "fourth", "shell": "third 2;fourth 2;", "boots": "third;fourth;", "kept": "two"}
    assert fourth == {**third, **ran} | {name: fourth[name] for name in ("key", "instance", "boot")}
    assert web.errors() == "[]"
    assert web.by_ssh("debian", tmp_path / "ours") == "0\ndebian\n"
