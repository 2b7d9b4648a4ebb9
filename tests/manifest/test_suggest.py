"""What is told of a word that nothing is called."""

from __future__ import annotations

from kvmstate.manifest.suggest import hint


def test_of_many_known_words_some_are_told() -> None:
    few, many = ([f"domain/web-{number:03}" for number in range(count)] for count in (150, 400))
    assert hint("?", few, "addresses").endswith("web-148, domain/web-149")
    assert hint("?", many, "addresses").endswith("web-018, domain/web-019, and 380 more")
    assert hint("domain/web-39", many, "addresses").startswith("did you mean domain/web-")
