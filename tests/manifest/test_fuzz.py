"""Whatever is done to a valid manifest, the answer is a plan or an explanation, and soon.

KVMSTATE_FUZZ says how many manifests are tried.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pycdlib import PyCdlib

from kvmstate.cli import run
from kvmstate.kinds.volume.seed import iso
from kvmstate.manifest.load import load

HERE = Path(__file__).parent
COUNT = int(os.environ.get("KVMSTATE_FUZZ", "150"))
VALID = [
    (HERE / "cases" / "ok-full" / "manifest.yaml").read_bytes(),
    *(file.read_bytes() for file in sorted((HERE.parents[1] / "manifests").glob("*.yaml"))),
]
PIECES = ["- ", ": ", "{", "}", "[", "]", "&a ", "*a ", "!!int ", "---\n", "\t", '"', "'", "|\n", "? ", "<<: ", "null"]
WORDS = ["9" * 50, "-1", "0x10", "1e999", "~", "yes", "1:30", "\x00", "\u202e", "{{ 7 }}", "é" * 40, "/", ".", "a: b"]
PIECE = st.sampled_from(PIECES + WORDS) | st.text(max_size=5) | st.binary(max_size=3)
edits = st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 12), PIECE), min_size=1, max_size=6)


USER_DATA = b"""#cloud-config
hostname: shop
manage_etc_hosts: true
users:
  - default
  - name: ops
    groups: [adm, sudo]
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    ssh_authorized_keys: ["ssh-ed25519 AAAA ops@example.org"]
chpasswd: {expire: false, users: [{name: ops, password: secret, type: text}]}
packages: [nginx, [curl, 7.88.1]]
write_files:
  - path: /etc/motd
    content: |
      welcome
    permissions: "0644"
runcmd:
  - [systemctl, enable, --now, nginx]
  - echo done >/root/done
growpart: {mode: auto, devices: ["/"]}
power_state: {mode: reboot, timeout: 30, condition: false}
"""
IN_A_FILE = """apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {name: web}
spec:
  memory: 1GiB
  disks: [{name: root, create: {pool: images, capacity: 1GiB}}]
  cloudInit:
    userData"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.mark.timeout(300 + 5 * COUNT)
@settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=COUNT <= 150,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(valid=st.sampled_from(VALID), changes=edits)
def test_a_mutated_manifest_is_planned_or_explained(
    folder: Path, valid: bytes, changes: list[tuple[int, int, str | bytes]]
) -> None:
    (folder / "manifest.yaml").write_bytes(mutated(valid, changes))
    validated, said = told("validate", "manifest.yaml")
    assert validated in (0, 1), said
    planned, said = told("plan", "manifest.yaml", "-c", "test:///default")
    assert planned in (0, 1), said
    assert planned == 1 or validated == 0, "a plan was made of what does not validate"


@pytest.mark.timeout(300 + 5 * COUNT)
@settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=COUNT <= 150,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(changes=edits, apart=st.booleans())
def test_mutated_user_data_is_on_the_seed_or_explained(
    folder: Path, changes: list[tuple[int, int, str | bytes]], apart: bool
) -> None:
    data = mutated(USER_DATA, changes)
    if apart:
        (folder / "user-data").write_bytes(data)
        (folder / "manifest.yaml").write_text(f"{IN_A_FILE}File: user-data\n")
    else:
        (folder / "manifest.yaml").write_bytes(
            f"{IN_A_FILE}:\n".encode() + b"      " + data.replace(b"\n", b"\n      ")
        )
    code, said = told("validate", "manifest.yaml")
    assert code in (0, 1), said
    if code == 0:
        seeds = [each.spec.content.seed for each in load([folder / "manifest.yaml"]).resources if each.spec.filling()]
        for seed in seeds:
            text = on_image(iso(seed))
            assert text == seed.user_data.encode()
            assert not apart or text == data
            assert apart or isinstance(yaml.safe_load(text), dict)


def on_image(image: bytes) -> bytes:
    """The user data that cloud-init finds."""
    disk = PyCdlib()
    disk.open_fp(io.BytesIO(image))
    disk.get_file_from_iso_fp(content := io.BytesIO(), rr_path="/user-data")
    disk.close()
    return content.getvalue()


def mutated(text: bytes, changes: list[tuple[int, int, str | bytes]]) -> bytes:
    for start, length, piece in changes:
        new = piece if isinstance(piece, bytes) else piece.encode(errors="replace")
        start %= len(text) + 1
        text = text[:start] + new + text[start + length :]
    return text


def told(*words: str) -> tuple[int, str]:
    """Exit code and output of a command, which takes less than a second of the processor."""
    out = io.StringIO()
    begun = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(list(words))
    took = time.process_time() - begun
    assert took < 1, f"{words[0]} took {took:.1f} s"
    assert "bug in kvmstate" not in out.getvalue(), out.getvalue()
    assert "Traceback" not in out.getvalue(), out.getvalue()
    if code == 1:
        assert "manifest.yaml" in out.getvalue() or "error:" in out.getvalue(), out.getvalue()
    return code, out.getvalue()
