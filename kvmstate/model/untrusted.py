"""JSON that others may have written: a record, a lock, a saved plan."""

from __future__ import annotations

import json
import zlib
from typing import Any

# What reading a damaged or hostile document may raise
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError, zlib.error)


def from_json(text: str | bytes) -> Any:
    """Parse JSON. Raises ValueError for all that is not JSON, also when it is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def decompressed(value: bytes, most: int) -> bytes:
    """Decompress a value. Raises zlib.error, and ValueError for more than `most` bytes, of which no more are made."""
    found = zlib.decompressobj()
    text = found.decompress(value, most)
    if found.unconsumed_tail:
        raise ValueError(f"it has more than {most:,} bytes")
    if not found.eof:
        raise zlib.error("it is cut off")
    return text


def expect(value: Any, kind: type | tuple[type, ...], *items: type) -> Any:
    """The value, which must be of this type, and its items of one of those. Raises TypeError."""
    right = isinstance(value, kind)
    if not right or (items and not all(isinstance(item, items) for item in value)):
        raise TypeError(f"unexpected {type(value).__name__}")
    return value
