"""YAML: one document, or of a stream a document for each part."""

from __future__ import annotations

import json

from kvmstate.manifest.write import document
from kvmstate.views.formats import Output

structured = True


def whole(output: Output) -> str:
    # by way of JSON: the same values, whatever they are made of
    return document(json.loads(json.dumps(output.data()))).rstrip("\n")


def item(output: Output) -> str:
    return f"---\n{whole(output)}"
