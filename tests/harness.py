"""A project on a throw-away host, driven by the command line as its users do."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import yaml

from kvmstate.cli import run
from kvmstate.errors import ConnectionFailed
from kvmstate.host import open_host
from kvmstate.kinds.network_filter.spec import GIVEN
from kvmstate.model.uri import Refused, check
from kvmstate.sandbox import Sandbox, execute

ROOT = Path(__file__).parents[1]
# the sandbox gives up a libvirtd that ends younger than this
YOUNG = 3.0
# of the tiny Linux; what it need not do, emulated, is a quarter of its start
QUICK = "console=ttyS0 quiet no_timer_check cryptomgr.notests nokaslr noreplace-smp mitigations=off audit=0 lsm="
MAIN = "from kvmstate.cli import main; main()"


def patching(**values: str) -> str:
    """Python for a process of its own, run before kvmstate: sets names of modules, with __ for the dots below kvmstate
    (`reconcile__reconciler__SETTLE`), to these expressions. Raises AttributeError for a name that nothing has."""
    lines = []
    for name, value in values.items():
        module, _, attribute = f"kvmstate.{name.replace('__', '.')}".rpartition(".")
        getattr(importlib.import_module(module), attribute)
        lines.append(f"import {module}; {module}.{attribute} = {value}; ")
    return "".join(lines)


def resource(kind: str, name: str, lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """One document of a manifest."""
    document = {"apiVersion": "kvmstate/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return document | ({"lifecycle": lifecycle} if lifecycle else {})


def pool(name: str = "images") -> dict[str, Any]:
    return resource("StoragePool", name, type="dir", target={"path": f"/var/lib/libvirt/behaviours/{name}"})


# how many times longer than usual a test waits, where much else runs
PATIENCE = float(os.environ.get("KVMSTATE_PATIENCE", "1"))


def until(holds: Callable[[], Any], what: str | Callable[[], str], seconds: float = 60) -> Any:
    """What `holds` gives as soon as it is true; fails with `what`, as it is then, when it never is."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.02)
    return value


def as_yaml(*documents: object) -> str:
    """By libyaml, in a tenth of the time that PyYAML's own Python takes."""
    return str(yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False))


def from_yaml(text: str) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader)


@dataclass
class Run:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def kvmstate(*args: str) -> Run:
    """The command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(args))
    assert "bug in kvmstate" not in err.getvalue(), err.getvalue()
    return Run(code, out.getvalue(), err.getvalue())


class Project:
    """A folder of manifests for one host."""

    def __init__(self, host: Sandbox | str, folder: Path, name: str = "shop") -> None:
        """`host` is a throw-away host, or the URI of another one."""
        self._host = host
        self.folder = folder
        self.name = name
        folder.mkdir(exist_ok=True)
        (folder / "kvmstate.yaml").write_text(f"project: {name}\n{self._connection}manifests: [manifests.yaml]\n")
        self.write()

    @property
    def host(self) -> Sandbox:
        assert isinstance(self._host, Sandbox)
        return self._host

    @property
    def uri(self) -> str:
        return self._host if isinstance(self._host, str) else self._host.uri

    @property
    def _connection(self) -> str:
        try:
            return f"connection: {check(self.uri)}\n"
        except Refused:
            # what names programs and keys is not for files
            os.environ["LIBVIRT_DEFAULT_URI"] = self.uri
            return ""

    def write(self, *documents: dict[str, Any]) -> None:
        text = as_yaml(*documents) if documents else "# nothing\n"
        (self.folder / "manifests.yaml").write_text(text)

    def kvmstate(self, command: str, *options: str) -> Run:
        return kvmstate(*command.split(), str(self.folder), *options)

    def start_apply(self, *options: str, first: str = "") -> subprocess.Popen[bytes]:
        """An apply in a process of its own, to be killed; what it says is in `log`. `first` is Python, run before."""
        with self.log.open("w") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"{first}\nfrom kvmstate.cli import main; main()",
                    "apply",
                    "--auto-approve",
                    *options,
                ],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> Path:
        return self.folder / "apply.log"

    def plan(self, *options: str) -> Run:
        return self.kvmstate("plan", "--detailed-exitcode", *options)

    def apply(self, *options: str) -> Run:
        return self.kvmstate("apply", "--auto-approve", *options)

    def converge(self, *documents: dict[str, Any], options: tuple[str, ...] = ()) -> Run:
        """Write manifests (else those written stay), apply, and see that nothing is left to do."""
        if documents:
            self.write(*documents)
        applied = self.apply(*options)
        assert applied.code == 0, applied
        planned = self.plan(*options)
        assert planned.code == 0, planned
        return applied

    def todo(self, *options: str) -> Counter[str]:
        """How many resources apply would do what to, as JSON calls it: create, update, delete, delete+create, adopt.
        What is blocked is not counted; `pending` are those that wait for a restart."""
        planned = self.kvmstate("plan", "--json", *options)
        changes = [c for c in json.loads(planned.out)["resource_changes"] if not c["blocked"]]
        done = Counter("+".join(c["change"]["actions"]) for c in changes)
        done["pending"] = sum(bool(c["restart_pending"]) for c in changes)
        del done["no-op"]
        return +done

    def syncs(self) -> dict[str, str]:
        """The state of each resource, by its address: InSync, RestartPending, ..."""
        return {row["address"]: row["sync"] for row in json.loads(self.kvmstate("status", "--json").out)["resources"]}

    def path(self, volume: str) -> Path:
        """Where a volume `pool/name` is, seen from outside of the host."""
        return self.host.directory / "lib" / "behaviours" / volume


def idle(name: str, lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A machine with nothing to boot, which does not hear the power button: quicker to start than a guest."""
    powered_off = {"stop": {"timeout": "1s", "onTimeout": "destroy"}}
    return resource("VirtualMachine", name, powered_off | (lifecycle or {}), **{"memory": "32MiB", **spec})


