"""Each folder of cases/ holds manifests and, in errors.txt, exactly what is said about them; none means they are valid.

UPDATE_CASES=1 writes the files again, to be read in the diff.
"""

import os
from pathlib import Path

import pytest

from kvmstate.errors import ManifestErrors
from kvmstate.manifest import load

CASES = Path(__file__).parent / "cases"
VALUES = {"name": "lan", "prefix": "net", "mtu": 1500}


@pytest.mark.parametrize("case", sorted(case.name for case in CASES.iterdir()))
def test_case(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES / case)
    said = ""
    try:
        load([Path(".")], values=VALUES)
    except ManifestErrors as errors:
        said = f"{errors}\n"
    expected = Path("errors.txt")
    if os.environ.get("UPDATE_CASES") and said:
        expected.write_text(said, encoding="utf-8")
    assert said == (expected.read_text(encoding="utf-8") if expected.exists() else "")
