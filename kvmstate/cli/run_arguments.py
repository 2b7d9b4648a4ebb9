"""What `kvmstate run` is given, to be written into a unit: by run's own options, so that none is declared twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from kvmstate.cli.options import SecretFile
from kvmstate.cli.run_ import command as run
from kvmstate.errors import UsageError
from kvmstate.service.units import Argument, Secret


def arguments(words: Sequence[str], checked: bool) -> list[Argument]:
    """The words, with absolute paths. Those that run does not know are refused; with `checked`, what it would refuse
    too, such as files that are not there. Raises UsageError, and click's."""
    said, _, order = run.make_parser(click.Context(run, info_name="run")).parse_args(list(words))
    given = {each.name: list(_words(each, said[each.name or ""])) for each in dict.fromkeys(order)}
    if given.get("git_url") and given.get("paths"):
        raise UsageError("manifests come either from a folder or from --git", "--path is a folder in the repository")
    if checked:
        run.make_context("run", list(words))
    return [word for found in given.values() for word in found]


def _words(parameter: click.Parameter, said: object) -> Iterator[Argument]:
    option = isinstance(parameter, click.Option)
    for each in said if isinstance(said, (list, tuple)) else [said]:
        if option:
            yield max(parameter.opts if each is not False else parameter.secondary_opts, key=len)
        # what a flag, or a positional argument that is not there, stands for is not text
        if isinstance(each, str):
            yield _word(parameter, each)


def _word(parameter: click.Parameter, text: str) -> Argument:
    if isinstance(parameter.type, SecretFile):
        return Secret(max(parameter.opts, key=len).strip("-"), Path(os.path.abspath(text)))
    if isinstance(parameter.type, click.Path) or (parameter.name == "git_url" and os.path.isdir(text)):
        return Path(os.path.abspath(text))
    return text
