"""JSON: one object, or of a stream one object a line."""

from __future__ import annotations

import json

from kvmstate.views.formats import Output

structured = True


def whole(output: Output) -> str:
    return json.dumps(output.data(), indent=2)


def item(output: Output) -> str:
    return json.dumps(output.data())
