"""`kvmstate pin`: what vendors list, and have signed, comes into manifests, and nothing else changes there."""

from __future__ import annotations

import functools
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from harness import Run, kvmstate

from kvmstate.errors import SourceError
from kvmstate.manifest import pin
from kvmstate.sources.checksums import listed

A, B, C = "a" * 128, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{A}  image.qcow2\n{B}  other.qcow2", f"sha512:{A}"),
        (f"{B} *image.qcow2", f"sha256:{B}"),
        (f"{B.upper()}  ./image.qcow2", f"sha256:{B}"),
        (f"# image.qcow2: 123 bytes\nSHA256 (image.qcow2) = {B}", f"sha256:{B}"),
        (f"SHA256 (image.qcow2) = {B}\nSHA512 (image.qcow2) = {A}", f"sha512:{A}"),
        (f"{B}  daily/image.qcow2\n{C}  old/image.qcow2", f"sha256:{B}"),
        (f"{B}  other.qcow2\n{C}  my-image.qcow2\n{B}  image.qcow2", f"sha256:{B}"),
        (f"{B}\n", f"sha256:{B}"),
        (f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{B}  image.qcow2\n-----BEGIN PGP", f"sha256:{B}"),
    ],
)
def test_lists_are_read(text: str, said: str) -> None:
    assert listed(text, "/debian/daily/image.qcow2") == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>not found</html>",
        f"{B}  other.qcow2\n{C}  third.qcow2",
        f"{B}  image.qcow2\n{C}  image.qcow2",
        f"{'d' * 32}  image.qcow2",
        f"MD5 (image.qcow2) = {'d' * 32}\nSHA256 (image.qcow2) = {'d' * 32}",
        f"{B}  elsewhere/image.qcow2\n{C}",
        "\0" * 1000,
    ],
)
def test_what_does_not_say_it_is_an_error(text: str) -> None:
    with pytest.raises(SourceError) as error:
        listed(text, "/debian/daily/image.qcow2")
    assert error.value.hint


