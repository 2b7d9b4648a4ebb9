"""Sizes and durations as people write them.

Sizes are whole bytes. Suffixes are libvirt's: `k`/`K`/`KiB` is 1024 and `KB` is 1000 (and so for M, G, T, P, E);
Kubernetes' `Ki`, `Mi`, `Gi` are read as well. Durations are seconds, written `90s`, `5m`, `1h30m`, `90d`.
See https://libvirt.org/formatdomain.html#memory-allocation
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGTPE]?)(iB|i|B|)", re.ASCII)
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_POWERS = {letter: power for power, letter in enumerate(" KMGTPE")}
# Fewer bytes than this, written by a person without a unit, are a forgotten unit
PLAIN_BYTES = 1 << 20
# A validation context that holds it: what is validated was written by a person, and did not come from a program
WRITTEN = "written"


class Unclear(ValueError):
    """A value that is right to the letter, and most likely not what is meant."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Bytes(int):
    """A number of bytes that prints as people read it: the largest binary unit that divides it."""

    def __str__(self) -> str:
        for letter in "EPTGMK":
            unit = 1024 ** _POWERS[letter]
            if self and self % unit == 0:
                return f"{int(self) // unit} {letter}iB"
        return f"{int(self)} bytes"


def about(size: int) -> str:
    """Write a number of bytes as people estimate it: `19.5 GiB`."""
    power = max((power for power in _POWERS.values() if size >= 1024**power), default=0)
    letter = next(letter for letter, each in _POWERS.items() if each == power)
    return f"{size / 1024**power:.1f} {letter}iB" if power else f"{size} bytes"


def parse_size(text: object) -> int:
    """Bytes in `text`, a whole number of bytes or a number with a unit. Raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if not match:
        raise ValueError("expected a size such as 512MiB, 20GiB or a number of bytes")
    number, letter, suffix = match.groups()
    base = 1000 if letter and suffix == "B" else 1024
    factor = int(base ** _POWERS[letter.upper() or " "])
    whole, _, decimals = number.partition(".")
    scale = 10 ** len(decimals)
    value, remainder = divmod(int(whole + decimals) * factor, scale)
    if remainder:
        raise ValueError(f"{text} is not a whole number of bytes")
    return int(value)


def _written_size(text: object, info: ValidationInfo) -> int:
    """As `parse_size`; a person also says the unit of anything below 1 MiB. Raises ValueError."""
    size = parse_size(text)
    plain = isinstance(text, int) or str(text).strip().replace(".", "").isdigit()
    if plain and 0 < size < PLAIN_BYTES and WRITTEN in (info.context or ()):
        guess = f"{size}MiB" if size > 100 else f"{size}GiB or {size}MiB"
        said = f"{size} is {size} bytes; did you mean {guess}?"
        raise Unclear("expected a size with its unit, such as 512MiB or 20GiB", f"{said} Bytes are written {size}B")
    return size


def parse_duration(text: object) -> int:
    """Seconds in `text`. Raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) and text.strip() else None
    if not match:
        raise ValueError("expected a duration such as 90s, 5m or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


Size = Annotated[
    int,
    BeforeValidator(_written_size),
    AfterValidator(Bytes),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*([kKMGTPE]?(iB|i|B)?)$"},
                {"type": "integer", "minimum": 0, "not": {"minimum": 1, "exclusiveMaximum": PLAIN_BYTES}},
            ],
            "x-kvmstate-unit": "bytes, or a number with KiB, MiB, GiB, TiB (binary) or KB, MB, GB, TB (decimal)",
        }
    ),
]
Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"},
                {"type": "integer", "minimum": 0},
            ],
            "x-kvmstate-unit": "seconds, or d, h, m and s as in 1h30m",
        }
    ),
]
