"""Content is uploaded whole and checked, or it does not count as there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness import Project, pool, resource, until

from kvmstate.kinds.volume import download

pytestmark = pytest.mark.real

MIB = 1 << 20
IMAGE = os.urandom(MIB)


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def volume(lifecycle: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return resource("Volume", "base", lifecycle, pool="images", **{"format": "raw", **spec})


@contextlib.contextmanager
def web_server(content: bytes, said_length: int | None = None, halfway: threading.Event | None = None) -> Iterator[str]:
    """Serves `content` at the address given. `said_length` is what it claims beforehand; it waits for `halfway`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) if said_length is None else said_length))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            if halfway:
                halfway.wait()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[len(content) // 2 :])

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/base.img"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("checked", [False, True], ids=["unchecked", "checked"])
@pytest.mark.parametrize("data", [(), (0,), (5,), (0, 3, 7), (7,)], ids=str)
def test_holes_of_an_image_stay_holes(project: Project, tmp_path: Path, data: tuple[int, ...], checked: bool) -> None:
    """Of eight MiB those of `data` have some."""
    image = tmp_path / "holes.raw"
    with image.open("wb") as file:
        for number in data:
            file.seek(number * MIB)
            file.write(IMAGE[: MIB // 2])
        file.truncate(8 * MIB)
    content = {"file": str(image)} | ({"checksum": sha256(image.read_bytes())} if checked else {})
    project.converge(pool(), volume(content=content))
    made = project.path("images") / "base"
    assert made.read_bytes() == image.read_bytes()
    assert made.stat().st_blocks * 512 <= image.stat().st_blocks * 512 + 64 * 1024


def test_content_comes_over_http(project: Project) -> None:
    with web_server(IMAGE) as url:
        project.converge(pool(), volume(content={"url": url, "checksum": sha256(IMAGE)}))
    assert project.path("images/base").read_bytes() == IMAGE


@pytest.mark.parametrize(
    ("sent", "said_length", "error"),
    [
        (IMAGE[::-1], None, f"its sha256 is {sha256(IMAGE[::-1])[7:]}, not {sha256(IMAGE)[7:]}"),
        (IMAGE[: MIB // 2], MIB, f"{MIB // 2} of {MIB} bytes came"),
        (b"", 0, "the content is empty"),
    ],
    ids=["other content", "closed early", "nothing"],
)
def test_what_came_wrong_does_not_count_and_is_fetched_again(
    project: Project, monkeypatch: pytest.MonkeyPatch, sent: bytes, said_length: int | None, error: str
) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.1, 0.1))
    with web_server(sent, said_length) as url:
        project.write(pool(), volume(content={"url": url, "checksum": sha256(IMAGE)}))
        applied = project.apply()
    assert applied.code == 1
    assert error in applied.out
    assert "hint: " in applied.out
    assert project.plan().code == 2
    with web_server(IMAGE) as url:
        project.converge(pool(), volume(content={"url": url, "checksum": sha256(IMAGE)}))
    assert project.path("images/base").read_bytes() == IMAGE


def test_a_server_that_is_not_there_is_named(project: Project) -> None:
    project.write(pool(), volume(content={"url": "http://127.0.0.1:1/x", "checksum": sha256(IMAGE)}))
    applied = project.apply()
    assert applied.code == 1
    assert "http://127.0.0.1:1/x: " in applied.out
    assert "Connection refused" in applied.out


def test_an_upload_that_was_killed_is_redone(project: Project) -> None:
    going_on = threading.Event()
    with web_server(IMAGE, halfway=going_on) as url:
        project.write(pool(), volume(content={"url": url, "checksum": sha256(IMAGE)}))
        applying = project.start_apply()
        target = project.path("images/base")
        until(lambda: target.exists() and target.stat().st_blocks > 0, "the upload has begun")
        applying.kill()
        applying.wait()
        assert target.read_bytes() != IMAGE
        going_on.set()
        planned = project.plan()
        assert planned.code == 2
        assert "its upload was interrupted" in planned.out
        project.converge()
    assert target.read_bytes() == IMAGE


@pytest.mark.parametrize("released", [False, True])
def test_what_came_of_an_image_is_not_taken_for_a_volume(project: Project, released: bool) -> None:
    """Also when its manifest goes, or gives up what was to come into it."""
    with web_server(IMAGE[::-1]) as url:
        project.write(pool(), volume(content={"url": url, "checksum": sha256(IMAGE)}))
        assert project.apply().code == 1
    target = project.path("images/base")
    assert any(target.read_bytes())
    if released:
        project.write(pool())
        assert project.apply("--prune").code == 0
        # what somebody has made of it since is not the project's
        project.write(pool(), volume(capacity="1MiB"))
        assert "this project does not own it" in project.plan().out
        with web_server(IMAGE) as url:
            project.converge(pool(), volume(content={"url": url, "checksum": sha256(IMAGE)}))
        assert target.read_bytes() == IMAGE
    else:
        project.converge(pool(), volume(capacity="1MiB"))
        assert target.read_bytes() == bytes(MIB)


def test_holes_stay_holes(project: Project, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.img"
    with sparse.open("wb") as file:
        file.write(IMAGE)
        file.truncate(256 * MIB)
        file.seek(128 * MIB)
        file.write(IMAGE)
    project.converge(pool(), volume(content={"file": str(sparse)}))
    uploaded = project.path("images/base").stat()
    assert uploaded.st_size == 256 * MIB
    assert uploaded.st_blocks * 512 <= sparse.stat().st_blocks * 512 + MIB
    assert subprocess.run(["cmp", sparse, project.path("images/base")], check=False).returncode == 0


def qcow2(path: Path, size: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, size], check=True)
    return path


def test_a_qcow2_image_is_uploaded_as_it_is_and_grows(project: Project, tmp_path: Path) -> None:
    image = qcow2(tmp_path / "base.qcow2", "4M")
    project.converge(pool(), volume(format="qcow2", content={"file": str(image)}, capacity="8MiB"))
    shown = subprocess.run(
        ["qemu-img", "info", "-U", project.path("images/base")], check=True, capture_output=True, text=True
    )
    assert "virtual size: 8 MiB" in shown.stdout


def test_raw_content_with_a_larger_capacity_grows(project: Project, tmp_path: Path) -> None:
    (tmp_path / "base.img").write_bytes(IMAGE)
    project.converge(pool(), volume(content={"file": str(tmp_path / "base.img")}, capacity="3MiB"))
    assert project.path("images/base").read_bytes() == IMAGE.ljust(3 * MIB, b"\0")


def test_what_does_not_fit_is_refused_before_anything_is_made(project: Project, tmp_path: Path) -> None:
    image = qcow2(tmp_path / "base.qcow2", "4M")
    (tmp_path / "raw.img").write_bytes(IMAGE)
    (tmp_path / "page.html").write_bytes(b"<html>")
    for wrong, error in (
        (volume(format="iso", content={"file": str(image)}), "is a qcow2 image, but the volume's format is iso"),
        (volume(format="qcow2", content={"file": str(tmp_path / "page.html")}), "is not a disk"),
        (volume(content={"file": str(tmp_path / "raw.img")}, capacity="512KiB"), "capacity is less than"),
    ):
        project.write(pool(), wrong)
        assert error in project.plan().out
        applied = project.apply()
        assert applied.code == 1
        assert error in applied.out
        assert "hint: " in applied.out
        assert not project.path("images/base").exists()


def test_other_content_needs_a_replacement_which_the_manifest_must_allow(project: Project, tmp_path: Path) -> None:
    first, second = tmp_path / "first.img", tmp_path / "second.img"
    first.write_bytes(IMAGE)
    second.write_bytes(IMAGE[::-1])
    project.converge(pool(), volume(content={"file": str(first), "checksum": sha256(IMAGE)}))
    changed = {"content": {"file": str(second), "checksum": sha256(IMAGE[::-1])}}
    project.write(pool(), volume(**changed))
    applied = project.apply()
    assert applied.code == 1
    assert "cannot change without deleting it and creating it again" in applied.out
    assert "hint: lifecycle.replace: allow permits it" in applied.out
    assert project.path("images/base").read_bytes() == IMAGE
    project.write(pool(), volume({"replace": "allow"}, **changed))
    assert project.todo() == {"delete+create": 1}
    project.converge()
    assert project.path("images/base").read_bytes() == IMAGE[::-1]


def test_the_same_content_from_elsewhere_is_not_uploaded_again(project: Project, tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "base.img", tmp_path / "there" / "base.img"
    for file in (here, there):
        file.parent.mkdir()
        file.write_bytes(IMAGE)
    project.converge(pool(), volume(content={"file": str(here)}))
    # another checkout of the project
    project.write(pool(), volume(content={"file": str(there)}))
    assert project.plan().code == 0
    known = {"file": str(there), "checksum": sha256(IMAGE)}
    project.converge(pool(), volume({"replace": "allow"}, content=known))
    uploaded = project.path("images/base").stat()
    renamed = there.rename(tmp_path / "renamed.img")
    project.converge(pool(), volume(content={**known, "file": str(renamed)}))
    assert project.path("images/base").stat().st_mtime_ns == uploaded.st_mtime_ns
