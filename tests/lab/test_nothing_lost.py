"""What is on a host's storage already stays as it is, whatever a manifest mistakes it for, unless it is overwritten by
name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness import Project, resource
from lab_host import Lab

SIZE = 32 << 20
FREE = {"replace": "allow"}
# what is there, and how it is made on a device
THERE = {
    "file system": "mkfs.ext4 -q {0}",
    "label": "parted --script {0} mklabel gpt mkpart data 1MiB 9MiB",
    "group": "vgcreate -q precious {0} && lvcreate -q --yes --name data --size 8M precious && vgchange -q -an precious",
    "zpool": "zpool create -f precious {0} && zfs create -V 8M precious/data && zpool export precious",
}
POOLS = ("fs", "disk", "logical")


@pytest.fixture(scope="module")
def devices(lab: Lab) -> Iterator[dict[str, str]]:
    """By what is there, where it is; a group and a zpool that are not active are as easily lost as anything."""
    found = {}
    there = {
        name: how
        for name, how in THERE.items()
        if name != "zpool" or lab.run("modprobe zfs && echo yes", False) == "yes"
    }
    try:
        for number, (name, how) in enumerate(there.items()):
            lab.run(f"mkdir -p /srv/lab; truncate -s {SIZE if name != 'zpool' else 80 << 20} /srv/lab/there-{number}")
            found[name] = lab.run(f"losetup --find --show /srv/lab/there-{number}")
            lab.run(how.format(found[name]))
        yield found
    finally:
        lab.run("vgremove -q --force precious", False)
        lab.run(f"losetup --detach {' '.join(found.values())}; rm -f /srv/lab/there-*", False)


def digests(lab: Lab, devices: dict[str, str]) -> dict[str, str]:
    lines = lab.run(f"sync; md5sum {' '.join(devices.values())}").splitlines()
    return dict(zip(devices, (line.split()[0] for line in lines), strict=True))


def pool(type_: str, device: str, build: str, lifecycle: dict[str, Any] | None = None) -> dict[str, Any]:
    """Of no format that is there."""
    spec: dict[str, Any] = {
        "fs": {"source": {"device": device, "format": "xfs"}, "target": {"path": "/srv/lab/mine"}},
        "disk": {"source": {"device": device, "format": "dos"}, "target": {"path": "/dev"}},
        "logical": {"source": {"name": "mine", "devices": [device]}},
    }[type_]
    return resource("StoragePool", type_, lifecycle, type=type_, build=build, active=False, **spec)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("build", ["never", "ifEmpty", "overwrite"])
def test_what_is_there_stays_whatever_it_is_mistaken_for(
    lab: Lab, lab_project: Project, devices: dict[str, str], build: str
) -> None:
    """Each type of pools on each of the devices. `overwrite` is not allowed by a lifecycle here."""
    before, places = digests(lab, devices), [*devices.values()]
    for turn in range(len(places)):
        documents = [pool(type_, places[(turn + n) % len(places)], build) for n, type_ in enumerate(POOLS)]
        lab_project.write(*documents)
        applied = lab_project.apply()
        assert applied.code == (build == "overwrite"), applied
        assert applied.out.count("build: overwrite loses what is there") >= (len(POOLS) if build == "overwrite" else 0)
        assert applied.out.count("is not empty: it is taken as it is") >= (len(POOLS) if build == "ifEmpty" else 0)
        assert digests(lab, devices) == before, (turn, applied)
        lab_project.kvmstate("destroy", "--auto-approve")
    # twice the same device, also under another name of it
    lab.run(f"ln -sf {places[0]} /srv/lab/alias")
    for other in (places[0], "/srv/lab/alias"):
        lab_project.write(pool("fs", places[0], build), pool("disk", other, build))
        lab_project.apply()
        assert digests(lab, devices) == before, other
        lab_project.kvmstate("destroy", "--auto-approve")


@pytest.mark.timeout(1800)
def test_of_all_that_is_there_only_what_is_named_is_overwritten(
    lab: Lab, lab_project: Project, devices: dict[str, str]
) -> None:
    before = digests(lab, devices)
    lab_project.write(pool("disk", devices["file system"], "overwrite", FREE))
    applied = lab_project.apply()
    assert applied.code == 0, applied
    after = digests(lab, devices)
    assert {name for name in devices if after[name] != before[name]} == {"file system"}
    # a group that is active is in use
    lab.run("vgchange -q -ay precious")
    try:
        lab_project.write(pool("fs", devices["group"], "overwrite", FREE))
        assert "in use on the host" in lab_project.plan().out
        assert lab_project.apply().code == 1
        assert digests(lab, devices) == after
    finally:
        lab.run("vgchange -q -an precious")


@pytest.mark.timeout(900)
def test_images_of_a_server_are_none_that_a_pool_builds(lab: Lab, lab_project: Project) -> None:
    (key := lab_project.folder.parent / "key").write_text(lab.run("cat /srv/ceph/libvirt.key"))
    secret = resource("Secret", "ceph", usage="ceph", value={"from": "key", "encoding": "base64"})
    lab.run("mkdir -p /srv/lab; head -c 8M /dev/urandom >/srv/lab/precious; rbd import /srv/lab/precious rbd/precious")
    before = lab.run("rbd export precious - | md5sum")
    source = {
        "name": "rbd",
        "hosts": [{"name": "127.0.0.1"}],
        "auth": {"username": "libvirt", "secret": {"secret": "ceph"}},
    }
    try:
        for build in ("mkdir", "ifEmpty", "overwrite"):
            lab_project.write(secret, resource("StoragePool", "vms", FREE, type="rbd", build=build, source=source))
            refused = lab_project.plan(f"--secret=key=file:{key}")
            assert "a pool of type rbd cannot be built so" in refused.err, refused
        lab_project.write(secret, resource("StoragePool", "vms", type="rbd", build="never", source=source))
        applied = lab_project.apply(f"--secret=key=file:{key}")
        assert applied.code == 0, applied
        # an image of the name is not made again, or over
        lab_project.write(
            *(secret, resource("StoragePool", "vms", type="rbd", build="never", source=source)),
            resource("Volume", "precious", FREE, pool="vms", format="raw", capacity="16MiB"),
        )
        assert lab_project.apply(f"--secret=key=file:{key}").code == 1
        assert lab.run("rbd export precious - | md5sum") == before
    finally:
        lab.run("rbd rm precious", False)
