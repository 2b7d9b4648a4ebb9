"""The examples of each type of storage pools are applied as they are, and the pages of the documentation have them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from harness import ROOT, Project
from lab_host import Lab

from kvmstate.model.pool_types import TYPES

FOLDER = ROOT / "manifests" / "examples" / "storage"
PAGES = ROOT / "docs" / "storage"
EXAMPLES = {name: file for name in TYPES if (file := FOLDER / f"{name}.yaml").exists()}
# what is to be on the host already, and what is left of it
BEFORE = {
    # a record of the same server under another name is logged in to as well, which fails
    "iscsi": "iscsiadm -m node -u; iscsiadm -m node -o delete; true",
    "gluster": "truncate -s 8M /srv/gluster/web-1",
    "zfs": "modprobe zfs && zpool create -f tank /dev/sde",
}
AFTER = {"logical": "vgremove --force vg0; pvremove /dev/sdc", "rbd": "rbd rm web-1", "zfs": "zpool destroy -f tank"}
# what is blank before and after
DEVICE = {"fs": "/dev/sdb", "logical": "/dev/sdc", "disk": "/dev/sdd", "zfs": "/dev/sde"}
# their volumes are seen once the pool is there
LATER = ("iscsi", "scsi", "mpath")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_converges(lab: Lab, lab_project: Project, tmp_path: Path, name: str) -> None:
    devices = [DEVICE[name]] if name in DEVICE else []
    lab.blank(*devices)
    if lab.run(f"{BEFORE.get(name, 'true')} >/dev/null 2>&1 || echo no", check=False):
        pytest.skip(f"this lab was built without it: {BEFORE[name]}")
    (key := tmp_path / "key").write_text(lab.run("cat /srv/ceph/libvirt.key"))
    options = (f"--secret=ceph-key=file:{key}",) if name == "rbd" else ()
    (lab_project.folder / "manifests.yaml").write_text(EXAMPLES[name].read_text())
    try:
        if name in LATER:
            first = lab_project.apply()
            assert "is not active" in first.out, first
        lab_project.converge(options=options)
    finally:
        # no guest is on these disks that would shut down
        lab.run("virsh list --name | xargs -r -n 1 virsh destroy", check=False)
        gone = lab_project.kvmstate("destroy", "--auto-approve", *options)
        lab.run(AFTER.get(name, "true"), check=False)
        lab.blank(*devices)
    assert gone.code == 0, gone


def test_each_type_has_an_example_and_a_page_with_it() -> None:
    # of these libvirt has no driver any more, or in no distribution
    assert EXAMPLES.keys() == TYPES.keys() - {"sheepdog", "vstorage"}
    for name, example in EXAMPLES.items():
        assert textwrap.indent(example.read_text(), "    ") in (PAGES / f"{name}.md").read_text(), name
