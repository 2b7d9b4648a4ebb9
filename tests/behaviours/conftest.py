"""One file a behaviour: the listing of this folder is what kvmstate can do. Every test starts on an empty host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Guest, Project
from trouble import inside

from kvmstate.host import connection, uses


@pytest.fixture
def tiny(guest: Any, tmp_path: Path) -> Guest:
    return Guest({"path": str(guest.vmlinuz), "initrd": str(guest.initrd)}, tmp_path / "console.log")


@pytest.fixture
def nothing_is_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read a while ago is read again, sooner on a busy machine: no matter for those who count calls."""
    for module in (connection, uses):
        monkeypatch.setattr(module, "LASTING", 10**6)


# A passphrase is to be slow to guess: here its key is made with as few rounds as QEMU takes
QUICK = """
i=$#
while [ $i -gt 0 ]; do
  a=$1; shift
  case $a in
    driver=*) ;;
    *encrypt.key-secret=*) a=$a,encrypt.iter-time=1 ;;
    key-secret=*) a=$a,iter-time=1 ;;
  esac
  set -- "$@" "$a"; i=$((i-1))
done
exec /usr/bin/qemu-img "$@\""""


@pytest.fixture
def quick_encryption(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Encrypted images are made, and opened, with little work."""
    own = tmp_path / "bin" / "qemu-img"
    own.parent.mkdir()
    own.write_text(f"#!/bin/sh\n{QUICK}\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(own.parent), prepend=":")
    # libvirtd keeps the path of the program that it finds first
    there, real = (project.host.directory / name for name in ("quick-qemu-img", "qemu-img"))
    there.write_text(f"#!/bin/sh\n{QUICK.replace('/usr/bin/qemu-img', str(real))}\n")
    there.chmod(0o755)
    inside(project.host, f"cp /usr/bin/qemu-img {real} && mount --bind {there} /usr/bin/qemu-img")
    yield
    inside(project.host, f"umount -l /usr/bin/qemu-img && rm {real} {there}")
