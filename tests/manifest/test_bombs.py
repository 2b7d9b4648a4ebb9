"""Hostile and broken input is refused in words, and at once."""

import time
from pathlib import Path

import pytest

from kvmstate.errors import ManifestErrors
from kvmstate.manifest import load, suggest

SECONDS = 20  # of a busy machine; what would not end takes minutes
LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
)
MERGES = "\n".join(
    ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 40)]
)
CHAIN = "a0: &a0 x\n" + "\n".join(f"a{i}: &a{i} {'[' * 50}*a{i - 1}{']' * 50}" for i in range(1, 200))
YAML = {
    "depth by aliases": CHAIN,
    "billion laughs": LAUGHS,
    "merge keys": MERGES,
    "alias of itself": "a: &x {b: *x}",
    "flow depth": "[" * 100_000,
    "mapping depth": "{a: " * 100_000,
    "sequence depth": "- " * 100_000,
    "key depth": "? " * 100_000,
    "block depth": "\n".join(" " * i + "a:" for i in range(3000)),
    "many values": "[" + "1," * 1_500_000,
    "many documents": "---\n- 1\n" * 200_000,
    "many broken documents": "--- {\n" * 200_000,
    "too large": "#" * (11 << 20),
    "long number": "a: " + "9" * 100_000,
    "long key": "a" * 1_000_000 + ": 1\n",
    "python object": "!!python/object/apply:os.system [id]",
    "own tag": "!foo {}",
    "tag directive": "%TAG ! tag:x,2000:\n--- !y {}\n",
    "undefined alias": "a: *b",
    "escaped NUL": 'a: "\\0"',
    "lone surrogate": 'a: "\\ud800"',
    "scalar": "x",
    "infinite": "a: .inf\nb: .nan\n",
}
BYTES = {
    "binary": bytes(range(256)),
    "NUL": b"a: \x00",
    "UTF-16": "a: 1".encode("utf-16"),
    "Latin-1": b"a: \xe9",
    "escape": b"a: \x1b[31m",
}
TEMPLATES = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "much output": "{% for i in range(99999) %}{% for j in range(99999) %}aaaa{% endfor %}{% endfor %}",
    "repetition": "{{ 'x' * 10**9 }}",
    "power": "{{ 10 ** (10 ** 9) }}",
    "centre": "{{ 'a' | center(10**10) }}",
    "format": "{{ '{:10000000000}'.format(1) }}",
    "doubling": "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "includes itself": "{% include 'm.yaml.j2' %}",
    "escape from the folder": "{% include '../secret' %}",
    "absolute path": "{% include '/etc/passwd' %}",
    "link out of the folder": "{% include 'link' %}",
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "lone surrogate": '{{ "\\ud800" }}',
    "undefined": "{{ values.nothing }}",
    "random": "{{ [1, 2] | random }}",
}


def refused(folder: Path) -> str:
    start = time.perf_counter()
    with pytest.raises(ManifestErrors) as errors:
        load([folder])
    assert time.perf_counter() - start < SECONDS
    assert "Traceback" not in str(errors.value)
    return str(errors.value)


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_refused_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(YAML[name])
    assert len(refused(tmp_path)) < 100_000


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_no_text(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(BYTES[name])
    assert "m.yaml" in refused(tmp_path)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_refused_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "m.yaml.j2").write_text(TEMPLATES[name])
    assert "secret\n" not in refused(folder)


def test_one_bad_template_does_not_hide_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.yaml.j2").write_text(TEMPLATES["nested loops"])
    (tmp_path / "b.yaml.j2").write_text("{{ values.missing }}")
    said = refused(tmp_path)
    assert "a.yaml.j2: the template takes too much time" in said
    assert "b.yaml.j2:1:1: template: there is no value 'missing'" in said


def test_links_that_lead_in_circles_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "m.yaml").write_text("apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: a}\nspec: {}\n")
    assert len(load([tmp_path]).resources) == 1


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: a}\nspec:\n"
        + "".join(f"  mtuu{number}: 1\n" for number in range(20_000)),
        "---\n".join(f"apiVersion: kvmstate/v1\nkind: Netwrk\nnam: {number}\n" for number in range(20_000)),
        "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: a}\nspec:\n  ips:\n"
        + "  - {addres: 10.0.0.1/24}\n" * 20_000,
    ],
    ids=["fields", "documents", "items"],
)
def test_hints_are_made_for_what_is_shown(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = suggest.nearest
    monkeypatch.setattr(suggest, "nearest", lambda word, known: made.append(word) or real(word, known))
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ManifestErrors) as refused:
        load([tmp_path])
    assert len(refused.value.problems) == 201
    assert "more than 200 problems" in str(refused.value)
    assert 100 <= len(made) < 1000
