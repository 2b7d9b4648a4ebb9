"""A hundredth of `script/trials histories-real`; a history has up to 12 steps."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from harness import wipe
from machine import Histories, run_histories

from kvmstate.sandbox import Sandbox, execute

COUNT = int(os.environ.get("KVMSTATE_REAL_HISTORIES", "3"))


@pytest.mark.real
@pytest.mark.timeout(300 + 60 * COUNT)
def test_every_history_ends_as_the_manifests_say(host: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "histories"

    class OnARealHost(Histories):
        uri = host.uri
        is_real = True
        root = folder

        def master(self, tap: str) -> str:
            said = tmp_path / "link"
            execute(host, ["sh", "-c", f"ip -o link show {tap} >{said}"])
            return (re.findall(r" master (\S+)", said.read_text()) or [""])[0]

        def teardown(self) -> None:
            super().teardown()
            wipe(host.uri)
            shutil.rmtree(folder, ignore_errors=True)

    run_histories(OnARealHost, COUNT, steps=12)
