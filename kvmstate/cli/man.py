"""`kvmstate man`: the manual page, from what --help says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from kvmstate import __version__
from kvmstate.cli.reference import Page, pages


@click.command("man")
def command() -> int:
    """Print the manual page, kvmstate(1): kvmstate man | man -l -"""
    from kvmstate.cli import cli

    click.echo("\n".join(page(*pages(cli))))
    return 0


def page(top: Page, *commands: Page) -> Iterator[str]:
    """The lines of the page; see groff_man(7)."""
    yield f'.TH KVMSTATE 1 "" "kvmstate {__version__}"'
    yield from (".SH NAME", f"kvmstate \\- {_text(top.summary)}", ".SH SYNOPSIS", ".B kvmstate")
    yield from (r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGS\fR]...", ".SH COMMANDS")
    for command in commands:
        yield from (f".SS {_text(command.usage)}", *_paragraphs(command.text))
        for option in command.options:
            yield from (".TP", rf"\fB{_text(option.name)}\fR", _text(option.text))
    yield from (".SH EXIT STATUS", "0: done. 1: any error. 128 and a signal's number: interrupted by it.")
    yield from (".SH SEE ALSO", r"\fBvirsh\fR(1)")


def _paragraphs(text: str) -> Iterator[str]:
    for index, part in enumerate(text.split("\n\n")):
        if index:
            yield ".PP"
        if part.startswith("\b"):
            yield from (".nf", *map(_text, part.splitlines()[1:]), ".fi")
        else:
            yield _text(" ".join(part.split()))


def _text(text: str) -> str:
    """What means itself to troff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^([.'])", r"\\&\1", escaped)
