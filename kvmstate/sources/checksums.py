"""Lists of checksums as vendors publish them, in GNU's style or in BSD's, and who has signed them."""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
import tempfile
from pathlib import Path

from kvmstate.errors import SourceError

# The strongest first: others are as good as none
KINDS = {"sha512": 128, "sha256": 64}
# What vendors append to a list's name for its signature
SUFFIXES = (".sign", ".gpg", ".asc", ".sig")
_SIGNED = b"-----BEGIN PGP SIGNED MESSAGE-----"
_BSD = re.compile(r"(\w+) ?\((.+)\) ?= ?([0-9a-fA-F]+)")
_GNU = re.compile(r"\\?([0-9a-fA-F]+)(?: [ *]|\s+)(.+)")
_ALONE = re.compile(r"[0-9a-fA-F]+")
_ARMOR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*\n(?:.*: .*\n)*\s*\n(.*?)-----END", re.DOTALL)
_SECONDS = 30


def listed(text: str, path: str) -> str:
    """The checksum, as manifests write it, that a list has of the file at a path of a server. Raises SourceError where
    it has none, or several."""
    found: dict[str, set[str]] = {}
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("#", "-----"))]
    for line in lines:
        if bsd := _BSD.fullmatch(line):
            kind, name, value = bsd[1].lower(), bsd[2], bsd[3]
        elif gnu := _GNU.fullmatch(line):
            kind, name, value = "", gnu[2], gnu[1]
        elif len(lines) == 1 and _ALONE.fullmatch(line):
            # a file of its own beside each image
            kind, name, value = "", path, line
        else:
            continue
        kind = kind or next((known for known, digits in KINDS.items() if len(value) == digits), "")
        if len(value) == KINDS.get(kind) and _is_one(name, path):
            found.setdefault(kind, set()).add(value.lower())
    name = path.rpartition("/")[2]
    if (kind := next((known for known in KINDS if known in found), None)) is None:
        raise SourceError(f"it has no {' or '.join(KINDS)} of {name}", "look for the list that has it")
    if len(found[kind]) > 1:
        raise SourceError(f"it has several of {name}", "look for a list of one folder")
    return f"{kind}:{found[kind].pop()}"


def _is_one(name: str, path: str) -> bool:
    """Whether a name in a list is that of the file: relative to some folder above it."""
    return f"/{path.lstrip('/')}".endswith(f"/{name.removeprefix('./').lstrip('/')}")


def is_signed(content: bytes) -> bool:
    """Whether the signature is in the list itself."""
    return content.lstrip().startswith(_SIGNED)


def verified(content: bytes, signature: bytes | None, key: Path) -> bytes:
    """What of a list a key has signed, where `signature` is None in the list itself. Raises SourceError where it has
    not, and OSError where the key cannot be read."""
    with tempfile.TemporaryDirectory(prefix="kvmstate-gpgv-") as name:
        folder = Path(name)
        (folder / "keys").write_bytes(_keyring(key.read_bytes(), key))
        (folder / "list").write_bytes(content)
        words = [str(folder / "list")]
        if signature is not None:
            (folder / "signature").write_bytes(signature)
            words = [str(folder / "signature"), *words]
        else:
            # what stands around it in the file is not signed
            words = ["--output", str(folder / "signed"), *words]
        command = ["gpgv", "--homedir", name, "--quiet", "--keyring", str(folder / "keys"), *words]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except FileNotFoundError:
            raise SourceError("there is no gpgv here", "install it (Debian: gpgv, Fedora: gnupg2)") from None
        except subprocess.TimeoutExpired:
            raise SourceError(f"gpgv did not end within {_SECONDS} s", "look at the signature") from None
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("gpgv: ")
            raise SourceError(f"it is not signed with a key of {key}: {said}", "it may not be the vendor's list")
        return content if signature is not None else (folder / "signed").read_bytes()


def _keyring(content: bytes, key: Path) -> bytes:
    """What is armored as gpgv takes it."""
    blocks = _ARMOR.findall(content.replace(b"\r\n", b"\n"))
    if not blocks:
        return content
    try:
        # the last line is a checksum of its own
        return b"".join(base64.b64decode(re.sub(rb"\n=.{4}\s*$", b"\n", block)) for block in blocks)
    except binascii.Error:
        raise SourceError(f"{key} is damaged", "it holds public keys, as `gpg --export --armor` writes them") from None
