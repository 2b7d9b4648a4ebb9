"""Run commands in a host, and hosts around commands."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from kvmstate.errors import SandboxError
from kvmstate.sandbox import needs
from kvmstate.sandbox.folder import Sandbox
from kvmstate.sandbox.lifecycle import launch

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def execute(sandbox: Sandbox, argv: Sequence[str]) -> int:
    """Run a command inside the host's namespaces, as its root; returns the exit code.

    It starts in the current folder, or in / where the host has no such folder.
    """
    user = ["--user"] if os.geteuid() else []
    # --wd takes the host's own folder; one named there would be opened outside, among the caller's mounts
    enter = 'cd "$0" 2>/dev/null || cd /; exec "$@"'
    namespaces = [*user, "--mount", "--net", "--uts", "--ipc", "--pid", "--root", "--wd"]
    command = ["nsenter", "--target", str(sandbox.pid), *namespaces, "sh", "-c", enter, os.getcwd(), *argv]
    path = os.environ.get("PATH", "")
    inside = {"PATH": f"{path}:{needs.PATH}", "LIBVIRT_DEFAULT_URI": "qemu:///system"}
    return _foreground(command, os.environ | inside)


def run(argv: Sequence[str], tree: Path | None = None) -> int:
    """Run a command beside a host of its own, which LIBVIRT_DEFAULT_URI names; returns the exit code.

    The host goes away with the command, and also when this process is killed: a small process holds it, which
    watches for the end of this one.
    """
    if not shutil.which(argv[0]):
        raise SandboxError(f"there is no command {argv[0]!r}")
    sandbox, holder = launch(f"run-{os.getpid()}", tree, held=True)
    try:
        # the command shall not outlive a killed kvmstate either: its host is gone
        command = ["setpriv", "--pdeathsig", "TERM", *argv]
        return _foreground(command, os.environ | {"LIBVIRT_DEFAULT_URI": sandbox.uri})
    finally:
        assert holder.stdin
        holder.stdin.close()
        holder.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until it has ended. Python calls no handler for a signal that comes right before it waits in the kernel, until
    that returns: it does each second."""
    ended = os.pidfd_open(process.pid)
    try:
        while not select.select([ended], [], [], 1)[0]:
            pass
    finally:
        os.close(ended)


def _foreground(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command that gets the signals sent to this process; its exit code as a shell tells it."""
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        if process is None:
            early.append(number)
        # what is typed at a terminal reaches the command without us
        elif number not in (signal.SIGINT, signal.SIGQUIT) or not os.isatty(0):
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        process = subprocess.Popen(argv, env=environment)
        for number in early:
            process.send_signal(number)
        _wait(process)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
