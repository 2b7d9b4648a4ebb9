"""What is known of devices, and of what else machines and networks may have, before it is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kvmstate.kinds import network
from kvmstate.kinds.virtual_machine import devices, settings
from kvmstate.kinds.virtual_machine.spec import DEVICES
from kvmstate.xmlbind import Later, Section

STANDING_IN = [
    pytest.param(each, id=each.__name__)
    for package in (devices, settings, network)
    for each in vars(package).values()
    if isinstance(each, type) and issubclass(each, Later) and each is not Later
]


@pytest.mark.parametrize("stand_in", STANDING_IN)
def test_what_stands_in_says_what_it_stands_for(stand_in: type[Later]) -> None:
    section = stand_in.section()
    assert issubclass(section, Section)
    assert section.__name__ == stand_in.__name__
    for fact in ("tag", "key", "volatile"):
        if fact in vars(stand_in):
            assert getattr(stand_in, fact) == getattr(section, fact)


@pytest.mark.parametrize("alias", [*DEVICES])
def test_a_device_is_where_its_field_says(alias: str) -> None:
    b, section = DEVICES[alias]
    assert b.xml is not None
    assert b.xml.path == f"devices/{section.tag}"
    assert not b.repeated or (b.key or "") == section.key


def test_what_a_manifest_does_not_have_is_not_loaded() -> None:
    code = (
        "from kvmstate.kinds import BY_NAME; from kvmstate.xmlbind import Later; import sys;"
        "BY_NAME['VirtualMachine'].adapter.validate_python({'memory': 1 << 30, 'clock': 'utc'});"
        "print(*(m for m in sys.modules if '.virtual_machine.' in m))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {module.rpartition(".")[2] for module in told.stdout.split()}
    assert "clock" in loaded
    assert not loaded & {
        "hostdev",
        "audio",
        "filesystem",
        "numa",
        "features",
        "tuning",
        "sysinfo",
        "video",
        "nic",
        "graphics",
        "rng",
    }
