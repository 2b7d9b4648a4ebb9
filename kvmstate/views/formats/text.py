"""Text for people."""

from __future__ import annotations

from kvmstate.views.formats import Output

structured = False


def whole(output: Output) -> str:
    return output.text()


item = whole
