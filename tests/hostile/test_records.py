"""What is recorded of projects: for nobody else to read, and no harm to anybody when it is damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

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
