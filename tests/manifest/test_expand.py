"""One document that yields other resources: their place is the document, and what is wrong with them says which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scene import PROJECT, host

from kvmstate.cli.validate import notes, summary
from kvmstate.errors import ManifestErrors
from kvmstate.kind import Declaration, Form, Kind
from kvmstate.kinds import BY_NAME, BY_WORD
from kvmstate.manifest import expand, load
from kvmstate.manifest.manifests import Manifests
from kvmstate.model.change import Action
from kvmstate.model.inventory import Inventory
from kvmstate.model.resource import Metadata, Origin, Resource, ResourceId
from kvmstate.plan import Options, make_plan, saved
from kvmstate.views import graph

HEAD = "apiVersion: kvmstate/v1\n"
POOL = HEAD + "kind: StoragePool\nmetadata: {name: images}\nspec: {type: dir, target: {path: /pools/images}}\n"
HERD = HEAD + "kind: Herd\nmetadata: {name: web}\nspec:\n  disks: 1\n  count: %s\n"


class HerdSpec(Declaration):
    """So many machines of a kind, with a disk each: for these tests."""

    count: int
    disks: int = 0
    machine: dict[str, Any] = {}
    volume: dict[str, Any] = {}
    inner: str = "domain"


def herd(resource: Resource) -> Iterator[Resource]:
    name, spec = resource.metadata.name, resource.spec
    if spec.count < 0:
        raise ValueError("expected a count of 0 or more")
    for number in range(1, spec.count + 1):
        if spec.inner == "herd":
            yield replace(resource, id=ResourceId("herd", f"{name}-{number}"))
            continue
        disk = {"name": "root", "volume": f"images/{name}-{number}"}
        for _ in range(spec.disks):
            yield made("volume", f"images/{name}-{number}", pool="images", capacity="1MiB", **spec.volume)
        machine = {"memory": "64MiB", "state": "stopped", "disks": [disk], **spec.machine}
        yield made("domain", f"{name}-{number}", **machine)


def made(kind: str, name: str, **spec: Any) -> Resource:
    validated = BY_WORD[kind].adapter.validate_python(spec)
    return Resource(ResourceId(kind, name), validated, Metadata(name=name.rpartition("/")[2]))


@pytest.fixture(autouse=True)
def kind(monkeypatch: pytest.MonkeyPatch) -> Kind:
    found = Kind("Herd", "herd", "Machines that are alike.", Form(HerdSpec), on_host=False, expand=herd)
    monkeypatch.setitem(BY_NAME, found.name, found)
    monkeypatch.setitem(BY_WORD, found.word, found)
    return found


def loaded(folder: Path, *documents: str, name: str = "all.yaml") -> Manifests:
    (folder / name).write_text("---\n".join(documents))
    return load([folder])


def problems(folder: Path, *documents: str, name: str = "all.yaml") -> list[str]:
    with pytest.raises(ManifestErrors) as raised:
        loaded(folder, *documents, name=name)
    return [str(problem).replace(f"{folder}/", "") for problem in raised.value.problems]


def test_a_document_yields_resources_whose_place_it_is(tmp_path: Path) -> None:
    found = loaded(tmp_path, POOL, HERD % 2)
    ids = "domain/web-1 domain/web-2 herd/web pool/images volume/images/web-1 volume/images/web-2"
    assert [str(resource.id) for resource in found.resources] == ids.split()
    machine = found.get(ResourceId("domain", "web-2"))
    assert machine
    assert machine.origin == Origin(f"{tmp_path}/all.yaml", 6, "herd/web")
    # a field of its own is not one of the document's, though that has one of the same name
    for path in ((), ("memory",), ("disks", 0, "volume")):
        assert found.at(machine.id, path) == (f"{tmp_path}/all.yaml", 6, 1)
    assert found.at(ResourceId("herd", "web"), ("count",)) == (f"{tmp_path}/all.yaml", 11, 10)
    assert summary(found) == "6 resources valid (1 StoragePool, 2 Volume, 2 VirtualMachine)"


def test_they_are_planned_and_the_document_itself_is_not(tmp_path: Path) -> None:
    found = loaded(tmp_path, POOL, HERD % 1)
    plan = make_plan(host("pool/images"), found.resources, Inventory(PROJECT, {}), Options(), found.place)
    todo = {str(change.id): change for change in plan.changes}
    assert todo.keys() == {"pool/images", "volume/images/web-1", "domain/web-1"}
    assert todo["domain/web-1"].action is todo["volume/images/web-1"].action is Action.CREATE
    assert ResourceId("volume", "images/web-1") in todo["domain/web-1"].needs


def test_a_saved_plan_knows_where_they_are_from(tmp_path: Path) -> None:
    found, on, record = loaded(tmp_path, POOL, HERD % 1), host("pool/images"), Inventory(PROJECT, {})
    plan = make_plan(on, found.resources, record, Options(), found.place)
    again = saved.read(json.dumps(saved.saved(plan, on, record, Options())), "plan")
    origins = {str(resource.id): resource.origin for resource in again.resources}
    assert origins["domain/web-1"] == Origin(f"{tmp_path}/all.yaml", 6, "herd/web")
    assert origins.keys() == {"pool/images", "volume/images/web-1", "domain/web-1"}


def test_one_that_is_declared_too_is_told_with_both_places(tmp_path: Path) -> None:
    other = HEAD + "kind: VirtualMachine\nmetadata: {name: web-1}\nspec: {memory: 1GiB}\n"
    assert problems(tmp_path, other, POOL, HERD % 2) == [
        "all.yaml:11:1: domain/web-1 (of herd/web): domain/web-1 is declared twice: here and at all.yaml:1:1"
    ]
    assert problems(tmp_path, POOL, HERD % 1, other) == [
        "all.yaml:16:7: domain/web-1 is declared twice: here and at all.yaml:6:1 (of herd/web)"
    ]


def test_what_is_wrong_between_them_says_which_they_are(tmp_path: Path) -> None:
    document = HERD % 2 + "  machine: {state: running, interfaces: [{network: lan, mac: '52:54:00:00:00:01'}]}\n"
    assert problems(tmp_path, POOL, document) == [
        "all.yaml:6:1: spec.interfaces[0].mac: domain/web-2 (of herd/web): the MAC address 52:54:00:00:00:01 is also "
        "that of domain/web-1 at all.yaml:6:1 (of herd/web), on network lan"
    ]


def test_files_that_they_name_are_looked_for_beside_the_document(tmp_path: Path) -> None:
    document = HERD % 1 + "  volume: {content: {file: web.img}}\n"
    (said,) = problems(tmp_path, POOL, document)
    assert said.startswith("all.yaml:6:1: spec.content.file: volume/images/web-1 (of herd/web): web.img: no such file")
    (tmp_path / "web.img").write_bytes(b"content")
    volume = loaded(tmp_path, POOL, document).get(ResourceId("volume", "images/web-1"))
    assert volume
    assert volume.spec.content.file == f"{tmp_path}/web.img"


def test_a_picture_has_them(tmp_path: Path) -> None:
    assert '"domain/web-1" -> "volume/images/web-1"' in graph.dot(loaded(tmp_path, POOL, HERD % 1).resources)


def test_what_they_refer_to_and_nobody_has_says_which_they_are(tmp_path: Path) -> None:
    found = loaded(tmp_path, POOL, HERD % 1 + "  machine: {interfaces: [{network: nowhere}]}\n")
    (note,) = notes(found)
    assert note.endswith(
        "all.yaml:6:1: domain/web-1 (of herd/web): network/nowhere is not in these manifests; it must be on the host"
    )
    with pytest.raises(ManifestErrors) as raised:
        make_plan(host("pool/images"), found.resources, Inventory(PROJECT, {}), Options(), found.place)
    (problem,) = raised.value.problems
    assert (problem.line, problem.path) == (6, "spec.interfaces[0].network")
    assert problem.message.startswith("domain/web-1 (of herd/web): ")


def test_a_line_after_rendering_is_told_as_that(tmp_path: Path) -> None:
    twice = HERD % 1 + "---\n" + HERD % 1
    (first, second) = problems(tmp_path, POOL, twice, name="all.yaml.j2")[:2]
    assert "(line 13 after rendering)" in first
    assert first.startswith("all.yaml.j2: domain/web-1 (of herd/web): domain/web-1 is declared twice")
    assert "herd/web is declared twice" in second


def test_a_document_that_can_yield_nothing_says_why(tmp_path: Path) -> None:
    assert problems(tmp_path, HERD % -1) == ["all.yaml:1:1: herd/web yields nothing: expected a count of 0 or more"]
    assert problems(tmp_path, HERD % 1 + "  machine: {cpus: many}\n") == [
        "all.yaml:1:1: cpus: what herd/web yields is not valid: Input should be a valid integer, unable to parse "
        "string as an integer"
    ]
    assert [str(r.id) for r in loaded(tmp_path, HERD % 0).resources] == ["herd/web"]


def test_what_is_yielded_yields_no_more(tmp_path: Path) -> None:
    assert problems(tmp_path, HERD % 1 + "  inner: herd\n") == [
        "all.yaml:1:1: herd/web yields herd/web-1, which would yield others"
    ]


def test_no_document_yields_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expand, "MOST", 100)
    assert problems(tmp_path, HERD % 10**9) == ["all.yaml:1:1: herd/web yields more than 100 resources"]
