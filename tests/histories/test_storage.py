"""A hundredth of `script/trials storage`: random edits of pools and volumes, pools that restart, storage that is full
or sends people away, and runs that are killed. No data is lost that no manifest allowed to lose."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from harness import clear
from storage import MIB, NFS, Storage
from trouble import inside, loop_devices, programs

from kvmstate.sandbox import Sandbox

COUNT = int(os.environ.get("KVMSTATE_STORAGE", "3"))
SEED = int(os.environ.get("KVMSTATE_SEED") or random.randrange(1 << 16))
STEPS = 6


@pytest.mark.real
@pytest.mark.timeout(120 + 60 * COUNT)
def test_no_data_is_lost_that_no_manifest_allowed_to_lose(host: Sandbox, tmp_path: Path) -> None:
    with programs(host, {"mount.nfs": NFS}), loop_devices(host.uri) as loop:
        made = []
        for name, size in (("disk", 50 * MIB), ("precious", 2 * MIB)):
            image = host.directory / f"{name}.img"
            with image.open("wb") as file:
                file.truncate(size)
            made.append(loop(image))
            # what there are more of than usual, the host does not have
            inside(host, f"[ -e {made[-1]} ] || mknod {made[-1]} b 7 {made[-1].removeprefix('/dev/loop')}")
        for number in range(COUNT):
            folder = tmp_path / str(number)
            folder.mkdir()
            world = Storage(host, folder, *made, SEED * 1000 + number)
            try:
                world.begin()
                for _ in range(STEPS):
                    world.step()
                world.settle()
            except AssertionError as error:
                raise AssertionError(f"seed {SEED}, number {number}") from error
            finally:
                world.end()
                clear(host)
