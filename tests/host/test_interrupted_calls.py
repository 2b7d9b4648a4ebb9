"""A signal during a call of libvirt's is an interruption, and no bug."""

from __future__ import annotations

import pytest

from kvmstate.host.faults import faults


def test_an_interruption_within_the_binding_is_one() -> None:
    # CPython's words for an exception that a handler has raised within a call that then returned a result
    with pytest.raises(KeyboardInterrupt), faults():
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()
    with pytest.raises(SystemError), faults():
        raise SystemError("another one")