@dataclass(frozen=True)
class Guest:
    """A machine that boots the tiny Linux, and what it says on its console (see script/guest-init)."""

    kernel: dict[str, str]
    log: Path

    def machine(self, name: str, lifecycle: dict[str, Any] | None = None, options: str = "", **spec: Any) -> Any:
        """Powered off without much ado, unless a lifecycle says otherwise."""
        return resource(
            "VirtualMachine",
            name,
            lifecycle or {"stop": {"timeout": "1s", "onTimeout": "destroy"}},
            **{
                "memory": "128MiB",
                "kernel": {**self.kernel, "cmdline": f"{QUICK} {options}".rstrip()},
                "serials": [{"port": 0, "log": str(self.log)}],
                **spec,
            },
        )

    def said(self) -> str:
        return self.log.read_text(errors="replace").replace("\r", "") if self.log.exists() else ""

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until its last whole line about itself matches."""

        def last() -> re.Match[str] | None:
            lines = [line for line in self.said().split("\n")[:-1] if line.startswith("guest: up")]
            return re.search(pattern, lines[-1]) if lines else None

        match: re.Match[str] = until(last, lambda: f"{pattern!r} on the console, which says:\n{self.said()[-1000:]}")
        return match

    def boot(self) -> str:
        """Which boot this is: another one after every restart."""
        return self.says(r"boot=(\w+)")[1]


def wipe(uri: str) -> None:
    """Everything goes from the host, files of pools in the usual place included."""
    connection = libvirt.open(uri)
    try:
        for domain in connection.listAllDomains():
            persistent = domain.isPersistent()
            if domain.isActive():
                domain.destroy()
            if persistent:
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                )
        for found in (*connection.listAllNetworks(), *connection.listAllStoragePools()):
            persistent = found.isPersistent()
            if found.isActive():
                found.destroy()
            if persistent:
                found.undefine()
        for each in connection.listAllNWFilters():
            if each.name() not in GIVEN:
                each.undefine()
        for secret in connection.listAllSecrets():
            secret.undefine()
    finally:
        connection.close()


def clear(host: Sandbox) -> None:
    """As if nobody had used the host."""
    forget_starts(host)
    wipe(host.uri)
    # of a libvirtd that was killed while it started a network
    left = re.findall(r"^ *(virbr\d+):", Path(f"/proc/{host.pid}/net/dev").read_text(), re.M)
    for bridge in left:
        execute(host, ["ip", "link", "delete", bridge])
    shutil.rmtree(host.directory / "lib" / "behaviours", ignore_errors=True)


def forget_starts(host: Sandbox) -> None:
    """As kvmstate.host.hints says: a libvirtd that is killed just as it starts QEMU takes the machine up as one that is
    starting, for good. What it has noted of it is deleted."""
    left = [p for p in (host.directory / "run/libvirt/qemu").glob("*.xml") if "pid='0'" in p.read_text()]
    if left:
        for path in left:
            path.unlink()
        os.kill(await_old(host), signal.SIGKILL)
        await_answer(host)


def await_old(host: Sandbox) -> int:
    """The pid of the host's libvirtd, once the sandbox would start it again."""
    deadline = time.monotonic() + 60 * PATIENCE
    while True:
        for pid in Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split():
            stat = Path(f"/proc/{pid}/stat").read_text()
            uptime = float(Path("/proc/uptime").read_text().split()[0])
            age = uptime - int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
            if "(libvirtd)" in stat and age > YOUNG:
                return int(pid)
        assert time.monotonic() < deadline, "the sandbox has given up its libvirtd"
        time.sleep(0.05)


def await_answer(host: Sandbox) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with open_host(host.uri):
                return
        except ConnectionFailed:
            assert time.monotonic() < deadline
            time.sleep(0.05)
