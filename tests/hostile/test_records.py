"""What is recorded of projects: for nobody else to read, and no harm to anybody when it is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import string
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from bounds import bounded
from harness import resource

from kvmstate.apply.keep import Files


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_record_is_for_its_owner_only_whatever_the_umask(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    keep = Files(SimpleNamespace(address="test:///default"), "shop")  # type: ignore[arg-type]
    before = os.umask(umask & 0o077)
    try:
        keep.write("0", b"secret")
        assert keep.claim("token", "note")
        # one that an older version, or a killed run, has left
        (keep._folder / f"1.{os.getpid()}.tmp").write_bytes(b"")
        keep.write("1", b"secret")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in keep._folder.iterdir()}
    assert modes == {"0.value": 0o600, "1.value": 0o600, "lock": 0o600}


def shard(**changed: object) -> bytes:
    entry = {"id": "domain/web", "uuid": "u", "specs": [{}], "lifecycle": {}}
    return zlib.compress(json.dumps({"format": 1, "serial": 1, "entries": [entry | changed]}).encode())


def deep(count: int) -> bytes:
    return zlib.compress(b'{"format": 1, "serial": 1, "entries": ' + b"[" * count + b"]" * count + b"}")


def bomb(size: int) -> bytes:
    """A list with so many MiB of blanks in it. Only one of them is compressed: each worker of a test run reads this."""
    blanks = b" " * (1 << 20)
    packer = zlib.compressobj()
    opened = packer.compress(b"[") + packer.flush(zlib.Z_FULL_FLUSH)
    packed = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    check = zlib.adler32(b"[")
    for _ in range(size):
        check = zlib.adler32(blanks, check)
    closed = end.compress(b"]") + end.flush()
    return opened + packed * size + closed + zlib.adler32(b"]", check).to_bytes(4, "big")


HOSTILE = {
    "deep": deep(100_000),
    "just deep": deep(900),
    "a bomb": bomb(200),
    "id is a number": shard(id=7),
    "uuid is a list": shard(uuid=[1]),
    "specs is a number": shard(specs=7),
    "specs of numbers": shard(specs=[7]),
    "lifecycle is a list": shard(lifecycle=[]),
    "lifecycle is unknown": shard(lifecycle={"x": 1}),
    "digest is a list": shard(digest=["x"]),
    "pending of lists": shard(pending=[[1]]),
    "entries is a number": zlib.compress(b'{"format": 1, "serial": 1, "entries": 7}'),
    "serial is infinite": zlib.compress(b'{"format": 1, "serial": Infinity, "entries": []}'),
    "format is a text": zlib.compress(b'{"format": "x", "serial": 1, "entries": []}'),
    "a list": zlib.compress(b"[]"),
    "a number": zlib.compress(b"7"),
    "null": zlib.compress(b"null"),
    "no UTF-8": zlib.compress(b'"\xff"'),
    "cut off": shard()[:-5],
    "not compressed": b"{}",
    "nothing": b"",
}
HOLDER = {"user": "u", "machine": "m", "pid": 1, "born": 1, "command": "c", "version": "v", "since": 0, "until": 0}
LOCKS = {
    "deep": "[" * 100_000,
    "times are texts": json.dumps({**HOLDER, "since": "x", "until": "y"}),
    "times are no times": json.dumps({**HOLDER, "since": 1e300, "until": 1e300}),
    "times are infinite": '{"since": Infinity, "until": Infinity}',
    "a list": "[]",
    "nothing": "",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_anothers_hostile_record_harms_only_itself(name: str, tmp_path: Path) -> None:
    with_record(tmp_path, "other", HOSTILE[name])
    planned = bounded("plan", "-c", "test:///default", str(tmp_path / "m.yaml"), cwd=tmp_path, **state(tmp_path))
    assert planned.code == 0, planned
    examined = bounded("doctor", "-c", "test:///default", cwd=tmp_path, **state(tmp_path))
    assert "other" in examined.out, examined


@pytest.mark.parametrize("name", HOSTILE)
def test_ones_own_hostile_record_is_called_damaged(name: str, tmp_path: Path) -> None:
    with_record(tmp_path, "default", HOSTILE[name])
    planned = bounded("plan", "-c", "test:///default", str(tmp_path / "m.yaml"), cwd=tmp_path, **state(tmp_path))
    assert planned.code == 1, planned
    assert "the record of what project default owns here is damaged" in planned.err, planned


@pytest.mark.parametrize("name", LOCKS)
def test_a_hostile_lock_is_one_that_was_left(name: str, tmp_path: Path) -> None:
    folder = with_record(tmp_path, "default", shard())
    (folder / "lock").write_text(f"00000000-0000-0000-0000-000000000000 {LOCKS[name]}")
    examined = bounded("doctor", "-c", "test:///default", cwd=tmp_path, **state(tmp_path))
    assert "locked by somebody" in examined.out, examined


def test_what_cannot_be_recorded_stops_only_what_needs_it(tmp_path: Path) -> None:
    noise = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=120_000))
    networks = [resource("Network", f"n{number}") for number in range(3)]
    networks.append(resource("Network", "large", xml={"./domain/@name": noise}))
    (tmp_path / "m.yaml").write_text(yaml.safe_dump_all(networks))
    args = ("-c", f"test://{tmp_path}/host.xml", str(tmp_path))
    (tmp_path / "host.xml").write_text("<node/>")
    planned = bounded("plan", *args, cwd=tmp_path, **state(tmp_path))
    assert "too large to be recorded" in planned.out, planned
    applied = bounded("apply", "--auto-approve", *args, cwd=tmp_path, **state(tmp_path))
    assert applied.code == 1, applied
    assert "3 added" in applied.out, applied


def state(folder: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(folder / "state")}


def with_record(folder: Path, project: str, value: bytes) -> Path:
    """A project's record of the test driver's host, and a manifest of a network that is there and nobody's."""
    (folder / "m.yaml").write_text(yaml.safe_dump(resource("Network", "default")))
    host = hashlib.sha256(b"test:///default").hexdigest()[:16]
    place = folder / "state" / "kvmstate" / host / project
    place.mkdir(parents=True)
    (place / "0.value").write_bytes(value)
    return place
