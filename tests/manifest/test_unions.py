"""Specs that are unions, told apart by a field: the messages name fields, never the union."""

from typing import Literal

import pytest
from pydantic import TypeAdapter

from kvmstate.kind import Form, Kind, Members, Spec
from kvmstate.manifest.text import Reader
from kvmstate.manifest.translate import validate


class Source(Spec):
    host: str


class Dir(Spec):
    type: Literal["dir"]
    path: str


class Netfs(Spec):
    type: Literal["netfs"]
    source: Source


POOL = Kind("Pool", "pool", "", Form(Members("type", "", {"dir": Dir, "netfs": Netfs})))
PLAIN: TypeAdapter[object] = TypeAdapter(Dir | Netfs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{path: x}", "f:1:1: spec.type: this field is required\n  hint: it says which of the variants this is"),
        ("{type: netf}", "f:1:8: spec.type: expected one of dir, netfs; found 'netf'\n  hint: did you mean netfs?"),
        ("{type: netfs}", "f:1:1: spec.source: this field is required"),
        ("{type: netfs, source: {hots: a}}", "f:1:24: spec.source.hots: unknown field\n  hint: did you mean host?"),
        (
            "{type: netfs, source: {host: 1}}",
            'f:1:30: spec.source.host: expected text; found 1\n  hint: put it in quotes: "1"',
        ),
        (
            "{type: dir, path: x, sorce: 1}",
            "f:1:22: spec.sorce: unknown field\n  hint: known fields: path, remainder, type, xml",
        ),
    ],
)
def test_a_discriminated_union(text: str, said: str) -> None:
    reader = Reader("f")
    (node,) = reader.documents(text)
    assert validate(POOL.adapter, POOL.specs, node, ("spec",), reader.report) is None
    assert said in [str(problem) for problem in reader.problems]
    assert not any("netfs." in problem.path or "dir." in problem.path for problem in reader.problems)
