"""A difference that remains is not a reason to restart a guest again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import libvirt
import pytest
from harness import Project, idle

pytestmark = pytest.mark.real


def test_the_daemon_restarts_nothing_twice(
    project: Project, connection: libvirt.virConnect, run: Callable[..., Any]
) -> None:
    with (project.folder / "kvmstate.yaml").open("a") as file:
        file.write("reconcile: {interval: 10s}\n")
    project.write(idle("odd", lifecycle={"restart": "now"}, type="qemu", cpus=2, xml={"./vcpu/@cpuset": "0,1"}))
    assert project.apply().code == 1
    made = connection.lookupByName("odd").ID()
    daemon = run()
    time.sleep(6)
    assert daemon.stop() == 0
    assert connection.lookupByName("odd").ID() <= made + 1
