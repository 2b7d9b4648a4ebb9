"""Start and stop hosts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from kvmstate.errors import SandboxError
from kvmstate.pids import this_machine
from kvmstate.sandbox import folder, needs
from kvmstate.sandbox.folder import Sandbox

START_TIMEOUT = 60.0
"""Seconds until libvirtd must answer: 2 on a free machine, many more on a busy one."""

TREE = "tree"
CAPABILITIES = Path("cache", "qemu", "capabilities")

# the daemons' world does not depend on the caller's
ENVIRONMENT = {"PATH": needs.PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def start(name: str = "default", tree: Path | None = None, *, cgroups: bool = False) -> Sandbox:
    """Start a private libvirt host that outlives the caller; returns once its libvirtd answers.

    `tree` is the root folder of another Debian whose libvirt and QEMU are used (as root only). With `cgroups` its
    guests have control groups (see `has_cgroups`).
    """
    return launch(name, tree, cgroups=cgroups)[0]


def has_cgroups() -> bool:
    """Whether this machine has control groups for a host: those of version 1, and only root may make some."""
    return os.geteuid() == 0 and os.access("/sys/fs/cgroup/cpuset/cgroup.procs", os.W_OK)


def launch(
    name: str, tree: Path | None, *, held: bool = False, cgroups: bool = False
) -> tuple[Sandbox, subprocess.Popen[bytes]]:
    """Start a host; a `held` one ends, without leaving a trace, when the process' stdin is closed."""
    directory = folder.folder(name)
    needs.check(tree)
    with folder.locked():
        others = folder.sweep()
        if any(sandbox.name == name for sandbox in others):
            raise SandboxError(
                f"the sandbox {name!r} is running already",
                f"use it: kvmstate sandbox uri {name}; or end it: kvmstate sandbox stop {name}",
            )
        try:
            (directory / "log").mkdir(parents=True)
        except FileExistsError:
            raise SandboxError(
                f"a sandbox {name!r} was started in another container of this machine", "choose another name"
            ) from None
        (directory / folder.WHERE).write_text(this_machine())
        (directory / TREE).write_text(str(tree or ""))
        for other in others:
            _share_capabilities(other.directory, directory)
        argv = ["bash", str(folder.SCRIPT), "hold" if held else "start", str(directory), name]
        with open(directory / "log" / "host.log", "wb") as log:
            process = subprocess.Popen(
                argv if tree is None else [*argv, str(tree.resolve())],
                stdin=subprocess.PIPE if held else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENVIRONMENT | ({"KVMSTATE_CGROUPS": "1"} if cgroups else {}),
                # signals of the caller's terminal are not for the host
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not (sandbox := folder.read(directory)) and _is_awaited(process, deadline):
            time.sleep(0.02)
    while sandbox and not _answers(sandbox.socket) and sandbox.is_running and _is_awaited(process, deadline):
        time.sleep(0.05)
    if sandbox and _answers(sandbox.socket):
        return sandbox, process
    late = time.monotonic() >= deadline
    failure = needs.explain(directory, name, f"not ready after {START_TIMEOUT:.0f} s" if late else "ended")
    _end(process, sandbox)
    with folder.locked(), suppress(SandboxError):
        folder.remove(directory)
    raise failure


def _share_capabilities(other: Path, directory: Path) -> None:
    """Let a new host know what another one has found that QEMU can do, which costs a second. libvirt looks whether that
    still holds for its QEMU, this kernel and this processor."""
    with suppress(OSError):
        if (other / TREE).read_text() == (directory / TREE).read_text():
            shutil.copytree(other / CAPABILITIES, directory / CAPABILITIES, dirs_exist_ok=True)


def stop(name: str = "default") -> None:
    """End a host with everything in it, and remove its folder."""
    sandbox = folder.find(name)
    with folder.locked():
        _kill(sandbox)
        folder.remove(sandbox.directory)


def _is_awaited(process: subprocess.Popen[bytes], deadline: float) -> bool:
    return process.poll() is None and time.monotonic() < deadline


def _end(process: subprocess.Popen[bytes], sandbox: Sandbox | None) -> None:
    if sandbox:
        _kill(sandbox)
    if process.stdin:
        process.stdin.close()
    elif process.poll() is None:
        process.kill()
    process.wait()


def _kill(sandbox: Sandbox) -> None:
    """Kill pid 1 of the host and wait: its end is reported after that of all other processes in there."""
    with suppress(ProcessLookupError):
        if sandbox.is_running:
            os.kill(sandbox.pid, signal.SIGKILL)
    while sandbox.is_running:
        time.sleep(0.01)


def _answers(path: Path) -> bool:
    """Whether libvirtd serves its clients, which it does only after all its drivers are up.

    The question is the shortest of libvirt's protocol, the list of its ways to log in: length, program,
    version, procedure 66 (auth list), type call, serial, status. object answer will do.
    """
    question = struct.pack(">IIIIiIi", 28, 0x20008086, 1, 66, 0, 0, 0)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(question)
            return bool(client.recv(4))
        except OSError:
            return False
