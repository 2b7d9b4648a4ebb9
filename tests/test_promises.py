"""The pages of promises name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = sorted(
    {
        (page.name, name)
        for page in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"\btests/[\w/]+\.py(?:::\w+)?", page.read_text(encoding="utf-8"))
    }
)


@pytest.mark.parametrize(("page", "name"), NAMED, ids=lambda part: part)
def test_a_promise_is_shown_by_a_test(page: str, name: str) -> None:
    path, _, function = name.partition("::")
    if not Path(path).name.startswith("test_"):
        # what tests share
        assert (ROOT / path).is_file(), f"{page} names {name}"
        return
    assert f"def {function or 'test_'}" in (ROOT / path).read_text(encoding="utf-8"), f"{page} names {name}"
