"""Manifests that are large, deep, or ask for much: refused, or read, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from bounds import bounded

NETWORK = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {{name: n{}}}\nspec: {{}}\n"
BURN = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"


def test_all_templates_together_are_bounded_in_time(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"t{number:02}.yaml.j2").write_text(BURN)
    done = bounded("validate", cwd=tmp_path, seconds=10)
    assert done.code == 1, done
    assert done.err.count("takes too much time") == 3, done
    assert done.err.count("the templates before it have taken too much") == 27, done


def test_all_templates_together_are_bounded_in_what_they_make(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"t{number:02}.yaml.j2").write_text("# {% for a in range(9000) %}{{ 'x' * 1000 }}{% endfor %}")
    done = bounded("validate", cwd=tmp_path)
    assert done.code == 1, done
    assert "make too much text, all together" in done.err, done


def test_many_templates_that_do_no_harm_are_rendered(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"t{number:03}.yaml.j2").write_text(NETWORK.format(number))
    done = bounded("validate", cwd=tmp_path)
    assert done.code == 0, done


def test_all_manifests_together_are_bounded(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"m{number}.yaml").write_text(NETWORK.format(number) + "# " + "x" * (9 << 20))
    done = bounded("validate", cwd=tmp_path)
    assert done.code == 1, done
    assert "all manifests together have more than" in done.err, done


@pytest.mark.parametrize(
    "path",
    [
        ".",
        "[" * 999,
        "a[" * 499,
        "a[" * 20000,
        "a[" * 200000,
        "[" * 500000,
        "." * 500000,
        "a" * 500000,
        "a[b]" * 100000,
        "a.b" * 100000,
    ],
    ids=lambda text: f"{text[:4]}*{len(text)}",
)
def test_paths_of_fields_cost_what_they_are_long(path: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(NETWORK.format("") + f'lifecycle: {{ignoreChanges: ["{path}"]}}\n')
    done = bounded("validate", cwd=tmp_path, seconds=5)
    assert done.code == 1, done
    assert "has no field" in done.err or "at most" in done.err, done
