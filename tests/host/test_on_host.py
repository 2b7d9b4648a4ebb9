"""Commands beside a daemon of this machine, for an ordinary user."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvmstate.host.on_host import _inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it is about what root has")


@contextmanager
def beside(*words: str) -> Iterator[int]:
    """A process of root's, and this one as an ordinary user."""
    process = subprocess.Popen([*words, "sh", "-c", "echo there; exec sleep 60"], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    time.sleep(0.1)
    os.seteuid(65534)
    try:
        yield process.pid
    finally:
        os.seteuid(0)
        process.kill()
        process.communicate()


def test_who_is_where_the_daemon_is_need_not_enter() -> None:
    with beside() as pid:
        with pytest.raises(PermissionError):
            os.stat(f"/proc/{pid}/ns/net")
        assert _inside(pid) == []


def test_who_is_elsewhere_cannot_look() -> None:
    script = 'mount -t tmpfs none /mnt && exec "$@"'
    with beside("unshare", "--mount", "sh", "-c", script, "-") as pid, pytest.raises(PermissionError):
        _inside(pid)
