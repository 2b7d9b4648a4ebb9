"""Whether a #cloud-config is built as cloud-init's own schema says: what is misspelled there, a machine would tell on
its console at the first boot, when nobody looks.

Nothing of a value is told, as any may be a secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

# loaded with the first machine that has something to check: 50 ms
from jsonschema import Draft4Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]

VERSION = "25.1.4"
Place = tuple[str | int, ...]
_TELLING = {"additionalProperties": 3, "required": 2}
_TYPES = {"object": "a mapping", "array": "a list", "null": "nothing"}


@cache
def _validator() -> Draft4Validator:
    file = Path(__file__).with_name("schema-cloud-config-v1.json")
    return Draft4Validator(json.loads(file.read_text(encoding="utf-8")))


def misfits(config: object) -> Iterator[tuple[Place, str]]:
    """What does not fit, and where."""
    seen = set()
    for error in _validator().iter_errors(config):
        found = _inmost(error)
        told = tuple(found.absolute_path), _told(found)
        if told not in seen:
            seen.add(told)
            yield told


def _inmost(error: ValidationError) -> ValidationError:
    """What is wrong with the alternative that was most likely meant: not one of another type."""
    while error.context:
        meant = [each for each in error.context if each.validator != "type" or each.relative_path]
        error = max(
            meant or error.context, key=lambda each: (len(each.relative_path), _TELLING.get(str(each.validator), 1))
        )
    return error


def _told(error: ValidationError) -> str:
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            return f"this is to be {_or([wanted] if isinstance(wanted, str) else wanted)}"
        case "additionalProperties":
            known = sorted(error.schema.get("properties", {}))
            extra = sorted({*map(str, error.instance)} - {*known})
            return (
                f"cloud-init knows no {', '.join(extra)} here, only {', '.join(known)}"
                if len(known) < 30
                else (f"cloud-init knows no {', '.join(extra)} here")
            )
        case "required":
            missing = [name for name in wanted if name not in error.instance]
            return f"it lacks {', '.join(missing)}"
        case "enum":
            return f"this is to be one of {', '.join(map(str, wanted))}"
        case _:
            return f"this does not fit cloud-init's schema ({error.validator})"


def _or(names: Iterable[str]) -> str:
    return " or ".join(_TYPES.get(name, f"a{'n' if name[0] in 'aeiou' else ''} {name}") for name in names)
