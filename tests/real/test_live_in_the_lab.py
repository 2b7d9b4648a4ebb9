"""Fields that are changed live, on the lab's host (script/lab): what test_live.py has no kernel for, looked at on that
host. live_in_the_lab.yaml is the table."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from harness import wipe
from lab_host import Lab
from test_live import IN_THE_LAB, LAB, Evidence, Machine

from kvmstate.host import ssh

if TYPE_CHECKING:
    from tests.conftest import Guest


@pytest.fixture(scope="module")
def evidence(lab: Lab, guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    found, log = Evidence(), "/var/log/libvirt/qemu/live-console.log"
    wipe(lab.uri)
    lab.run(
        f"mkdir -p /srv/lab; rm -rf {log} /var/lib/libvirt/live; modprobe bfq; echo bfq >/sys/block/sda/queue/scheduler"
    )
    lab.run("ovs-vsctl --may-exist add-br ovslab")
    for file in (guest.vmlinuz, guest.initrd):
        with file.open("rb") as content:
            subprocess.run([*ssh.words(lab.uri), f"cat >/srv/lab/{file.name}"], stdin=content, check=True)
    machine = Machine(lab.uri, tmp_path_factory.mktemp("live"), IN_THE_LAB, lambda: lab.run(f"cat {log}"))
    try:
        machine.apply(machine.documents)
        for number, step in enumerate(IN_THE_LAB["steps"]):
            try:
                machine.edit(step, step.get("lab", []))
                if "looks" in step:
                    said = lab.run(step["looks"])
                    assert re.search(step["shows"], said), said
            except Exception as error:
                found.failed[number] = f"{type(error).__name__}: {error}"
            print(f"{step.get('lab', step['edit'])}: {found.failed.get(number, 'ok')}")
        yield found
    finally:
        wipe(lab.uri)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("row", sorted(LAB))
def test_it_is_changed_in_a_running_machine(row: str, evidence: Evidence) -> None:
    assert evidence.failed.get(LAB[row], "") == ""


def test_each_row_is_looked_for() -> None:
    assert [step["edit"] for step in IN_THE_LAB["steps"] if "lab" in step and "shows" not in step] == []
