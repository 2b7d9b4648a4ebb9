"""doctor: what a host lacks, each with its fix; and what interrupted runs have left."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import MAIN, ROOT, Guest, Project, pool, resource
from trouble import guests_run_as_nobody, inside, small_disk

from kvmstate.cli import run
from kvmstate.host import open_host, secrets
from kvmstate.sandbox import Sandbox

pytestmark = pytest.mark.real

FOLDER = "/var/lib/libvirt/behaviours/images"


def doctor(host: Sandbox, code: int) -> dict[str, list[tuple[str, str, str]]]:
    """Severity, message and hint of the findings of each check."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run(["doctor", "-c", host.uri, "--json", "--detailed-exitcode"]) == code, out.getvalue()
    found: dict[str, Any] = {}
    for finding in json.loads(out.getvalue())["findings"]:
        found.setdefault(finding["check"], []).append((finding["severity"], finding["message"], finding["hint"]))
    return found


def doctor_inside(host: Sandbox) -> str:
    """What it says on the host itself."""
    said = host.directory / "said"
    inside(host, f"cd {ROOT} && {sys.executable} -c '{MAIN}' doctor -c qemu:///system >{said}")
    return said.read_text()


def test_a_host_that_does_is_said_to_do(project: Project) -> None:
    project.converge(pool())
    found = doctor(project.host, 2)
    assert found["connection"][0][0] == "ok"
    assert found["emulators"][0][0] == "ok"
    assert found["firmware"] == [("ok", "UEFI firmware is there", "")]
    assert found["projects"] == [("ok", "project shop owns 1 resources", "")]
    assert [severity for severity, *_ in found["space"]] == ["ok"]
    # guests of throw-away hosts are emulated
    assert found["acceleration"][0][0] == "warning"


def test_a_pool_that_fills_up(project: Project) -> None:
    project.write(pool())
    with small_disk(project.host, FOLDER, "4m"):
        project.converge()
        inside(project.host, f"head -c 3900K /dev/zero >{FOLDER}/fills")
        warned = doctor(project.host, 2)["space"]
        inside(project.host, f"head -c 4M /dev/zero >{FOLDER}/fills || true")
        failed = doctor(project.host, 1)["space"]
        libvirt.open(project.host.uri).storagePoolLookupByName("images").destroy()
    assert (warned[0][0], failed[0][0]) == ("warning", "error")
    assert failed[0][1].startswith("pool images: 0% of ")


def test_a_folder_that_guests_cannot_reach(project: Project) -> None:
    project.converge(pool(), resource("Volume", "a", pool="images", capacity="1MiB"))
    project.path("images").chmod(0o700)
    with guests_run_as_nobody(project.host):
        said = doctor_inside(project.host)
    assert f"! image-paths     pool images: QEMU's user nobody may not go through the folder {FOLDER} " in said
    assert f"hint: `chmod o+x {FOLDER}`" in said


def test_a_missing_program_is_named_with_its_package(host: Sandbox) -> None:
    inside(host, "mount --bind /dev/null /usr/sbin/dnsmasq")
    try:
        said = doctor_inside(host)
    finally:
        inside(host, "umount /usr/sbin/dnsmasq")
    assert "! programs        dnsmasq is missing: DHCP and DNS of networks" in said
    assert "dnsmasq-base" in said


def test_what_was_cut_off_and_what_is_damaged(project: Project, tiny: Guest, tmp_path: Path) -> None:
    machine = tiny.machine("web")
    machine["spec"]["kernel"]["path"] = str(tmp_path / "missing")
    project.write(pool(), machine)
    assert project.apply().code == 1
    cut = doctor(project.host, 2)["projects"]
    assert cut == [
        ("warning", "project shop: a run was cut off, or failed, at domain/web", "the next apply goes on from there")
    ]
    with open_host(project.host.uri) as host:
        secrets.write(host.connection, "kvmstate:shop:0", "", b"nonsense")
    damaged = doctor(project.host, 1)["projects"]
    assert damaged[0][0] == "error"
    assert "the record of what project shop owns here is damaged" in damaged[0][1]


def test_a_host_that_is_not_there_is_an_error_with_a_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["doctor", "-c", f"qemu+unix:///system?socket={tmp_path}/none"]) == 1
    said = capsys.readouterr().out
    assert "✗ connection" in said
    assert "hint: is libvirtd (or virtqemud) running there" in said
    assert "Doctor: 1 error" in said


def test_a_lock_that_somebody_left_is_told(project: Project) -> None:
    script = (
        "import os, sys\nfrom kvmstate.host import open_host\nfrom kvmstate.apply import open_lock\n"
        "with open_host(sys.argv[1]) as host, open_lock(host, 'shop').held('apply'):\n    os._exit(9)"
    )
    project.converge(pool())
    left = subprocess.run([sys.executable, "-c", script, project.host.uri], cwd=ROOT, check=False)
    assert left.returncode == 9
    severity, message, hint = doctor(project.host, 2)["locks"][0]
    assert severity == "warning"
    assert message.startswith("project shop is locked by ")
    assert message.endswith("its process is dead")
    assert "kvmstate unlock" in hint