HEAD = "apiVersion: kvmstate/v1\nkind: Volume\nmetadata: {name: a}\n"
WRITTEN = {
    "spec:\n  content:  # the vendor's\n    url: https://x/a  # daily\n  pool: b\n": (
        "spec:\n  content:  # the vendor's\n    url: https://x/a  # daily\n    checksum: NEW\n  pool: b\n"
    ),
    "spec: {pool: b, content: {url: https://x/a}}  # one line\n": (
        "spec: {pool: b, content: {checksum: NEW, url: https://x/a}}  # one line\n"
    ),
    "spec:\n  content:\n    checksum: 'sha256:old'  # pinned\n    url: https://x/a\n": (
        "spec:\n  content:\n    checksum: 'NEW'  # pinned\n    url: https://x/a\n"
    ),
    "spec:\r\n  content:\r\n    url: https://x/a\r\n": (
        "spec:\r\n  content:\r\n    url: https://x/a\r\n    checksum: NEW\r\n"
    ),
    "spec:\n  content:\n    url: https://x/a": "spec:\n  content:\n    url: https://x/a\n    checksum: NEW\n",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_the_checksum_is_written_and_all_else_stays(text: str) -> None:
    [place] = pin.places(HEAD + text)
    assert pin.with_checksum(HEAD + text, place, "NEW") == HEAD + WRITTEN[text]


def test_what_is_shared_by_an_anchor_is_not_edited() -> None:
    text = f"{HEAD}spec:\n  content: &c\n    url: https://x/a\n---\n{HEAD}spec:\n  more:\n    content: {{url: https://x/b}}\n"
    first, second = pin.places(text)
    assert (first.path, second.path) == ((0, "spec", "content"), (1, "spec", "more", "content"))
    shared = f"{HEAD}spec:\n  content: &c\n    url: https://x/a\n  other: {{content: *c}}\n"
    assert pin.with_checksum(shared, pin.places(shared)[0], "NEW") is None


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[Path]:
    """A folder that is served at the address in its file `url`."""
    (folder := tmp_path / "vendor").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    (folder / "SHA512SUMS").write_text(f"{A}  debian.qcow2\n")
    (tmp_path / "kvmstate.yaml").write_text("project: shop\nmanifests: [volume.yaml]\n")
    url = f"http://127.0.0.1:{server.server_port}/debian.qcow2"
    content = f"content: {{url: {url}, checksums: SHA512SUMS}}"
    (tmp_path / "volume.yaml").write_text(f"{HEAD}# mine\nspec: {{pool: images, {content}}}\n")
    yield folder
    server.shutdown()
    server.server_close()


def gpg(home: Path, *words: str) -> bytes:
    home.mkdir(mode=0o700, exist_ok=True)
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes", "--pinentry-mode", "loopback"]
    return subprocess.run([*command, "--passphrase", "", *words], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    # the path of an agent's socket is short
    homes = [tmp_path_factory.mktemp("k") / name for name in ("a", "b")]
    for home in homes:
        gpg(home, "--quick-generate-key", f"{home.name}@example.com", "ed25519", "sign", "never")
        (home / "key.asc").write_bytes(gpg(home, "--export", "--armor"))
        (home / "key.gpg").write_bytes(gpg(home, "--export"))
    yield homes[0], homes[1]
    for home in homes:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def run(folder: Path, *options: str) -> Run:
    return kvmstate("pin", str(folder), *options)


def test_a_manifest_is_pinned_once(vendor: Path, tmp_path: Path) -> None:
    file = tmp_path / "volume.yaml"
    before = file.read_text()
    refused = kvmstate("validate", str(tmp_path))
    assert refused.code == 1
    assert "`kvmstate pin` writes it" in refused.err
    checked = run(tmp_path, "--check")
    assert (checked.code, file.read_text()) == (2, before)
    assert f"would get checksum sha512:{A}" in checked.out
    pinned = run(tmp_path)
    assert pinned.code == 0, pinned
    assert "no signature was verified" in pinned.out
    assert file.read_text() == before.replace("{url:", f"{{checksum: sha512:{A}, url:")
    assert kvmstate("validate", str(tmp_path)).code == 0
    assert run(tmp_path, "--check").code == 0
    # the vendor has made another one
    (vendor / "SHA512SUMS").write_text(f"{'d' * 128}  debian.qcow2\n")
    again = run(tmp_path, "--json")
    assert json.loads(again.out)["pins"][0]["before"] == f"sha512:{A}"
    assert f"{{checksum: sha512:{'d' * 128}, url:" in file.read_text()


def test_nothing_is_written_when_one_is_not_found(vendor: Path, tmp_path: Path) -> None:
    file = tmp_path / "volume.yaml"
    more = file.read_text().replace("debian.qcow2", "other.qcow2").replace("name: a", "name: b")
    file.write_text(f"{file.read_text()}---\n{more}---\n{more.replace(', checksums: SHA512SUMS', '')}")
    before = file.read_text()
    failed = run(tmp_path)
    assert failed.code == 1
    assert f"{file}:11:" in failed.err
    assert "has no sha512 or sha256 of other.qcow2" in failed.err
    assert "nobody says where the list of checksums is" in failed.err
    assert "hint: " in failed.err
    assert file.read_text() == before
    file.write_text(before.replace("SHA512SUMS", "file:///etc/passwd"))
    assert "is not at an http or https address" in run(tmp_path).err
    file.write_text(before.replace("SHA512SUMS", "NOWHERE"))
    assert "404" in run(tmp_path).err or "not found" in run(tmp_path).err.lower()


@pytest.mark.parametrize("armored", ["key.asc", "key.gpg"])
@pytest.mark.parametrize("how", ["beside", "within", "option"])
def test_a_list_is_signed_with_the_vendors_key(
    how: str, armored: str, vendor: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    home, other = keys
    sums, options = vendor / "SHA512SUMS", ["--key", str(home / armored)]
    unsigned = run(tmp_path, *options)
    assert unsigned.code == 1
    assert "no signature beside it" in unsigned.err

    def sign(by: Path) -> None:
        if how == "within":
            text = f"{A}  debian.qcow2\n".encode()
            sums.write_bytes(text)
            gpg(by, "--output", str(vendor / "signed"), "--clearsign", str(sums))
            # what stands around it is not signed
            around = f"{'e' * 128}  debian.qcow2\n".encode()
            sums.write_bytes((vendor / "signed").read_bytes() + around)
        else:
            name = "SHA512SUMS.sign" if how == "beside" else "elsewhere"
            gpg(by, "--output", str(vendor / name), "--detach-sign", str(sums))

    if how == "option":
        options += ["--signature", str(vendor / "elsewhere")]
    sign(other)
    strange = run(tmp_path, *options)
    assert strange.code == 1
    assert "is not signed with a key of" in strange.err
    sign(home)
    assert run(tmp_path, *options).code == 0
    assert f"checksum: sha512:{A}" in (tmp_path / "volume.yaml").read_text()
    if how != "within":
        sums.write_text(f"{'e' * 128}  debian.qcow2\n")
        assert run(tmp_path, *options).code == 1


def test_a_list_may_be_named_on_the_command_line(vendor: Path, tmp_path: Path) -> None:
    file = tmp_path / "volume.yaml"
    file.write_text(file.read_text().replace(", checksums: SHA512SUMS", ""))
    assert run(tmp_path, "--checksums", str(vendor / "SHA512SUMS")).code == 0
    assert f"sha512:{A}" in file.read_text()
    file.rename(tmp_path / "volume.yaml.j2")
    assert "a template is not edited" in kvmstate("pin", str(tmp_path / "volume.yaml.j2")).err


PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1 me@here: #1"


def test_init_pins_a_cloud_image_and_lets_its_owner_log_in(vendor: Path, tmp_path: Path) -> None:
    (key := tmp_path / "key.pub").write_text(f"{PUBLIC}\n")
    url = yaml.safe_load((tmp_path / "volume.yaml").read_text())["spec"]["content"]["url"]
    shop = tmp_path / "shop"
    assert kvmstate("init", str(shop), "--cloud-image", f"{url}.xz", "--ssh-key", str(key)).code == 1
    (vendor / "SHA512SUMS").write_text(f"{A}  debian.qcow2.xz\n")
    assert kvmstate("init", str(shop), "--cloud-image", f"{url}.xz", "--ssh-key", str(key)).code == 0
    assert kvmstate("validate", str(shop)).code == 0
    image = yaml.safe_load((shop / "manifests" / "image.yaml").read_text())
    assert image["metadata"]["name"] == "debian.qcow2"
    assert image["spec"]["content"] == {"url": f"{url}.xz", "checksums": "SHA512SUMS", "checksum": f"sha512:{A}"}
    machine = yaml.safe_load((shop / "manifests" / "web-1.yaml").read_text())["spec"]
    assert machine["disks"][0]["create"]["backing"] == "lab/debian.qcow2"
    assert machine["cloudInit"]["sshAuthorizedKeys"] == [PUBLIC]


def test_init_with_a_file_says_how_it_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KVMSTATE_ALLOW_PATH", raising=False)
    (folder := tmp_path / "my images").mkdir()
    (image := folder / "debian 12.img").write_bytes((b"x" * 510 + b"\x55\xaa").ljust(1024, b"\0"))
    (text := folder / "README.txt").write_text("no image" * 128)
    key = ("--ssh-key", str(tmp_path / "key.pub"))
    (tmp_path / "key.pub").write_text(PUBLIC)
    refused = kvmstate("init", str(tmp_path / "shop"), "--cloud-image", str(text), *key)
    assert "README.txt is not an image of a disk that boots" in refused.err
    shop = tmp_path / "shop"
    assert "no public key" in kvmstate("init", str(shop), "--cloud-image", str(image)).err
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert "is not a public key" in kvmstate("init", str(shop), "--cloud-image", str(image)).err
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(PUBLIC)
    assert kvmstate("init", str(shop), "--cloud-image", str(folder / "none")).code == 1
    assert kvmstate("init", str(shop), "--ssh-key", str(image)).code == 1
    assert not shop.exists()
    made = kvmstate("init", str(shop), "--cloud-image", str(image))
    assert f"kvmstate apply --allow-path '{folder}'" in made.out, made
    assert kvmstate("validate", str(shop)).code == 1
    assert kvmstate("validate", str(shop), "--allow-path", str(folder)).code == 0
    assert "debian-12.qcow2" in (shop / "manifests" / "web-1.yaml").read_text()
