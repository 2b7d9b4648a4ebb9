"""A host that is reached over ssh is like any other; what goes wrong on the way there is readable."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from harness import Guest, Project, idle, pool, resource, until
from ssh_server import Server
from trouble import IMAGE, stalling_download

from kvmstate import sandbox

pytestmark = pytest.mark.real


@pytest.fixture
def server(project: Project) -> Iterator[Server]:
    # a short path: libvirt passes on no more than 1,024 bytes of what ssh says of its files
    with tempfile.TemporaryDirectory() as folder:
        yield Server(project.host, Path(folder))


def test_an_apply_over_ssh_converges_uploads_included(
    project: Project, server: Server, tiny: Guest, tmp_path: Path
) -> None:
    (tmp_path / "base.img").write_bytes(IMAGE)
    base = resource("Volume", "base", pool="images", format="raw", content={"file": str(tmp_path / "base.img")})
    layer = resource("Volume", "layer", pool="images", backing="images/base")
    machine = tiny.machine("web", disks=[{"name": "root", "volume": "images/layer"}])
    project.write(pool(), base, layer, machine)
    there = ("-c", server.uri())
    applied = project.apply(*there)
    assert applied.code == 0, applied
    assert project.path("images/base").read_bytes() == IMAGE
    planned = project.plan(*there)
    assert planned.code == 0, planned
    # and it is the same host as the one that is reached by its socket
    assert project.plan().code == 0


def test_of_two_applies_at_once_one_is_refused_or_waits(project: Project, server: Server, tmp_path: Path) -> None:
    """As from two laptops: the host itself holds the lock."""
    there = ("-c", server.uri())
    other = Project(project.host, tmp_path / "other", project.name)
    with stalling_download() as download:
        for checkout in (project, other):
            checkout.write(pool(), download.volume(), idle("web", disks=[{"name": "root", "volume": "images/base"}]))
        first = project.start_apply(*there)
        assert download.halfway.wait(60), project.log.read_text()
        refused = other.apply(*there)
        assert refused.code == 1
        assert re.match(rf"error: project shop is locked .*\(pid {first.pid}, kvmstate \S+ apply\), since", refused.err)
        second = other.start_apply(*there, "--lock-timeout", "1m")
        until(lambda: "waiting for" in other.log.read_text(), "the second one waits")
        assert first.poll() is None
        download.goes_on.set()
        assert first.wait(60) == 0, project.log.read_text()
        assert second.wait(60) == 0, other.log.read_text()
    assert "Resources: 3 added" in project.log.read_text()
    assert "No changes." in other.log.read_text()
    assert project.path("images/base").read_bytes() == IMAGE
    assert (planned := other.plan(*there)).code == 0, planned


DENIED = (r"Permission denied \(publickey\)", "ssh does not accept you there: check user and key")
CHANGED = ("Host key for sandbox has changed", "the host's key is unknown or has changed")


@pytest.mark.parametrize(("key", "known", "said"), [("other", "host", DENIED), ("id", "other", CHANGED)])
def test_a_login_that_fails_is_explained(
    project: Project, server: Server, key: str, known: str, said: tuple[str, str]
) -> None:
    server.knows(known)
    planned = project.plan("-c", server.uri(key))
    assert planned.code == 1
    # in the first line, whatever else ssh has to say
    error = rf"error: cannot connect to qemu\+ssh://root@sandbox/system\S*: Cannot recv data: .*{said[0]}"
    assert re.match(error, planned.err), planned.err
    assert f"hint: {said[1]}" in planned.err


def test_a_server_that_is_not_there_is_explained(project: Project) -> None:
    planned = project.plan("-c", "qemu+ssh://root@127.0.0.1:9/system?no_tty=1")
    assert planned.code == 1
    assert "hint: no ssh server listens there: check name and port" in planned.err


def test_the_data_file_of_an_image_is_seen_over_ssh(project: Project, server: Server) -> None:
    """libvirt does not tell of it."""
    there = ("-c", server.uri())
    data = resource("Volume", "data", {"deletion": "delete"}, pool="images", format="raw", capacity="1MiB")
    project.write(pool(), data)
    assert project.apply(*there).code == 0
    folder = "/var/lib/libvirt/behaviours"
    made = f"mkdir -p {folder}/elsewhere && cd {folder}/elsewhere && ln ../images/data other && rm -f top"
    create = "qemu-img create -q -f qcow2 -o data_file=other,data_file_raw=on top 1M"
    sandbox.execute(project.host, ["sh", "-ec", f"{made} && {create}"])
    text = (
        "<domain type='qemu'><name>user</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>"
        f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{folder}/elsewhere/top'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    connection = libvirt.open(project.uri)
    connection.defineXML(text)
    connection.close()
    project.write(pool())
    planned = project.plan("--prune", *there)
    assert "blocked: in use by virtual machine user" in planned.out
    assert project.path("images/data").exists()
