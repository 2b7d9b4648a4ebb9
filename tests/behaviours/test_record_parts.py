"""What a project owns is recorded on the host itself, in as many parts as it takes; without secrets, in files."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from harness import Project, resource

COUNT = 40


def machines(words: str) -> list[dict]:
    """Too much for one secret, compressed or not."""
    text = random.Random(words)
    return [
        resource(
            "VirtualMachine",
            f"m{number}",
            state="stopped",
            memory="32MiB",
            description="".join(text.choices(string.ascii_letters, k=5000)),
        )
        for number in range(COUNT)
    ]


def parts(connection: libvirt.virConnect) -> set[str]:
    return {s.usageID() for s in connection.listAllSecrets() if s.usageID().startswith("kvmstate:shop:")}


@pytest.mark.real
def test_a_large_record_is_kept_in_several_secrets(project: Project, connection: libvirt.virConnect) -> None:
    project.converge(*machines("first"))
    assert len(parts(connection)) >= 3
    project.converge(*machines("second"))
    destroyed = project.kvmstate("destroy", "--auto-approve")
    assert f"{COUNT} destroyed" in destroyed.out
    assert connection.listAllDomains() == []
    assert parts(connection) == set()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project on libvirt's test driver, which lives as long as somebody is connected."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    connection = libvirt.open("test:///default")
    yield Project("test:///default", tmp_path / "shop")
    connection.close()


def test_a_host_without_secrets_has_its_record_in_files_here(files: Project, tmp_path: Path) -> None:
    lan = resource("Network", "lan", ips=[{"address": "192.168.90.1/24"}])
    files.converge(lan, *machines("first")[:5])
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert kept
    assert all(path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0 for path in kept)
    assert files.kvmstate("drift").code == 0
    files.converge(lan, options=("--prune", "--max-delete-share", "90%"))
    # the network that every test host has is nobody's
    files.write(resource("Network", "default"))
    assert "this project does not own it" in files.plan().out
    assert "1 destroyed" in files.kvmstate("destroy", "--auto-approve").out
