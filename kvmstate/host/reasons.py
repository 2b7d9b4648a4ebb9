"""Why a call of libvirt's has failed, also when Python tidies up at that moment.

libvirt-python asks for the reason after the call, when it makes the exception. What Python's garbage collector frees
between the two is freed by calls of libvirt's, and these forget the reason: the exception has no code then, and what is
not there looks like any other failure. So the collector looks for a reason before it begins.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

import libvirt


class _Kept(threading.local):
    error: tuple[Any, ...] | None = None


_kept = _Kept()
_made = libvirt.libvirtError.__init__


def _keep(phase: str, _: object) -> None:
    if phase == "start" and (error := libvirt.virGetLastError()):
        _kept.error = error


def _with_reason(self: libvirt.libvirtError, text: str) -> None:
    _made(self, text)
    if _kept.error and not self.get_error_code():
        self.err = _kept.error
        self.args = (self.err[2],)
    # it is nobody else's
    _kept.error = None
    libvirt.virResetLastError()


def keep_reasons() -> None:
    """From here on, in this process."""
    if _keep not in gc.callbacks:
        gc.callbacks.append(_keep)
        libvirt.libvirtError.__init__ = _with_reason
