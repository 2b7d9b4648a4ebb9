"""A base that others build upon is not replaced: the plan names all of them, and the ways that it offers are safe."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import libvirt
import pytest
from harness import Project, idle, kvmstate, pool, resource, until

pytestmark = pytest.mark.real


def layer(name: str, over: str = "base") -> dict[str, Any]:
    return resource("Volume", name, pool="images", backing=f"images/{over}", capacity="2MiB")


def machine(name: str, state: str = "stopped", on: str = "") -> dict[str, Any]:
    return idle(name, state=state, disks=[{"name": "root", "volume": f"images/{on or name}"}])


def test_a_base_with_another_source_names_all_that_build_upon_it(
    project: Project, connection: libvirt.virConnect
) -> None:
    for name in ("old", "new"):
        (project.folder / name).write_bytes(name.encode() * (1 << 18))

    def base(source: str, name: str = "base", **lifecycle: str) -> dict[str, Any]:
        lifecycle = {"replace": "allow"} | lifecycle
        return resource("Volume", name, lifecycle, pool="images", format="raw", content={"file": source})

    rest = [layer("web"), layer("db"), machine("web", "running"), machine("db")]
    project.converge(pool(), base("old"), *rest)
    held = project.path("images/base").read_bytes()
    named = "in use: volume images/db and volume images/web lie on it, with virtual machine db and "
    for replacing in ("never", "allow"):
        project.write(pool(), base("new", replace=replacing), *rest)
        said = " ".join(project.plan().out.split())
        assert f"{named}virtual machine web" in said, said
        assert "hint: declare the new one as another volume beside it" in said, said
        assert project.apply().code == 1
        assert project.path("images/base").read_bytes() == held
    told = project.kvmstate("status", "volume/images/base").out
    assert "used by virtual machine db, virtual machine web, volume images/db, volume images/web" in told, told
    assert "volume/images/web " not in told
    taken = kvmstate("snapshot", "create", "web", "--name", "one", "-c", project.uri)
    assert taken.code == 0, taken
    rows = json.loads(project.kvmstate("status", "volume/images/web", "--json").out)["resources"]
    assert [row["users"] for row in rows] == [
        ["virtual machine web", "snapshot one of virtual machine web", "volume images/web.one.overlay"]
    ]
    refused = project.kvmstate("status", "volume/images/bas")
    assert (refused.code, "did you mean volume/images/base?" in refused.err) == (1, True), refused
    assert kvmstate("snapshot", "delete", "web", "one", "--auto-approve", "-c", project.uri).code == 0
    # as the hint says: a new one beside it with a new layer over it, and what stays is made to stand alone
    beside = [base("old"), base("new", "base-2")]
    sha256 = hashlib.sha256((project.folder / "new").read_bytes()).hexdigest()
    beside[1]["spec"]["content"]["checksum"] = f"sha256:{sha256}"
    moved = [layer("web"), layer("db-2", "base-2"), rest[2], machine("db", on="db-2")]
    project.converge(pool(), *beside, *moved)
    assert project.path("images/db").exists()
    # one that is gone is made again below a layer only where it is proven to be what it was
    images = connection.storagePoolLookupByName("images")
    away = project.path("images/base").rename(project.path("images").parent / "away")
    images.storageVolLookupByName("base-2").delete()
    images.refresh()
    again = project.kvmstate("recreate", "volume/images/base*", "--auto-approve")
    assert again.code == 1, again
    assert "volume images/db and volume images/web lie on it, and would be damaged" in again.out, again
    assert project.path("images/base-2").exists()
    assert not project.path("images/base").exists()
    away.rename(project.path("images/base"))
    images.refresh()
    connection.storagePoolLookupByName("images").storageVolLookupByName("db").delete()
    web = connection.lookupByName("web")
    web.blockPull("vda", 0, 0)
    until(lambda: not web.blockJobInfo("vda", 0), "web stands alone")
    connection.storagePoolLookupByName("images").refresh()
    project.converge(pool(), base("new"), beside[1], *moved)
    assert project.path("images/base").read_bytes() == b"new" * (1 << 18)
