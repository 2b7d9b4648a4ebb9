"""Where `explain --resolved` says that values come from which a machine has from its template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import kvmstate

from kvmstate.manifest import load
from kvmstate.manifest.provenance import Provenance, Source, Word
from kvmstate.model.resource import ResourceId
from kvmstate.views.values import plain

TEXT = """apiVersion: kvmstate/v1
kind: Template
metadata: {name: golden}
spec:
  pool: images
  source: {volume: images/debian}
  clone: linked
  defaults:
    memory: 1GiB
    graphics: [{type: vnc, password: {clear: hush}}]
    disks: [{name: root, bus: sata}]
---
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {name: web}
spec:
  template: golden
  clone: full
---
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {name: db}
spec: {template: golden}
"""


@pytest.mark.parametrize(
    ("address", "path", "word", "line"),
    [
        ("domain/web", "memory", Word.INHERITED, 9),
        ("domain/web", "graphics.0.password.clear", Word.INHERITED, 10),
        ("volume/images/web-root.qcow2", "pool", Word.INHERITED, 5),
        ("volume/images/web-root.qcow2", "clone", Word.DERIVED, 18),
        ("volume/images/db-root.qcow2", "clone", Word.INHERITED, 7),
    ],
)
def test_of_a_template(tmp_path: Path, address: str, path: str, word: Word, line: int) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(TEXT)
    manifests = load([file])
    wanted = manifests.get(ResourceId.parse(address))
    assert wanted, [str(each.id) for each in manifests.resources]
    said = plain(wanted.spec)[0]
    found = {
        ".".join(map(str, each.path)): each.source for each in Provenance(manifests, wanted, said, said, said).values()
    }
    by = "template/golden" if word is Word.INHERITED else ""
    assert found[path] == Source(word, str(file), line, by), found


def test_what_a_template_has_itself(tmp_path: Path) -> None:
    """Its domain, and the volumes of its versions."""
    (tmp_path / "image.raw").write_bytes(bytes(4096))
    network = "interfaces: [{name: lan, bridge: br0}]"
    text = TEXT.replace("volume: images/debian", "file: image.raw").replace("clone: linked", "keepDomain: true")
    (tmp_path / "m.yaml").write_text(text.replace("disks:", f"{network}\n    disks:").partition("---")[0])
    words = ("explain", "--resolved", "--json", str(tmp_path), "-c", "test:///default")
    found = {}
    for pattern in ("template/golden", "domain/golden", "volume/images/*"):
        done = kvmstate(*words[:2], pattern, *words[2:])
        assert done.code == 0, done
        told = json.loads(done.out)["resources"]
        found[pattern] = {
            each["address"]: {
                ".".join(map(str, value["path"])): (value["source"], value["line"], value["by"])
                for value in each["values"]
            }
            for each in told
        }
    whole = found["template/golden"]
    assert found["domain/golden"] | found["volume/images/*"] == whole
    assert whole.keys() == {"domain/golden", "volume/images/golden-v1.qcow2"}
    domain, volume = whole["domain/golden"], whole["volume/images/golden-v1.qcow2"]
    assert domain["memory"] == ("inherited", 9, "template/golden")
    assert domain["interfaces.lan.bridge"] == ("inherited", 11, "template/golden")
    assert domain["disks.root.bus"] == ("inherited", 12, "template/golden")
    assert domain["disks.root.readOnly"] == ("derived", 5, "")
    assert domain["interfaces.lan.model"] == ("default", 0, "")
    assert volume["pool"] == ("derived", 5, "")


def test_a_pattern_names_several(tmp_path: Path) -> None:
    network = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: NAME}\nspec: {}\n"
    (tmp_path / "m.yaml").write_text("---\n".join(network.replace("NAME", name) for name in ("lan-1", "lan-2", "wan")))
    for pattern, found in (("network/lan-*", ["network/lan-1", "network/lan-2"]), ("Network/wan", ["network/wan"])):
        said = kvmstate("explain", "--resolved", pattern, str(tmp_path), "-c", "test:///default").out
        assert [line[2:] for line in said.splitlines() if line.startswith("# network/")] == found
    assert (
        "did you mean network/lan-1?"
        in kvmstate("explain", "--resolved", "network/lan1", str(tmp_path), "-c", "test:///default").err
    )
