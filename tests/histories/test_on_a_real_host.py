"""KVMSTATE_REAL_HISTORIES says how many; a history has up to 12 steps."""

from __future__ import annotations

import os
import shutil

import pytest
from harness import wipe
from machine import Histories, run_histories

from kvmstate.sandbox import Sandbox

COUNT = int(os.environ.get("KVMSTATE_REAL_HISTORIES", "6"))


@pytest.mark.real
@pytest.mark.timeout(300 + 60 * COUNT)
def test_every_history_ends_as_the_manifests_say(host: Sandbox) -> None:
    folder = host.directory / "lib" / "histories"

    class OnARealHost(Histories):
        uri = host.uri
        is_real = True
        pool_path = "/var/lib/libvirt/histories"

        def teardown(self) -> None:
            super().teardown()
            wipe(host.uri)
            shutil.rmtree(folder, ignore_errors=True)

    run_histories(OnARealHost, COUNT, steps=12)
