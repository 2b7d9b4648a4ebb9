"""Manifests that are written read well, and are read back as the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmstate.kinds import BY_WORD
from kvmstate.manifest import load
from kvmstate.manifest.folder import layout
from kvmstate.manifest.text import Reader
from kvmstate.manifest.write import document, manifest
from kvmstate.model.resource import Lifecycle, Metadata, Resource, ResourceId

# What XML, and so a libvirt object, can hold
TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff") | st.just("\n"))
KEYS = TEXT.filter(lambda key: key != "<<")
SCALARS = st.none() | st.booleans() | st.integers(0, 2**64) | TEXT | st.sampled_from(["no", "1e3", "0o7", "12:30", "~"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=10
)


def resource(word: str, name: str, **spec: object) -> Resource:
    made = BY_WORD[word].adapter.validate_python(spec)
    return Resource(ResourceId(word, made.id_name(name)), made, Metadata(name=name))


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_is_written_is_read_back(value: dict[str, object]) -> None:
    reader = Reader("f")
    read = [node.data() for node in reader.documents(reader.decode(document(value).encode()))]
    assert reader.problems == []
    assert read == [value]


def test_manifests_are_read_back_as_the_same_resources(tmp_path: Path) -> None:
    declared = load([Path(__file__).parent / "cases" / "ok-full"]).resources
    assert declared
    (tmp_path / "all.yaml").write_text(manifest(declared))
    again = load([tmp_path / "all.yaml"]).resources
    assert [(r.id, r.spec, r.metadata, r.lifecycle) for r in again] == [
        (r.id, r.spec, r.metadata, r.lifecycle) for r in declared
    ]


def test_a_manifest_reads_well() -> None:
    machine = resource(
        "domain",
        "web",
        memory="2GiB",
        description="two\nlines",
        disks=[{"name": "root", "volume": "images/web"}],
        interfaces=[{"network": "lan", "mac": "52:54:00:00:00:01"}],
        remainder="<domain>\n  <on_crash>restart</on_crash>\n</domain>",
    )
    machine = Resource(machine.id, machine.spec, machine.metadata, Lifecycle(prevent_destroy=True))
    assert manifest([machine]) == (
        """\
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {name: web}
lifecycle: {preventDestroy: true}
spec:
  description: |-
    two
    lines
  memory: 2GiB
  disks:
  - name: root
    volume: {pool: images, name: web}
  interfaces:
  - {network: lan, mac: '52:54:00:00:00:01'}
  remainder: |
    <domain>
      <on_crash>restart</on_crash>
    </domain>
"""
    )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("web-1", "machines/web-1.yaml"),
        ("web 1", "machines/web%201.yaml"),
        (".hidden", "machines/%2Ehidden.yaml"),
        ("kvmstate", "machines/%6Bvmstate.yaml"),
        ("100%", "machines/100%25.yaml"),
        ("ü", "machines/%C3%BC.yaml"),
    ],
)
def test_files_have_names_that_loading_finds(name: str, file: str, tmp_path: Path) -> None:
    files = layout([resource("domain", name, memory="1GiB")])
    assert list(map(str, files)) == [file]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    assert [r.id.name for r in load([tmp_path]).resources] == [name]


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    files = layout([resource("domain", letter + "x" * 199, memory="1GiB") for letter in "äö"])
    assert len(files) == 2
    assert all(len(path.name) < 255 for path in files)


def test_volumes_are_in_a_folder_of_their_pool() -> None:
    files = layout([resource("volume", name, pool="images", capacity="1GiB") for name in ("a", "b.qcow2")])
    assert list(map(str, files)) == ["volumes/images/a.yaml", "volumes/images/b.qcow2.yaml"]


@pytest.mark.parametrize("size", [0, 1, 512, 2048, 1000, (1 << 20) - 1, 1 << 20, 1_000_001])
def test_a_size_of_any_kind_is_read_back_as_the_same(size: int, tmp_path: Path) -> None:
    made = resource("volume", "a", pool="images", format="raw", capacity=size)
    (tmp_path / "a.yaml").write_text(manifest([made]))
    assert load([tmp_path]).resources[0].spec.capacity == size
