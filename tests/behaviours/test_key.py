"""The host's key: one, whoever makes it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import pytest
from harness import Project

from kvmstate.host import Host, open_host, seal, secrets
from kvmstate.host.seal import NAME, Sealing


@pytest.fixture(params=["secrets", pytest.param("files", id="files")])
def keyed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    uri = "test:///default" if request.param == "files" else request.getfixturevalue("project").uri
    with open_host(uri) as opened:
        yield opened


@pytest.mark.real
def test_all_who_make_it_at_once_have_the_same(keyed: Host) -> None:
    assert Sealing(keyed).known() is None
    with ThreadPoolExecutor(8) as pool:
        hashes = set(pool.map(lambda _: Sealing(keyed).hide("one"), range(16)))
    assert hashes == {Sealing(keyed).match("one")}
    assert Sealing(keyed).hide("two") not in hashes
    if not secrets.supported(keyed.connection):
        (file,) = (path for path in Path(seal.state_folder(keyed.address)).iterdir())
        assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.real
def test_one_that_nobody_finishes_is_made_anew(
    project: Project, connection: libvirt.virConnect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "MAKING", 0.2)
    assert secrets.define_new(connection, NAME, "by a run that was killed then")
    with open_host(project.uri) as host:
        assert Sealing(host).hide("one").startswith("hmac-sha256-")
        assert len([each for each in connection.listAllSecrets() if each.usageID() == NAME]) == 1
