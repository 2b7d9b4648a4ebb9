"""A hundredth of `script/trials histories-test`; a history has up to 15 steps."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from machine import Histories, run_histories

COUNT = int(os.environ.get("KVMSTATE_HISTORIES", "50"))


@pytest.mark.timeout(300 + 15 * COUNT)
def test_every_history_ends_as_the_manifests_say(tmp_path: Path) -> None:
    node = tmp_path / "node.xml"
    node.write_text("<node/>")

    class OnTheTestDriver(Histories):
        # each connection to a file has a host of its own
        uri = f"test://{node}"
        is_real = False
        root = Path("/kvmstate-histories")

        def teardown(self) -> None:
            super().teardown()
            shutil.rmtree(Path(os.environ["XDG_STATE_HOME"]) / "kvmstate", ignore_errors=True)

    run_histories(OnTheTestDriver, COUNT, steps=15)
