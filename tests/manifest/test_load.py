"""What loading gives: resources by address, places, references that dangle; and the project that says how."""

from pathlib import Path

import pytest

from kvmstate.errors import KvmstateError, ManifestErrors, UsageError
from kvmstate.manifest import load, load_project
from kvmstate.manifest.scalars import resolve
from kvmstate.model.resource import ResourceId

NETWORK = "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: %s}\nspec: {mtu: 1500}\n"
MACHINE = """\
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {name: web}
spec:
  memory: 1GiB
  disks:
    - name: root
      volume: images/root
  interfaces: [{network: lan}]
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_j2", ".yaml.j2")
        path = path if "." in path.name else path.with_suffix(".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("+12", 12),
        ("True", True),
        ("tRue", "tRue"),
        ("", None),
        ("~", None),
        ("Null", None),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("-", "-"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_the_result_does_not_depend_on_files(tmp_path: Path) -> None:
    split = write(tmp_path / "a", z=NETWORK % "a", sub__b=MACHINE, y=NETWORK % "b")
    joined = write(tmp_path / "b", all="---\n".join([MACHINE, NETWORK % "b", NETWORK % "a"]))
    first, second = load([split]), load([joined])
    assert [(r.id, r.spec) for r in first.resources] == [(r.id, r.spec) for r in second.resources]
    assert load([split / "z.yaml", split, split / "z.yaml"]).resources == first.resources


def test_places_and_dangling_references(tmp_path: Path) -> None:
    manifests = load([write(tmp_path, m=MACHINE)])
    web = ResourceId("domain", "web")
    file = str(tmp_path / "m.yaml")
    assert manifests.at(web, ("disks", 0, "volume")) == (file, 8, 15)
    assert manifests.at(web, ("disks", "root", "volume")) == (file, 8, 15)
    assert manifests.at(web, ("disks", 0, "bus")) == (file, 7, 7)
    assert manifests.at(web, ("name",), "metadata") == (file, 3, 18)
    assert [str(ref.target) for _, ref in manifests.dangling] == ["volume/images/root", "network/lan"]


def test_hidden_files_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, a=NETWORK % "a", **{".git__c": "junk"})
    assert len(load([tmp_path]).resources) == 1


def test_a_local_file_becomes_absolute(tmp_path: Path) -> None:
    volume = "apiVersion: kvmstate/v1\nkind: Volume\nmetadata: {name: v}\nspec: {pool: p, content: {file: v.yaml}}\n"
    assert load([write(tmp_path, v=volume)]).resources[0].spec.content.file == str(tmp_path / "v.yaml")


def test_a_project_merges_values_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        kvmstate="project: shop\nconnection: test:///default\nmanifests: [m]\nvalues: [base.yaml]\n"
        "environments: {prod: {connection: 'qemu:///system', values: [prod.yaml], prune: true}}\n",
        base="name: {a: base, b: base, c: base, d: base}",
        prod="name: {b: prod, c: prod, d: prod}",
        extra="name: {c: extra, d: extra}",
        m__net_j2=NETWORK % "{{ values.name.values() | join('-') }}",
    )
    project = load_project(tmp_path / "m", "prod", ["name.d=no"], [tmp_path / "extra.yaml"])
    assert (project.name, project.connection, project.prune) == ("shop", "qemu:///system", True)
    assert project.values == {"name": {"a": "base", "b": "prod", "c": "extra", "d": "no"}}
    assert [r.id.name for r in project.load().resources] == ["base-prod-extra-no"]
    assert load_project(tmp_path).connection == "test:///default"


def test_without_a_project_file_there_is_a_default_one(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    project = load_project(write(tmp_path, a=NETWORK % "a"))
    assert (project.name, project.connection, project.prune) == ("default", None, False)
    assert len(project.load().resources) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("project: x\nmanifest: [a]\n", "kvmstate.yaml:2:1: manifest: unknown field\n  hint: did you mean manifests?"),
        ("projects: x\n", "kvmstate.yaml:1:1: project: this field is required"),
        ("project: -x\n", "must match"),
        ("- 1\n", "expected a mapping; found a list"),
        ("project: x\n---\nproject: y\n", "found several"),
        ("project: x\nvalues: [none.yaml]\n", "none.yaml: cannot be read: No such file"),
    ],
)
def test_project_files_are_checked_like_manifests(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestErrors) as errors:
        load_project(write(tmp_path, kvmstate=text))
    assert said in str(errors.value)


@pytest.mark.parametrize("arguments", [{"env": "prd"}, {"set_values": ["x"]}, {"set_values": [".=1"]}])
def test_impossible_requests(arguments: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path, kvmstate="project: x\nenvironments: {prod: {}}\n")
    with pytest.raises(UsageError) as error:
        load_project(tmp_path, **arguments)  # type: ignore[arg-type]
    assert error.value.hint


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KvmstateError, match="no such file"):
        load([tmp_path / "none"])


def test_null_is_nothing_in_a_text(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("suffix:\nnested: {none: null}\n")
    (tmp_path / "kvmstate.yaml").write_text("project: p\nvalues: [values.yaml]\n")
    names = [
        "a{{ values.suffix }}",
        "{{ 'b' ~ values.suffix }}",
        "{{ 'c' ~ (values.nested.none | string) }}",
        "d{{ values.nested.none if true }}",
    ]
    text = "---\n".join(NETWORK % name for name in names).replace("1500", "1500{{ values.suffix }}")
    (tmp_path / "m.yaml.j2").write_text(text)
    found = load_project(tmp_path).load()
    assert [resource.id.name for resource in found.resources] == ["a", "b", "c", "d"]
