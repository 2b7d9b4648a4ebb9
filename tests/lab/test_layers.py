"""Layers over what is no file."""

from __future__ import annotations

import os
from typing import Any

import pytest
from harness import Project, idle, resource
from lab_host import Lab

pytestmark = pytest.mark.timeout(900)
FOLDER = resource("StoragePool", "layers", type="dir", target={"path": "/srv/lab/layers"})
GROUP = resource(
    "StoragePool", "group", type="logical", build="ifEmpty", source={"name": "layered", "devices": ["/dev/sdb"]}
)


def volume(name: str, pool: str, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, {"deletion": "delete"}, pool=pool, **spec)


def test_a_layer_in_a_folder_lies_on_a_logical_volume(lab: Lab, lab_project: Project) -> None:
    (lab_project.folder / "base.img").write_bytes(os.urandom(1 << 20))
    base = volume("base", "group", format="raw", capacity="8MiB", content={"file": "base.img"})
    layer = volume("layer.qcow2", "layers", backing="group/base")
    machine = idle("layered", disks=[{"name": "root", "volume": "layers/layer.qcow2"}])
    try:
        lab.blank("/dev/sdb")
        lab_project.converge(FOLDER, GROUP, base, layer, machine)
        at = "/srv/lab/layers/layer.qcow2"
        told = lab.run(f"qemu-img info -U {at}")
        assert "backing file: /dev/layered/base" in told
        assert "backing file format: raw" in told
        assert "identical" in lab.run(f"qemu-img compare -U -f qcow2 -F raw {at} /dev/layered/base")
        # the base leaves the manifests, and is kept by what lies on it
        lab_project.write(FOLDER, GROUP, layer, machine)
        planned = lab_project.plan("--prune")
        assert "in use by volume/layers/layer.qcow2, which the manifests declare" in planned.out, planned
        before = lab.run("md5sum </dev/layered/base")
        lab_project.converge(FOLDER, GROUP, base, layer, options=("--prune",))
        lab.run(f"qemu-io -f qcow2 -c 'write -P 7 0 1M' {at}")
        assert lab.run("md5sum </dev/layered/base") == before
        lab_project.converge(FOLDER, GROUP, options=("--prune",))
        assert lab.run("ls /srv/lab/layers; lvs --noheadings layered") == ""
    finally:
        lab_project.kvmstate("destroy", "--auto-approve")
        lab.run("vgremove --force layered; pvremove /dev/sdb", check=False)
        lab.blank("/dev/sdb")
