"""QEMU 7.2 may miss a cancel at the very end of a move: it comes between the last look for one and the wait for
libvirt's word to hand the guest over, and QEMU waits for good. gdb makes that instant happen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import libvirt
import pytest
from conftest import Pair
from harness import MAIN, await_old, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not shutil.which("gdb"), reason="needs gdb"),
    pytest.mark.skipif("KVMSTATE_TEST_TREE" in os.environ, reason="newer QEMU does not miss it"),
]
# of QEMU's MigrationStatus
ACTIVE, CANCELLING, PRE_SWITCHOVER = 4, 2, 11


@pytest.mark.parametrize("then", ["cancel", "undo", "other libvirtd killed"])
def test_a_cancel_that_qemu_misses(pair: Pair, connection: libvirt.virConnect, then: str) -> None:
    project = pair.project
    pair.stage(pair.pool("shared"))
    project.converge(pair.pool("shared"), *pair.machine("shared", capacity="1MiB"))
    until(pair.counts, "it counts")
    gdb = missing_a_cancel(pair)
    process = pair.start()
    assert gdb.wait(60) == 0
    web = connection.lookupByName("web")
    assert web.state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION]
    if then == "cancel":
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    elif then == "undo":
        process.kill()
        process.wait()
        undone = pair.migrate("--undo")
        assert undone.code == 0, undone
    else:
        os.kill(await_old(pair.other), signal.SIGKILL)
        assert process.wait(120) == 1
        assert "stays on" in pair.log.read_text()

    assert pair.states == ("running", "")
    by_now = pair.counts()
    until(lambda: pair.counts() > by_now, "it goes on here")
    assert project.plan().code == 0
    moved = pair.migrate()
    assert moved.code == 0, moved
    assert pair.states == ("", "running")


def missing_a_cancel(pair: Pair) -> subprocess.Popen[bytes]:
    """gdb, which waits in QEMU for the end of a move, and ends then."""
    inside = [sys.executable, "-c", MAIN, "sandbox", "exec", "-n", pair.project.host.name, "--"]
    pid = (pair.project.host.directory / "run" / "libvirt" / "qemu" / "web.pid").read_text().strip()
    said, ready = pair.project.folder / "gdb.log", pair.project.folder / "gdb.ready"
    words = [
        f"break migrate_set_state if $edx == {PRE_SWITCHOVER}",
        f"shell touch {ready}",
        "continue",
        f"call (void)migrate_set_state($rdi, {ACTIVE}, {CANCELLING})",
        "detach",
    ]
    argv = [*inside, "gdb", "-p", pid, "-batch", *(word for each in words for word in ("-ex", each))]
    with said.open("w") as log:
        gdb = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    until(ready.exists, said.read_text)
    if "ptrace:" in said.read_text():
        pytest.skip("gdb may not look into processes here")
    return gdb
