"""What --help says of all commands, as data: for the manual page and the documentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Entry:
    """An option, or an argument, and what is said of it."""

    name: str
    text: str


@dataclass(frozen=True)
class Page:
    """A command. `text` is its help without the first sentence, in paragraphs; those that begin with \\b stand as they
    are."""

    name: str
    usage: str
    summary: str
    text: str
    options: tuple[Entry, ...]


def pages(command: click.Command, path: str = "kvmstate", parent: click.Context | None = None) -> Iterator[Page]:
    """This command, then all below it, as --help lists them."""
    context = click.Context(command, parent, info_name=path.rpartition(" ")[2])
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    records = (option.get_help_record(context) for option in command.get_params(context))
    options = tuple(Entry(*record) for record in records if record and record[1] and "--help" not in record[0])
    said = inspect.cleandoc(command.help or "")
    yield Page(path, usage, command.get_short_help_str(1000), said, options)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if below := command.get_command(context, name):
                yield from pages(below, f"{path} {name}", context)
