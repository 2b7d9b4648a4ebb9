"""Each type of storage pools, from its definition to its end, as people drive it; storage.yaml is the table."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml
from harness import Project, idle, kvmstate, resource, wipe
from lab_host import Lab

from kvmstate.model.pool_types import TYPES as POOL_TYPES

TABLE = yaml.safe_load((Path(__file__).parent / "storage.yaml").read_text())
STEPS: dict[str, str] = TABLE["steps"]
TYPES: dict[str, dict[str, Any]] = TABLE["types"]
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "storage-types.md"
LOG = "/var/log/libvirt/qemu/booted-console.log"
IMAGE = "/srv/lab/boot.img"
MIB = 1 << 20
# prints "lab: booted" on the serial port, whoever boots it
SECTOR = (
    b"\x31\xc0\x8e\xd8\xfc\xbe\x16\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xf4\xeb\xfd" + b"lab: booted\r\n\0"
).ljust(510, b"\0") + b"\x55\xaa"


@dataclass
class Journey:
    """One type, step by step: each keeps what those before it have made."""

    lab: Lab
    project: Project
    said: dict[str, Any]
    documents: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def go(self) -> None:
        """All steps. One that fails is undone in the manifests, and told."""
        self.lab.run(f"mkdir -p /srv/lab; rm -f {LOG}; {self.said.get('before', 'true')}")
        self.lab.put(IMAGE, SECTOR.ljust(MIB, b"\0"))
        (self.project.folder / "boot.img").write_bytes(SECTOR.ljust(MIB, b"\0"))
        for step in STEPS:
            before, began = copy.deepcopy(self.documents), time.monotonic()
            try:
                if quoted := self.said.get("cannot", {}).get(step):
                    self.refused(step, quoted)
                elif step in self.said.get("not", {}):
                    self.refused(step)
                else:
                    getattr(self, step)()
            except Exception as error:
                self.failed[step] = f"{type(error).__name__}: {error}"
                self.documents = before
            print(f"{self.said['pool']['type']} {step}: {time.monotonic() - began:.1f} s {self.failed.get(step, 'ok')}")

    @property
    def name(self) -> str:
        return self.said["found"] if self.lacks("create") else self.names[0]

    @property
    def bootable(self) -> str:
        """The volume that machines boot from."""
        return self.name if self.lacks("upload") else self.names[1]

    @property
    def names(self) -> list[str]:
        return self.said.get("volumes", ["one", "boot", "copy", "layer"])

    def lacks(self, step: str) -> bool:
        return step in self.said.get("cannot", {}) or step in self.said.get("not", {})

    def apply(self, *options: str, **documents: Any) -> None:
        """The manifests with these documents (None takes one out) are applied."""
        self.documents = {k: v for k, v in {**self.documents, **documents}.items() if v is not None}
        self.project.write(*self.documents.values())
        applied = self.project.apply(*self.secrets, *options)
        assert applied.code == 0, applied

    @property
    def secrets(self) -> tuple[str, ...]:
        return ("--secrets", str(self.project.folder.parent / "secrets")) if "secret" in self.said else ()

    def pool(self, **spec: Any) -> dict[str, Any]:
        return resource("StoragePool", "store", **{**self.said["pool"], **spec})

    def volume(self, name: str, lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        return resource("Volume", name, lifecycle, **{"pool": "store", "format": "raw", **spec})

    def virsh(self, command: str, check: bool = True) -> str:
        return self.lab.run(f"virsh --connect qemu:///system {command}", check)

    def built(self) -> None:
        self.lab.run(self.said["built"])

    # the steps

    def define(self) -> None:
        self.apply(pool=self.pool(active=False))
        assert "store" in self.virsh("pool-list --all --name").split()

    def build(self) -> None:
        self.apply(pool=self.pool())
        if "built" in self.said:
            self.built()

    def start(self) -> None:
        self.apply(pool=self.pool(active=False))
        assert "store" not in self.virsh("pool-list --name").split()
        self.apply(pool=self.pool(autostart=True))
        assert "store" in self.virsh("pool-list --name").split()

    def refresh(self) -> None:
        self.lab.run(self.said.get("outside", "true"))
        self.virsh("pool-refresh store")
        self.documents["found"] = self.volume(self.said["found"], capacity=self.said.get("size", "8MiB"))
        self.project.write(*self.documents.values())
        adopted = self.project.kvmstate("adopt", "--auto-approve", *self.secrets)
        assert adopted.code == 0, adopted
        assert f"store/{self.said['found']}" in adopted.out, adopted

    def create(self) -> None:
        self.apply(one=self.volume(self.names[0], {"deletion": "delete"}, capacity="8MiB"))
        assert self.capacity(self.names[0]) == 8 * MIB

    def upload(self) -> None:
        self.apply(boot=self.volume(self.names[1], capacity="8MiB", content={"file": "boot.img"}))
        self.virsh(f"vol-download --pool store {self.names[1]} /srv/lab/read --length {MIB}")
        self.lab.run(f"cmp {IMAGE} /srv/lab/read")

    def grow(self) -> None:
        self.apply(one=self.volume(self.names[0], {"deletion": "delete"}, capacity="16MiB"))
        assert self.capacity(self.names[0]) == 16 * MIB

    def clone(self) -> None:
        self.apply(copy=self.volume(self.names[2], capacity="8MiB", content={"volume": f"store/{self.bootable}"}))
        if not self.lacks("upload"):
            self.virsh(f"vol-download --pool store {self.names[2]} /srv/lab/read --length {MIB}")
            self.lab.run(f"cmp {IMAGE} /srv/lab/read")

    def link(self) -> None:
        kind, base = POOL_TYPES[self.said["pool"]["type"]], self.said.get("base", self.bootable)
        format_ = "raw" if kind.own_layers else "qcow2"
        self.apply(layer=self.volume(self.names[3], format=format_, backing=f"store/{base}"))
        linked = self.said.get("linked", f"virsh vol-dumpxml --pool store {self.names[3]}")
        assert re.search("backingStore|parent: ", self.lab.run(linked))

    def boot(self) -> None:
        if self.lacks("upload"):
            self.lab.run(self.said["fill"])
        disk = self.said.get("disk") or {"volume": f"store/{self.bootable if self.lacks('link') else self.names[3]}"}
        self.apply(
            booted=idle("booted", disks=[{"name": "root", **disk}], serials=[{"port": 0, "log": LOG}], machine="pc")
        )
        # waited for in there: each question from here takes what the machine needs to boot
        self.lab.run(f"timeout 600 sh -c 'until grep -qs \"lab: booted\" {LOG}; do sleep 0.5; done'", timeout=660)

    def snapshot(self) -> None:
        for command in ("create --name one booted", "delete booted one --auto-approve"):
            verb, *words = command.split()
            done = kvmstate("snapshot", verb, "-c", self.project.uri, *words)
            assert done.code == 0, done

    def delete(self) -> None:
        key, name = ("found", self.said["found"]) if self.lacks("create") else ("one", self.names[0])
        self.documents[key] = {**self.documents[key], "lifecycle": {"deletion": "delete"}}
        if key == "found":
            self.apply()
        self.apply("--prune", **{key: None})
        assert name not in self.virsh("vol-list store").split()

    def empty(self) -> None:
        planned = self.project.plan(*self.secrets)
        assert planned.code == 0, planned

    def import_(self) -> None:
        folder, name = str(self.project.folder.parent / "imported"), self.project.name
        with self.unrecorded():
            taken = kvmstate("import", "-c", self.project.uri, "-o", folder, "--all", "--project", name)
            assert taken.code == 0, taken
            planned = kvmstate("plan", folder, "-c", self.project.uri, "--detailed-exitcode", *self.secrets)
            assert planned.code == 0, planned

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """As if all of it had been made by hand; in the end the project has its record again, and no other."""
        connection = libvirt.open(self.project.uri)
        try:
            kept = {each.XMLDesc(): each.value() for each in self.records(connection)}
            for each in self.records(connection):
                each.undefine()
            yield
        finally:
            for each in self.records(connection):
                each.undefine()
            for text, value in kept.items():
                connection.secretDefineXML(text).setValue(value)
            connection.close()

    def records(self, connection: libvirt.virConnect) -> list[libvirt.virSecret]:
        return [each for each in connection.listAllSecrets() if "kvmstate" in each.usageID()]

    def stop(self) -> None:
        self.apply("--prune", **dict.fromkeys(self.documents.keys() - {"pool", "secret"}))
        self.apply(pool=self.pool(active=False))
        assert "store" not in self.virsh("pool-list --name").split()

    def undefine(self) -> None:
        self.apply("--prune", "--allow-empty", pool=None)
        assert "store" not in self.virsh("pool-list --all --name").split()
        if "built" in self.said:
            self.built()

    def refused(self, step: str, quoted: str = "") -> None:
        """kvmstate says so before it does anything, and so does virsh, where it is `quoted`."""
        if step == "snapshot":
            taken = kvmstate("snapshot", "create", "-c", self.project.uri, "--name", "one", "booted")
            assert (taken.code, "is not an image file" in taken.err) == (1, True), taken
            return
        documents = {
            "create": {"one": self.volume(self.names[0], capacity="8MiB")},
            "upload": {"boot": self.volume(self.names[1], capacity="8MiB", content={"file": "boot.img"})},
            "grow": {"one": self.volume(self.names[0], capacity="16MiB")},
            "clone": {"copy": self.volume(self.names[2], content={"volume": f"store/{self.name}"})},
            "link": {"layer": self.volume(self.names[3], format="qcow2", backing=f"store/{self.name}")},
            # the machine on it would be why
            "delete": {"found": None, "booted": None},
        }[step]
        bare = {
            "create": f"vol-create-as store {self.names[0]} 8M",
            "upload": f"vol-upload --pool store {self.name} {IMAGE}",
            "grow": f"vol-resize --pool store {self.name} 512M",
            "clone": f"vol-clone --pool store {self.name} {self.names[2]}",
            "link": f"vol-create-as store {self.names[3]} 8M --format qcow2 --backing-vol {self.name} "
            "--backing-vol-format raw",
            "delete": f"vol-delete --pool store {self.said['found']}",
        }[step]
        if quoted:
            said = self.virsh(bare, check=False)
            assert quoted in said, said
        options: tuple[str, ...] = self.secrets
        if step == "delete":
            self.documents["found"]["lifecycle"] = {"deletion": "delete"}
            self.apply()
            options += ("--prune",)
        wanted = {k: v for k, v in {**self.documents, **documents}.items() if v is not None}
        self.project.write(*wanted.values())
        planned = self.project.plan(*options)
        assert planned.code != 0, planned
        assert "pool of type" in str(planned), planned
        if step == "delete":
            # released, and not deleted, from here on
            del self.documents["found"]["lifecycle"]
            self.apply()

    def capacity(self, name: str) -> int:
        text = self.virsh(f"vol-dumpxml --pool store {name}")
        return int(re.search(r"<capacity unit='bytes'>(\d+)<", text)[1])  # type: ignore[index]


setattr(Journey, "import", Journey.import_)


@pytest.fixture(scope="module", params=TYPES)
def journey(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    said = TYPES[request.param]
    if (needed := said.get("needs")) and lab.run(f"{needed} >/dev/null 2>&1 || echo no", check=False):
        pytest.skip(f"this lab was built without it: {needed}")
    wipe(lab.uri)
    folder = tmp_path_factory.mktemp("types")
    made = Journey(lab, Project(lab.uri, folder / "shop"), said)
    if "secret" in said:
        (folder / "secrets").write_text(f"key: file:{folder}/key\n")
        (folder / "key").write_text(lab.run(said["secret"]["read"]))
        (folder / "key").chmod(0o600)
        made.documents["secret"] = resource(
            "Secret", "ceph", usage=said["secret"]["usage"], value={"from": "key", "encoding": "base64"}
        )
    devices = [said["device"]] if "device" in said else []
    try:
        lab.blank(*devices)
        made.go()
        yield made
    finally:
        wipe(lab.uri)
        lab.run(said.get("after", "true"), check=False)
        lab.blank(*devices)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_each_type(journey: Journey, step: str) -> None:
    assert journey.failed.get(step, "") == ""


def table() -> Iterator[str]:
    """As the documentation has it, with what libvirt says below it."""
    yield ""
    for step, what in STEPS.items():
        yield f"- {step}: {what}"
    yield ""
    yield f"| type | {' | '.join(STEPS)} |"
    yield f"|{'---|' * (len(STEPS) + 1)}"
    notes: list[str] = []
    for name, said in TYPES.items():
        if not said.get("seen"):
            continue
        cells = []
        for step in STEPS:
            mark, why = "yes", ""
            if step == "build" and "built" not in said:
                mark = "-"
            if quoted := said.get("cannot", {}).get(step):
                mark, why = "cannot", f'libvirt: "{quoted}"'
            elif why := said.get("not", {}).get(step, ""):
                mark = "no"
            if step not in said.get("seen", ()) and mark != "no":
                mark, why = "not tried", ""
            if why and why not in notes:
                notes.append(why)
            cells.append(f"{mark} ({notes.index(why) + 1})" if why else mark)
        yield f"| `{name}` | {' | '.join(cells)} |"
    tried = {said["pool"]["type"] for said in TYPES.values() if said.get("seen")}
    yield ""
    yield f"Not tried on real storage yet: {', '.join(sorted(POOL_TYPES.keys() - tried))}."
    yield ""
    for number, why in enumerate(notes):
        yield f"{number + 1}. {why}"


def test_the_page_has_this_table(request: pytest.FixtureRequest) -> None:
    """`pytest --regenerate` on this file writes it again."""
    text = DOCS.read_text(encoding="utf-8")
    before, mark, _ = text.partition("The steps:\n")
    wanted = before + mark + "\n".join([*table(), ""])
    if request.config.getoption("--regenerate"):
        DOCS.write_text(wanted, encoding="utf-8")
    assert text == wanted


def test_the_table_names_steps_and_types_that_there_are() -> None:
    named = {step for said in TYPES.values() for key in ("cannot", "not", "seen") for step in said.get(key, {})}
    assert named <= STEPS.keys()
    assert {said["pool"]["type"] for said in TYPES.values()} <= POOL_TYPES.keys()
