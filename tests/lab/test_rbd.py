"""Images of a Ceph pool, which the lab has a server of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Project, kvmstate, resource
from lab_host import Lab

pytestmark = pytest.mark.timeout(900)
SECRET = resource("Secret", "ceph", usage="ceph", value={"from": "key", "encoding": "base64"})
AUTH = {"username": "libvirt", "secret": {"secret": "ceph"}}
SOURCE = {"name": "rbd", "hosts": [{"name": "127.0.0.1"}], "auth": AUTH}
POOL = resource("StoragePool", "vms", type="rbd", source=SOURCE)

# layers first
EMPTIED = """for turn in 1 2; do for each in $(rbd ls); do
  rbd snap ls $each | awk 'NR > 1 {print $2}' | while read snap; do rbd snap unprotect $each@$snap; done
  rbd snap purge $each; rbd rm $each
done; done"""


@pytest.fixture
def options(lab: Lab, lab_project: Project, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Of commands that need the key of the Ceph pool, which is empty before and after."""
    (key := tmp_path / "key").write_text(lab.run("cat /srv/ceph/libvirt.key"))
    lab.run(EMPTIED, check=False)
    yield (f"--secret=key=file:{key}",)
    lab.run(EMPTIED, check=False)


def image(name: str, lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return resource("Volume", name, lifecycle or {"deletion": "delete"}, **{"pool": "vms", "format": "raw", **spec})


def test_an_image_that_somebody_made_again_is_not_deleted(
    lab: Lab, lab_project: Project, options: tuple[str, ...]
) -> None:
    one, two = image("one", capacity="8MiB"), image("two", capacity="8MiB")
    lab_project.converge(SECRET, POOL, one, two, options=options)
    lab.run("rbd rm one && rbd create --size 8M one && virsh pool-refresh vms")
    theirs = lab.run("rbd info one --format json")
    # its capacity is another one: it is looked at closely
    lab_project.write(SECRET, POOL, image("one", {"replace": "allow"}, capacity="16MiB"), two)
    grown = lab_project.apply(*options)
    assert grown.code == 1, grown
    assert "volume/vms/one is not the object it was when the plan was made" in grown.err, grown
    lab_project.write(SECRET, POOL)
    planned = lab_project.plan("--prune", *options)
    assert re.search(r"volume/vms/one +will be released.*it is not the object that this project made", planned.out)
    assert "volume/vms/two" in planned.out
    assert lab_project.apply("--prune", *options).code == 0
    assert lab.run("rbd ls") == "one"
    assert kvmstate("destroy", str(lab_project.folder), "-c", lab.uri, "--auto-approve", *options).code == 0
    assert lab.run("rbd info one --format json") == theirs


def test_an_image_that_cannot_be_told_any_more_stays(lab: Lab, lab_project: Project, options: tuple[str, ...]) -> None:
    lab_project.converge(SECRET, POOL, image("one", capacity="8MiB"), options=options)
    lab_project.write(SECRET, POOL)
    lab.run("chmod -x /usr/bin/rbd")
    try:
        failed = lab_project.apply("--prune", *options)
    finally:
        lab.run("chmod +x /usr/bin/rbd")
    assert failed.code == 1, failed
    assert "whether it is the object that this project's record means cannot be told" in failed.err, failed
    assert lab.run("rbd ls") == "one"
    lab_project.converge(SECRET, POOL, options=("--prune", *options))
    assert lab.run("rbd ls") == ""


def test_a_layer_keeps_its_base_and_the_base_goes_after_it(
    lab: Lab, lab_project: Project, options: tuple[str, ...]
) -> None:
    base, layer = image("base", capacity="8MiB"), image("layer", backing="vms/base", capacity="16MiB")
    lab_project.converge(SECRET, POOL, base, layer, options=options)
    said = lab.run("rbd info layer")
    assert "parent: rbd/base@libvirt-" in said
    assert "size 16 MiB" in said
    lab_project.write(SECRET, POOL, layer)
    planned = lab_project.plan("--prune", *options)
    assert "in use by volume/vms/layer, which the manifests declare" in planned.out, planned
    # somebody else lays one over it
    lab.run("virsh vol-clone --pool vms base theirs && rbd snap create --no-progress base@mine")
    lab_project.write(SECRET, POOL)
    planned = lab_project.plan("--prune", *options)
    assert "in use by volume vms/theirs" in planned.out, planned
    assert lab_project.apply("--prune", *options).code == 1
    assert lab.run("rbd ls") == "base\ntheirs"
    lab.run("rbd rm --no-progress theirs")
    failed = lab_project.apply("--prune", *options)
    assert failed.code == 1, failed
    assert "volume base has snapshot mine, which is not kvmstate's" in failed.err, failed
    assert lab.run("rbd ls") == "base"
    assert "mine" in lab.run("rbd snap ls base")
    lab.run("rbd snap rm --no-progress base@mine")
    lab_project.converge(SECRET, POOL, options=("--prune", *options))
    assert lab.run("rbd ls") == ""
