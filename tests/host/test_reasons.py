"""Why a call has failed is known, whatever Python's garbage collector does at that moment."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import libvirt
import pytest

from kvmstate.errors import HostError, NotFound
from kvmstate.host import faults
from kvmstate.host.liveness import in_time

# The collector begins with the making of so many objects after the call has failed, or before
MOMENTS = range(8)


@pytest.fixture
def connection() -> Iterator[libvirt.virConnect]:
    libvirt.registerErrorHandler(lambda *_: None, None)
    before = gc.get_threshold()
    opened = libvirt.open("test:///default")
    yield opened
    gc.set_threshold(*before)
    opened.close()


def fail(connection: libvirt.virConnect, moment: int) -> None:
    """Look for what is not there, and leave an object of libvirt's that nothing but the collector frees."""
    circle: list[object] = [connection.lookupByName("test")]
    circle.append(circle)
    del circle
    gc.set_threshold(gc.get_count()[0] + moment)
    try:
        connection.lookupByName("nope")
    finally:
        gc.set_threshold(700)


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_is_not_there_is_not_found_while_garbage_is_collected(connection: libvirt.virConnect, moment: int) -> None:
    for _ in range(50):
        with pytest.raises(NotFound, match="Domain not found"), faults():
            fail(connection, moment)


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_fails_in_a_thread_of_its_own_keeps_its_reason(connection: libvirt.virConnect, moment: int) -> None:
    for _ in range(20):
        with pytest.raises(NotFound, match="Domain not found"), faults():
            in_time(lambda: fail(connection, moment), 10)


def test_a_failure_without_a_reason_is_not_given_that_of_another(connection: libvirt.virConnect) -> None:
    with pytest.raises(NotFound), faults():
        connection.lookupByName("nope")
    gc.collect()
    with pytest.raises(HostError) as raised, faults():
        raise libvirt.libvirtError("nobody says why")
    assert (type(raised.value), raised.value.message) == (HostError, "nobody says why")


def test_the_reason_is_that_of_the_thread_that_failed(connection: libvirt.virConnect) -> None:
    def fail_otherwise() -> None:
        with pytest.raises(NotFound, match="Network not found"), faults():
            connection.networkLookupByName("nope")

    def fail_beside() -> None:
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(fail_otherwise)
            try:
                fail(connection, 1)
            finally:
                other.result()

    with pytest.raises(NotFound, match="Domain not found"), faults():
        fail_beside()
