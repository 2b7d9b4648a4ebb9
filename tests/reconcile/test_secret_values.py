"""The daemon keeps the values of Secrets, also those that libvirt forgets."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
from harness import Project, await_answer, await_old, resource, until

from tests.reconcile.conftest import Daemon

pytestmark = pytest.mark.real

CEPH = libvirt.VIR_SECRET_USAGE_TYPE_CEPH


def value(uri: str, name: str) -> bytes:
    """Of a connection of its own: libvirtd may be another one by now."""
    try:
        connection = libvirt.open(uri)
        try:
            return bytes(connection.secretLookupByUsage(CEPH, name).value())
        finally:
            connection.close()
    except libvirt.libvirtError:
        return b""


def test_an_ephemeral_one_is_set_again_and_a_change_by_hand_is_corrected(
    project: Project, run: Callable[..., Daemon], tmp_path: Path
) -> None:
    (tmp_path / "value").write_text("secret-one\n")
    project.write(resource("Secret", "gone", usage="ceph", ephemeral=True, value={"from": "value"}))
    daemon = run("--secret", f"value=file:{tmp_path}/value")
    until(lambda: value(project.uri, "gone") == b"secret-one", "it is set")
    os.kill(await_old(project.host), signal.SIGKILL)
    await_answer(project.host)
    until(lambda: value(project.uri, "gone") == b"secret-one", "it is set again")
    connection = libvirt.open(project.uri)
    connection.secretLookupByUsage(CEPH, "gone").setValue(b"secret-by-hand")
    connection.close()
    until(lambda: value(project.uri, "gone") == b"secret-one", "it is corrected")
    # the place says something else: seen with the next look at everything, and on SIGHUP
    (tmp_path / "value").write_text("secret-two\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: value(project.uri, "gone") == b"secret-two", "the new one is set")
    assert daemon.stop() == 0
