"""What `kvmstate init --cloud-image` writes of an image, and of who may log in."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kvmstate.errors import KvmstateError, UsageError

LISTS = ("SHA512SUMS", "SHA256SUMS")
_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")
_URL = ("http://", "https://")
# What formats and compressions add to an image's name
_ENDINGS = re.compile(r"(\.(qcow2|img|raw|vmdk|vhdx?|vdi|xz|gz|bz2|zst))+$")


def marks(image: str, checksums: str | None, key: Path | None, folder: Path) -> dict[str, str]:
    """What stands in the templates' places. Raises UsageError, and KvmstateError where a list cannot be had."""
    if image.startswith(_URL):
        name, content = unquote(urlsplit(image).path), {"url": image, **_pinned(image, checksums)}
    elif checksums:
        raise UsageError("--checksums is for an image at a URL", "a file is there, and changes with its name")
    else:
        if not Path(image).is_file():
            raise UsageError(f"{image}: no such file", "an http or https address, or a file")
        if not _is_disk(image):
            raise UsageError(
                f"{image} is not an image of a disk that boots", "a cloud image, as distributions publish them"
            )
        name, content = image, {"file": os.path.relpath(image, folder)}
    stem = _ENDINGS.sub("", name.rpartition("/")[2]) or "image"
    return {
        "@IMAGE@": re.sub(r"[^A-Za-z0-9._-]+", "-", stem) + ".qcow2",
        "@CONTENT@": "".join(f"\n    {field}: {_scalar(value)}" for field, value in content.items()),
        "@KEY@": _scalar(_key(key)),
    }


def _is_disk(image: str) -> bool:
    """Whether a file is an image with a header, or raw with a boot record; also one that is compressed."""
    from kvmstate.kinds.volume.content import Source
    from kvmstate.kinds.volume.spec import Content

    try:
        with Source(Content(file=image)).open() as stream:
            return stream.image().format != "raw" or stream.has_boot_record
    except KvmstateError as error:
        raise UsageError(error.message, error.hint) from None


def _scalar(text: str) -> str:
    """A text as YAML, on one line."""
    return json.dumps(text, ensure_ascii=False)


def allowed(image: str, directory: Path) -> str:
    """The option without which no command reads a file out of the project's folder."""
    where = Path(image).resolve().parent
    if image.startswith(_URL) or where.is_relative_to(directory.resolve()):
        return ""
    return f" --allow-path {shlex.quote(str(where))}"


def _pinned(url: str, given: str | None) -> dict[str, str]:
    """The list that has the image's checksum, and that."""
    from kvmstate.cli.pin import Lists

    lists, first = Lists(), None
    for name in (given,) if given else LISTS:
        try:
            return {"checksums": name, "checksum": lists.checksum(url, name)}
        except KvmstateError as error:
            first = first or error
    assert first
    raise UsageError(f"no list of checksums has {url}: {first.message}", "say where it is: --checksums URL")


def _key(file: Path | None) -> str:
    folder = Path.home() / ".ssh"
    found = file or next((each for name in _KEYS if (each := folder / name).is_file()), None)
    if found is None:
        raise UsageError(f"there is no public key in {folder}", "make one: ssh-keygen; or say which: --ssh-key FILE")
    try:
        text = found.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{found}: {error}") from None
    if "PRIVATE KEY" in text or not text or "\n" in text:
        raise UsageError(f"{found} is not a public key", "a file such as ~/.ssh/id_ed25519.pub")
    return text
