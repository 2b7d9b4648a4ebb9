"""What libvirt and QEMU round, spell or fill in is the value that was wanted, and nothing is done twice for one
difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource

pytestmark = pytest.mark.real

NOW = {"restart": "now"}


@pytest.mark.parametrize(
    "spec",
    [
        {"memory": "64MB"},
        {"memory": 70_000 * 1024, "maxMemory": "100001KiB"},
        {"memory": "64MiB", "maxMemory": "128MB"},
        {"memory": "64MiB", "machine": "pc"},
        {"memory": "64MiB", "serials": [{"port": 0, "log": "/var/log//libvirt/qemu/./fights.log"}]},
        {"memory": "64MiB", "rng": {"source": "/dev//urandom"}},
        {"memory": "64MiB", "interfaces": [{"name": "n", "network": "lan", "mac": "52:54:00:AA:BB:CC"}]},
        {
            "memory": "64MiB",
            "remainder": "<domain><uuid>0F8FAD5BD9CB469FA16570867728950E</uuid><memory unit='MB'>64</memory>"
            "<os><type machine='pc'>hvm</type></os></domain>",
        },
    ],
    ids=lambda spec: "-".join(spec),
)
def test_what_is_rounded_or_spelled_otherwise_is_the_same(
    spec: dict[str, Any], project: Project, connection: libvirt.virConnect
) -> None:
    project.converge(resource("Network", "lan"), idle("odd", lifecycle=NOW, type="qemu", **spec))
    before = connection.lookupByName("odd").ID()
    project.converge()
    assert connection.lookupByName("odd").ID() == before


def test_an_iso_image_is_a_volume_and_raw_to_the_machine(project: Project, connection: libvirt.virConnect) -> None:
    (project.folder / "disc.iso").write_bytes(_iso())

    def documents(format: str) -> list[dict[str, Any]]:
        lifecycle = {"replace": "allow", "deletion": "delete"}
        content = {"file": "disc.iso"}
        return [
            pool(),
            resource("Volume", "disc.iso", lifecycle, pool="images", format=format, content=content),
            idle("web", disks=[{"name": "cd", "device": "cdrom", "volume": "images/disc.iso"}]),
        ]

    project.converge(*documents("iso"))
    made = project.path("images/disc.iso").stat().st_ino
    for format in ("raw", "iso"):
        project.converge(*documents(format))
    assert project.path("images/disc.iso").stat().st_ino == made
    text = connection.lookupByName("web").XMLDesc()
    assert "<driver name='qemu' type='raw'/>" in text


def test_an_iso_volume_that_is_imported_is_rebuilt(project: Project, connection: libvirt.virConnect) -> None:
    (project.folder / "disc.iso").write_bytes(_iso())
    project.converge(pool(), resource("Volume", "disc.iso", pool="images", format="iso", content={"file": "disc.iso"}))
    for secret in connection.listAllSecrets():
        secret.undefine()
    folder = str(project.folder.parent / "taken")
    assert (taken := kvmstate("import", "--all", "-c", project.uri, "-o", folder)).code == 0, taken
    connection.storagePoolLookupByName("images").storageVolLookupByName("disc.iso").delete()
    again = kvmstate("recreate", "volume/images/disc.iso", folder, "--auto-approve")
    assert again.code == 0, again
    assert (plan := kvmstate("plan", folder, "--detailed-exitcode")).code == 0, plan


@pytest.mark.parametrize("format", ["raw", "iso", "qcow2"])
def test_a_capacity_that_is_rounded_up_is_the_same(format: str, project: Project) -> None:
    project.converge(pool(), resource("Volume", "odd", pool="images", format=format, capacity="36872B"))


def _iso() -> bytes:
    """As much of one as libvirt looks for: a primary volume descriptor."""
    return b"\0" * 0x8000 + b"\1CD001\1\0" + b"\0" * 0x1000


def test_a_difference_that_remains_is_applied_once_and_then_held(
    project: Project, connection: libvirt.virConnect
) -> None:
    def machine(cpus: str, **more: Any) -> dict[str, Any]:
        return idle("odd", lifecycle=NOW, type="qemu", cpus=2, xml={"./vcpu/@cpuset": cpus}, **more)

    project.write(machine("0-1"))
    assert project.apply().code == 0
    # libvirt writes 0-1
    project.write(machine("0,1"))
    applied = project.apply()
    assert applied.code == 1, applied
    before = connection.lookupByName("odd").ID()
    held = project.plan()
    assert "xml[./vcpu/@cpuset] was applied, and the difference remained: it is not applied again" in held.out, held
    assert project.apply().code == 1
    assert connection.lookupByName("odd").ID() == before
    # all else goes on
    project.write(machine("0,1", title="new"))
    assert project.apply().code == 1
    assert connection.lookupByName("odd").ID() == before
    assert "<title>new</title>" in connection.lookupByName("odd").XMLDesc()
    connection.lookupByName("odd").destroy()
    project.apply()
    assert connection.lookupByName("odd").isActive()
    # another value is another difference
    project.converge(machine("1", title="new"))
    assert connection.lookupByName("odd").ID() != before


def test_nothing_is_uploaded_again_and_again(project: Project) -> None:
    # what libvirt takes for another format, by its content
    (project.folder / "image").write_bytes(b"LUKS\xba\xbe\0\1" + b"\0" * 0x10000)
    lifecycle = {"replace": "allow", "deletion": "delete"}
    project.write(
        pool(), resource("Volume", "image", lifecycle, pool="images", format="raw", content={"file": "image"})
    )
    project.apply()
    project.apply()
    made = _made(project.path("images/image"))
    for _ in range(2):
        project.apply()
    assert _made(project.path("images/image")) == made


def _made(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns
