"""Text from manifests and hosts, made harmless for whoever prints it: what a name says must not drive a terminal."""

from __future__ import annotations

import re


def harmless(text: str) -> str:
    """Control, direction and invisible characters spelled out (`\\x1b`, `\\u202e`); lines stay lines."""
    if text.isprintable():
        return text
    return "".join(
        char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def one_line(text: str) -> str:
    """Make a text `harmless`, with line breaks spelled out too."""
    return harmless(text).replace("\n", "\\n")


def in_words(word: str) -> str:
    """A state as JSON and metrics call it, such as RestartPending, for people."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", word).lower()
