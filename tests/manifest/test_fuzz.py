"""Whatever is done to a valid manifest, the answer is a manifest or an explanation, and soon."""

import os
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmstate.errors import ManifestErrors, Problem
from kvmstate.manifest import load

VALID = (Path(__file__).parent / "cases" / "ok-full" / "manifest.yaml").read_text()
PIECES = ["- ", ": ", "{", "}", "[", "]", "&a ", "*a ", "!!int ", "---\n", "\t", '"', "'", "|\n", "? ", "<<: ", "null"]
PIECE = st.sampled_from(PIECES) | st.text(max_size=5) | st.binary(max_size=3)
edits = st.lists(st.tuples(st.integers(0, len(VALID)), st.integers(0, 12), PIECE), min_size=1, max_size=6)


@settings(max_examples=150, deadline=1000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(edits)
def test_mutations_are_loaded_or_explained(changes: list[tuple[int, int, str | bytes]]) -> None:
    raw = VALID.encode()
    for start, length, piece in changes:
        new = piece if isinstance(piece, bytes) else piece.encode(errors="replace")
        raw = raw[:start] + new + raw[start + length :]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "manifest.yaml")
        file.write_bytes(raw)
        begun = time.perf_counter()
        problems = loaded(file)
        assert time.perf_counter() - begun < 1
    assert all(os.path.basename(problem.file) == "manifest.yaml" for problem in problems)


def loaded(file: Path) -> tuple[Problem, ...]:
    try:
        load([file])
    except ManifestErrors as errors:
        return errors.problems
    return ()
