"""A host whose libvirt becomes a newer one: what that fills in is no drift."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import libvirt
import pytest
from harness import kvmstate
from test_import import CORPUS, REFUSED, Takeover
from trouble import kill_daemon, wait_for_daemon

from kvmstate import sandbox

pytestmark = pytest.mark.real
TREE = Path(os.environ.get("KVMSTATE_TEST_TREE_THERE", Path.home() / ".cache" / "kvmstate" / "trixie"))
# what a host keeps of its objects
KEPT = ("etc/qemu", "etc/secrets", "etc/storage", "etc/nwfilter", "lib/qemu", "lib/images")


@pytest.mark.skipif(not TREE.is_dir(), reason="there is no tree with a newer libvirt (script/tree)")
@pytest.mark.skipif("KVMSTATE_TEST_TREE" in os.environ, reason="the older one is this machine's")
def test_nothing_drifts_when_libvirt_is_upgraded(tmp_path: Path) -> None:
    """Machines of the corpus that both define, imported and owned before: some, or with ALL_MACHINES all."""
    name = f"upgrade-{os.getpid()}"
    before, after = sandbox.start(name), sandbox.start(f"{name}-newer", TREE)
    try:
        connection = libvirt.open(before.uri)
        older = connection.getLibVersion()
        # the newer one takes no two ports of one number
        skipped = {"domain/char-serial-same-port.xml", *(each for names in REFUSED.values() for each in names)}
        for number, path in enumerate(sorted((CORPUS / "domain").glob("*.xml"))):
            # of all of them this takes a minute
            taken_along = "ALL_MACHINES" in os.environ or number % 4 == 0 or path.stem.startswith("all-")
            if taken_along and f"domain/{path.name}" not in skipped:
                connection.defineXML(path.read_text())
        taken = Takeover.__new__(Takeover)
        taken.uri, taken.folder = before.uri, tmp_path / "taken"
        assert (run := taken.take("--all")).code == 0, run
        assert (run := taken.apply()).code == 0, run
        assert (run := taken.plan()).code == 0, run
        connection.close()

        for each in KEPT:
            if (before.directory / each).is_dir():
                shutil.copytree(before.directory / each, after.directory / each, dirs_exist_ok=True)
        kill_daemon(after)
        wait_for_daemon(after)
        connection = libvirt.open(after.uri)
        assert connection.getLibVersion() > older
        connection.close()
        run = kvmstate("plan", str(taken.folder), "-c", after.uri, "--detailed-exitcode")
        assert run.code == 0, run.out
    finally:
        sandbox.stop(before.name)
        sandbox.stop(after.name)
