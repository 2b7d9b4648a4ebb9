"""What is kept of manifests between runs: it is used, it never changes what a run sees, and nothing secret is in it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmstate.errors import ManifestErrors
from kvmstate.manifest import Manifests, load
from kvmstate.manifest import cache as cached
from kvmstate.manifest.text import Reader

MACHINE = """# {comment}
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata:
  name: {name}
spec:
  memory: {memory}
  disks:
    - {{name: root, file: /images/{name}.raw, format: raw}}
"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is written to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kvmstate" / "manifests"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    for number in range(3):
        write(folder, f"vm-{number}")
    return folder


def write(folder: Path, name: str, memory: object = "1GiB", comment: str = "") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(MACHINE.format(name=name, memory=memory, comment=comment))
    return file


def seen(found: Manifests) -> object:
    """All that a plan may ask of manifests."""
    return [
        (r.id, r.written, r.metadata, r.lifecycle, r.origin, found.at(r.id), found.at(r.id, ("disks", "root", "file")))
        for r in found.resources
    ]


def fresh(folder: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KVMSTATE_NO_CACHE", "1")
        return seen(load([folder]))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose YAML is read."""
    read: list[str] = []
    documents = Reader.documents

    def counted(self: Reader, text: str):  # type: ignore[no-untyped-def]
        read.append(Path(self.file).stem)
        return documents(self, text)

    monkeypatch.setattr(Reader, "documents", counted)
    return read


def test_only_what_was_edited_is_parsed_again(kept: Path, manifests: Path, parsed: list[str]) -> None:
    load([manifests])
    assert parsed == ["vm-0", "vm-1", "vm-2"]
    parsed.clear()
    load([manifests])
    assert parsed == []
    write(manifests, "vm-1", "2GiB")
    write(manifests, "vm-3")
    load([manifests])
    assert parsed == ["vm-1", "vm-3"]


def test_a_cached_run_sees_what_a_fresh_one_does(kept: Path, manifests: Path) -> None:
    load([manifests])
    (file,) = kept.iterdir()
    before = file.read_bytes()
    assert seen(load([manifests])) == seen(load([manifests])) == fresh(manifests)
    assert file.read_bytes() == before


def test_the_examples_are_the_same_from_the_cache(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted((Path(__file__).parent / "cases").rglob("*.yaml"))
    same = 0
    for path in paths:
        outcomes = []
        for _ in range(3):
            try:
                outcomes.append([(r.id, r.written, r.origin) for r in load([path]).resources])
            except ManifestErrors as errors:
                outcomes.append(errors.problems)  # type: ignore[arg-type]
        assert outcomes[0] == outcomes[1] == outcomes[2], path
        same += 1
    assert same > 5


def test_errors_have_their_places_on_every_run(kept: Path, manifests: Path) -> None:
    write(manifests, "vm-1", "many")
    said = []
    for _ in range(2):
        with pytest.raises(ManifestErrors) as refused:
            load([manifests])
        said.append(refused.value.problems)
    assert said[0] == said[1]
    assert said[0][0].line == 7


def test_what_two_files_say_together_is_told_with_places(kept: Path, manifests: Path) -> None:
    load([manifests])
    (manifests / "again.yaml").write_text("# one more line\n" + (manifests / "vm-2.yaml").read_text())
    for _ in range(2):
        with pytest.raises(ManifestErrors) as refused:
            load([manifests])
        (problem,) = refused.value.problems
        assert problem.file.endswith("vm-2.yaml")
        assert "again.yaml:3:1" in problem.message


def _garbage(file: Path) -> None:
    file.write_bytes(b"\x80garbage")


def _other_types(file: Path) -> None:
    kept = json.loads(file.read_text())
    kept["texts"] = {key: [[1, 1]] for key in kept["texts"]}
    file.write_text(json.dumps(kept))


def _list(file: Path) -> None:
    file.write_text("[]")


def _deep(file: Path) -> None:
    file.write_text("[" * 100_000)


def _other_version(file: Path) -> None:
    file.write_text(_lied(file).replace('"version":"', '"version":"0.0.0-'))


def _readable_by_others(file: Path) -> None:
    file.write_text(_lied(file))
    file.chmod(0o644)


def _link(file: Path) -> None:
    elsewhere = file.with_name("elsewhere")
    elsewhere.write_text(_lied(file))
    elsewhere.chmod(0o600)
    file.unlink()
    file.symlink_to(elsewhere)


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _lied(file: Path) -> str:
    """What would be believed, were it looked at."""
    return file.read_text().replace("1GiB", "7GiB")


@pytest.mark.parametrize(
    "damage",
    [_garbage, _other_types, _list, _deep, _other_version, _readable_by_others, _link, _fifo, _folder],
    ids=lambda damage: damage.__name__.strip("_"),
)
def test_what_is_damaged_or_not_ones_own_counts_for_nothing(kept: Path, manifests: Path, damage) -> None:  # type: ignore[no-untyped-def]
    load([manifests])
    (file,) = kept.glob("*.json")
    damage(file)
    assert seen(load([manifests])) == fresh(manifests)
    assert seen(load([manifests])) == fresh(manifests)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of another user")
def test_a_folder_of_somebody_else_is_not_written_to(kept: Path, manifests: Path) -> None:
    kept.mkdir(parents=True)
    os.chown(kept, 65534, 65534)
    assert seen(load([manifests])) == fresh(manifests)
    assert list(kept.iterdir()) == []


def test_a_run_does_without(kept: Path, manifests: Path) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text("no folder")
    assert seen(load([manifests])) == fresh(manifests)


def test_a_disk_that_is_full_leaves_nothing_behind(
    kept: Path, manifests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cached.os, "replace", full)
    assert seen(load([manifests])) == fresh(manifests)
    assert list(kept.iterdir()) == []


def test_only_its_owner_may_read_it(kept: Path, manifests: Path) -> None:
    before = os.umask(0)
    try:
        load([manifests])
    finally:
        os.umask(before)
    (file,) = kept.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


CANARY = "c4nary-in-a-manifest"
SECRETS = {
    "field": f"kernel: {{path: /vmlinuz, cmdline: 'token={CANARY}'}}",
    "override": "xml: {'./devices/graphics/@passwd': " + CANARY + "}",
    "remainder": f"remainder: \"<domain><devices><graphics type='vnc' passwd='{CANARY}'/></devices></domain>\"",
    "address": f"description: 'from https://me:{CANARY}@example.org/'",
}


@pytest.mark.parametrize("where", SECRETS)
def test_what_may_hold_a_secret_is_not_kept(kept: Path, manifests: Path, where: str, parsed: list[str]) -> None:
    (manifests / "secret.yaml").write_text(
        "apiVersion: kvmstate/v1\nkind: VirtualMachine\nmetadata: {name: secret}\nspec:\n  memory: 1GiB\n  "
        + SECRETS[where]
        + "\n"
    )
    for _ in range(2):
        load([manifests])
    assert all(CANARY not in file.read_text() for file in kept.rglob("*"))
    assert parsed.count("secret") >= 2
    assert parsed.count("vm-0") == 1


def test_the_latest_sets_are_kept(kept: Path, manifests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "MOST", 2)
    for number in (0, 1, 2):
        load([manifests / f"vm-{number}.yaml"])
        for age, file in enumerate(sorted(kept.iterdir(), key=lambda each: each.stat().st_mtime_ns, reverse=True)):
            os.utime(file, (1000 - age, 1000 - age))
    assert len(list(kept.iterdir())) == 2
    load([manifests / "vm-2.yaml"])


def test_runs_at_the_same_time_do_not_disturb_each_other(kept: Path, manifests: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from kvmstate.manifest import load\n"
        "for n in range(40):\n"
        "    file = Path(sys.argv[1], f'own-{sys.argv[2]}.yaml')\n"
        "    file.write_text(Path(sys.argv[1], 'vm-0.yaml').read_text()"
        ".replace('vm-0', f'own-{sys.argv[2]}-{n % 3}'))\n"
        "    found = load([file, Path(sys.argv[1], 'vm-0.yaml')])\n"
        "    assert [r.id.name for r in found.resources] == [f'own-{sys.argv[2]}-{n % 3}', 'vm-0'], found\n"
        "    load([Path(sys.argv[1], 'vm-0.yaml'), Path(sys.argv[1], 'vm-1.yaml')])\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", script, str(manifests), str(n)]) for n in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    assert not list(kept.glob(".new-*"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.dictionaries(st.text(), values, max_size=4))
def test_any_data_comes_back_as_it_was(tmp_path: Path, data: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        cache = cached.Cache([tmp_path])
        cache.put(b"text", [(1, 2, data)])
        cache.put(repr(data).encode(errors="surrogatepass"), [])
        cache.save()
        assert cached.Cache([tmp_path]).get(b"text") == [[1, 2, data]]
