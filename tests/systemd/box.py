"""A Debian with a systemd of its own, booted in namespaces."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from harness import until

ROOT = Path(__file__).parents[2]
PROGRAM = "/opt/kvmstate/bin/kvmstate"


class Box:
    """Runs until `close`; `kvmstate` is installed in it as in a wheel."""

    def __init__(self, tree: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kvmstate-systemd-"))
        self._cgroup = _cgroups() / f"kvmstate-systemd-{os.getpid()}"
        self._cgroup.mkdir()
        self._log = (self._folder.with_suffix(".log")).open("w+")
        command = [Path(__file__).with_name("boot.sh"), tree, self._folder, self._cgroup]
        # in a session of its own: a Ctrl-C is for the tests
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, start_new_session=True)
        try:
            until(lambda: self.sh("systemctl is-system-running").stdout.strip() in ("running", "degraded"), "booted")
            self._install()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            until(partial(_removed, folder), f"nothing is left in {folder}")
        self._log.close()
        os.unlink(self._log.name)
        shutil.rmtree(self._folder)

    def sh(self, script: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a script in it, as root."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            assert self._process.poll() is None, Path(self._log.name).read_text()
            return subprocess.CompletedProcess([], 1, "", "")
        enter = ["nsenter", "--target", children[0], *["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--"]]
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        bare = ["/usr/bin/env", "-i", path, "HOME=/root", "LANG=C.UTF-8", "/bin/bash", "-euc", script]
        done = subprocess.run([*enter, *bare], capture_output=True, text=True, check=False, cwd="/", timeout=120)
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done

    def run(self, script: str) -> str:
        """What a script that must succeed prints."""
        return self.sh(script, check=True).stdout.strip()

    def write(self, path: str, text: str) -> None:
        """A file, as an editor writes it: whole."""
        script = f'mkdir -p "$(dirname {path})"; printf %s {shlex.quote(text)} > {path}.new; mv {path}.new {path}'
        self.run(script)

    def _install(self) -> None:
        files = ["kvmstate", "pyproject.toml", "README.md"]
        packed = subprocess.run(
            ["tar", "-C", ROOT, "--exclude=__pycache__", "-c", *files], stdout=-1, check=True
        ).stdout
        target = Path(f"/proc/{self._leader()}/root/srv")
        subprocess.run(["tar", "-C", target, "-x"], input=packed, check=True)
        self.run("cd /srv && /opt/kvmstate/bin/pip install -q --no-index --no-deps --no-build-isolation . 2>&1")

    def _leader(self) -> str:
        return Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0]


class Unit:
    """A project's service in a box."""

    def __init__(self, box: Box, project: str) -> None:
        self.box = box
        self.project = project
        self.name = f"kvmstate@{project}.service"

    def kvmstate(self, verb: str, *options: str) -> str:
        words = shlex.join([verb, "--project", self.project, *options])
        return self.box.run(f"{PROGRAM} service {words} 2>&1")

    def manifests(self, settings: str = "", **files: str) -> None:
        """Where the service looks for them by itself."""
        folder = f"/etc/kvmstate/{self.project}"
        for name, text in files.items():
            self.box.write(f"{folder}/{name}.yaml", text)
        self.box.write(f"{folder}/kvmstate.yaml", f"project: {self.project}\n{settings}")

    def override(self, *lines: str) -> None:
        """As `systemctl edit` does."""
        self.box.write(f"/etc/systemd/system/{self.name}.d/override.conf", "\n".join(["[Service]", *lines, ""]))
        self.box.run("systemctl daemon-reload")

    def __getitem__(self, name: str) -> str:
        """A property, as `systemctl show` has it."""
        return self.box.run(f"systemctl show --property={name} --value {self.name}")

    def becomes(self, state: str, seconds: float = 30) -> None:
        try:
            until(lambda: self["ActiveState"] == state, f"{self.name} is {state}", seconds)
        except AssertionError as error:
            error.add_note(self.log()[-3000:])
            raise

    def log(self) -> str:
        return self.box.run(f"journalctl --unit={self.name} --output=cat --no-pager")


def _removed(cgroup: str) -> bool:
    """Which works once its last process has been reaped."""
    try:
        os.rmdir(cgroup)
    except OSError:
        return False
    return True


def _cgroups() -> Path:
    """Where cgroup2 is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise AssertionError("this machine has no cgroup2")
