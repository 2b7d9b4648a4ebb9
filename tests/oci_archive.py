"""Archives of OCI images, whole and wrong ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], object]


def member(name: str, data: bytes = b"", type_: bytes = tarfile.REGTYPE, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), type_
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def archive(
    *layers: bytes,
    manifest: Change = lambda m: None,
    index: Change = lambda i: None,
    other_layer: bytes | None = None,
    other_manifest: bytes | None = None,
) -> bytes:
    """As skopeo writes it; the other ones are not what their digests are of."""
    described = {"schemaVersion": 2, "layers": [{"digest": digest(layer), "size": len(layer)} for layer in layers]}
    manifest(described)
    text = json.dumps(described).encode()
    whole = {"schemaVersion": 2, "manifests": [{"digest": digest(text), "size": len(text)}]}
    index(whole)
    blobs = [(digest(layer), other_layer or layer) for layer in layers]
    blobs.append((digest(text), other_manifest or text))
    return tar(
        member("blobs/", type_=tarfile.DIRTYPE),
        *(member(f"blobs/{name.replace(':', '/')}", data) for name, data in blobs),
        member("index.json", json.dumps(whole).encode()),
        member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
    )


def layer(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return gzip.compress(tar(*members))
