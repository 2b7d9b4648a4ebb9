"""Encrypted volumes (LUKS) on a host: with which secret, and content that is encrypted before it is uploaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from kvmstate.errors import HostError, NotFound
from kvmstate.host import Host, domains, managed_secrets
from kvmstate.host.volumes import QCOW2_V3, measured
from kvmstate.kind.secrets import usage_of
from kvmstate.kind.steps import Progress
from kvmstate.kinds.volume import convert, scratch
from kvmstate.kinds.volume.encryption import Encryption
from kvmstate.xmlbind import disk_source, document


def named(host: Host, how: Encryption, machines: set[str], path: str) -> Encryption:
    """How a volume that exists is encrypted, with the secret that libvirt or these machines say."""
    said = next(filter(None, (how.usage or how.uuid, *_said(host, machines, path))), "")
    secret = next((each for each in managed_secrets.all_secrets(host.connection) if _is(each, said)), None)
    return Encryption(secret=secret.name) if secret else how


def _said(host: Host, machines: set[str], path: str) -> Iterator[str]:
    for domain in domains.named(host.connection, machines):
        with suppress(NotFound):
            for disk in document(domains.xml(domain)).iterfind("devices/disk"):
                key = disk_source.encryption(disk, path)
                found = key.find("secret") if key is not None else None
                if found is not None:
                    yield found.get("usage") or found.get("uuid") or ""


def _is(secret: Any, said: str) -> bool:
    return bool(said) and said in (secret.uuid, usage_of(secret.name))


def passphrase(host: Host, how: Encryption) -> bytes:
    """What the secret holds. Raises HostError where libvirt does not tell."""
    said = how.uuid or how.usage or ""
    secret = next((each for each in managed_secrets.all_secrets(host.connection) if _is(each, said)), None)
    value = managed_secrets.value(secret) if secret else None
    if value is None:
        hint = "set private: false in its manifest while the volume is made, or make the volume empty and fill it"
        raise HostError(f"libvirt does not tell the passphrase of secret {said}, and content needs it", hint)
    return value


def encrypted(
    image: BinaryIO, format_: str, capacity: int, phrase: bytes, name: str, progress: Progress
) -> tuple[BinaryIO, int]:
    """An image of this format encrypted, as a file without a name, and how long that is in bytes; a guest sees
    `capacity` bytes of it. Raises HostError and OSError."""
    path = scratch.path_for(capacity, f"{name}, encrypted")
    at = str(path).replace(",", ",,")
    made, opened = ("luks", "driver=luks,key-secret=k") if format_ == "raw" else ("qcow2", _QCOW2)
    options = "key-secret=k" if format_ == "raw" else f"compat={QCOW2_V3},encrypt.format=luks,encrypt.key-secret=k"
    try:
        with _hidden(phrase) as number:
            key = ("--object", f"secret,id=k,file=/proc/self/fd/{number}")
            numbers = image.fileno(), number
            create = ["create", "-q", "-f", made, *key, "-o", options, str(path), f"{capacity:d}"]
            measured(lambda: convert.run(create, numbers))
            source = convert.words(image, format_)
            target = ("--target-image-opts", source, f"{opened},file.driver=file,file.filename={at}")
            convert.run(
                ["convert", "-n", "-p", *key, *target], numbers, lambda part: progress(int(part * capacity), capacity)
            )
        file = path.open("rb")
        return file, os.fstat(file.fileno()).st_size
    finally:
        with suppress(OSError):
            path.unlink()


_QCOW2 = "driver=qcow2,encrypt.format=luks,encrypt.key-secret=k"


@contextmanager
def _hidden(phrase: bytes) -> Iterator[int]:
    """A file in memory alone: a command line is for all to see."""
    number = os.memfd_create("passphrase")
    try:
        os.write(number, phrase)
        os.lseek(number, 0, os.SEEK_SET)
        yield number
    finally:
        os.close(number)
