"""`kvmstate transfer` on libvirt's test driver; see also tests/behaviours/test_transfer.py."""

from __future__ import annotations

from pathlib import Path

import libvirt
import pytest
from harness import Project, kvmstate, resource

from kvmstate.kind.stamps import stamped_by


def test_records_and_stamps_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    opened = libvirt.open("test:///default")  # which lives as long as somebody is connected
    shop, lab = (Project("test:///default", tmp_path / name, name) for name in ("shop", "lab"))
    lan = resource("Network", "lan", active=False)
    machine = resource("VirtualMachine", "vm", memory="32MiB", state="stopped")
    shop.converge(lan, machine)
    done = kvmstate("transfer", "--all", "--to", "lab", "-C", str(shop.folder), "--auto-approve")
    assert done.code == 0, done
    assert stamped_by(opened.networkLookupByName("lan").XMLDesc(0)) == "lab"
    assert stamped_by(opened.lookupByName("vm").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)) == "lab"
    assert "it is owned by project lab" in shop.plan().out
    lab.converge(lan, machine)
    assert lab.kvmstate("destroy", "--auto-approve").code == 0
    opened.close()
