"""What is asked, and what is answered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]


@dataclass(frozen=True)
class Answer:
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def text(said: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Answer:
    return Answer(f"{said}\n".encode(), status, headers=headers)


def as_json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(json.dumps(value, indent=2).encode() + b"\n", status, "application/json")
