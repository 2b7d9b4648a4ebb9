"""What QEMU gives up by chance is asked for again, and nothing else."""

from __future__ import annotations

import pytest

from kvmstate.errors import HostError
from kvmstate.host.volumes import measured

BY_CHANCE = "internal error: Child process (qemu-img create) failed: qemu-img: /a: Unable to get accurate CPU usage"


@pytest.mark.parametrize(
    ("failures", "calls", "made"),
    [([], 1, True), ([BY_CHANCE] * 3, 4, True), ([BY_CHANCE] * 99, 10, False), (["no space"], 1, False)],
)
def test_how_often_a_key_is_measured(failures: list[str], calls: int, made: bool) -> None:
    left, asked = list(failures), []

    def encrypt() -> str:
        asked.append(1)
        if left:
            raise HostError(left.pop())
        return "made"

    if made:
        assert measured(encrypt) == "made"
    else:
        with pytest.raises(HostError):
            measured(encrypt)
    assert len(asked) == calls
