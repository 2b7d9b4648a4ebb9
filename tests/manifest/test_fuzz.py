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
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kvmstate.cli import run

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
    for start, length, piece in changes:
        new = piece if isinstance(piece, bytes) else piece.encode(errors="replace")
        start %= len(valid) + 1
        valid = valid[:start] + new + valid[start + length :]
    (folder / "manifest.yaml").write_bytes(valid)
    validated, said = told("validate", "manifest.yaml")
    assert validated in (0, 1), said
    planned, said = told("plan", "manifest.yaml", "-c", "test:///default")
    assert planned in (0, 1), said
    assert planned == 1 or validated == 0, "a plan was made of what does not validate"


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
