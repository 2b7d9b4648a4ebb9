"""An error in a manifest does not repeat what may be a secret: pipelines keep what validate says."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmstate.errors import ManifestErrors
from kvmstate.manifest import load

MACHINE = "apiVersion: kvmstate/v1\nkind: VirtualMachine\nmetadata: {name: w}\nspec:\n  memory: 1MiB\n  "
VOLUME = "apiVersion: kvmstate/v1\nkind: Volume\nmetadata: {name: v}\nspec:\n  pool: p\n  content: "
WRONG = {
    "a URL of another scheme": VOLUME + "{url: 'ftp://user:4711@h/x?sig=4711', checksum: 'sha256:0'}",
    "a list in place of a text": MACHINE + "kernel: {path: /k, cmdline: [luks=4711]}",
    "a number": MACHINE + "kernel: {path: /k, cmdline: 4711}",
    "a text in place of what has one": MACHINE + "kernel: luks=4711",
    "a text in place of paths": MACHINE + "xml: './devices/graphics/@passwd=4711'",
    "a mapping at a path": MACHINE + "xml: {'./devices/graphics/@passwd': {is: 4711}}",
    "XML that is none": MACHINE + "remainder: \"<domain><x passwd='4711'></domain>\"",
    "a field that is none": MACHINE + "graphics: [{type: vnc, password: 4711}]",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_may_be_a_secret_is_not_repeated(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(WRONG[name])
    with pytest.raises(ManifestErrors) as wrong:
        load([tmp_path / "m.yaml"])
    assert "4711" not in str(wrong.value)


def test_all_else_is(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(MACHINE + "kernel: {path: vmlinuz}\n  machine: '4711 '")
    with pytest.raises(ManifestErrors, match=r"found 'vmlinuz'(.|\n)*found '4711 '"):
        load([tmp_path / "m.yaml"])
