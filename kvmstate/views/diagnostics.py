"""Errors for machines: the shape is the one of `validate --json`, everywhere."""

from __future__ import annotations

import dataclasses

from kvmstate.errors import KvmstateError, ManifestErrors

FORMAT_VERSION = "1.0"


def diagnostics(error: KvmstateError, **more: object) -> list[dict[str, object]]:
    """One for each problem. `more`: what else is known, such as the address of the resource."""
    if isinstance(error, ManifestErrors):
        return [{"severity": "error", **dataclasses.asdict(problem), **more} for problem in error.problems]
    return [{"severity": "error", "message": error.message, "hint": error.hint, **more}]


def failed(error: KvmstateError) -> dict[str, object]:
    """What a command that prints one object prints instead."""
    return {"format_version": FORMAT_VERSION, "errored": True, "diagnostics": diagnostics(error)}
