"""--format, which every command that prints takes, and --json, which is short for --format json."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol, TypeVar

import click

from kvmstate.errors import UsageError
from kvmstate.model.printable import harmless
from kvmstate.views.formats import FORMATS, TEXT, Format, Output

FORMAT_VERSION = "1.0"
F = TypeVar("F", bound=Callable[..., object])


def format_option(command: F) -> F:
    """The command takes `fmt`, a Format."""
    return formats()(command)


def formats(*more: str, default: str = "text") -> Callable[[F], F]:
    """Add `format_option` for a command that has formats of its own."""
    known = [*more, *FORMATS]

    def chosen(context: click.Context, option: click.Parameter, name: str | None) -> Format:
        short = context.meta.get(__name__)
        if name and short and name != short:
            raise UsageError(f"--format {name} and --{short} are two formats", "choose one of them")
        return Format(name or short or default)

    def decorate(command: F) -> F:
        option = click.option(
            "--format",
            "fmt",
            type=click.Choice(known),
            callback=chosen,
            metavar="FORMAT",
            help=f"What to print: {', '.join(known)}. Default: {default}.",
        )
        return option(short_for("json", "Short for --format json.")(command))

    return decorate


def short_for(name: str, text: str, hidden: bool = False) -> Callable[[F], F]:
    """An option --NAME that means --format NAME; it is looked at before --format."""

    def short(context: click.Context, option: click.Parameter, wanted: bool) -> None:
        if wanted and context.meta.setdefault(__name__, name) != name:
            raise UsageError(f"--{context.meta[__name__]} and --{name} are two formats", "choose one of them")

    return click.option(
        f"--{name}", is_flag=True, is_eager=True, expose_value=False, callback=short, help=text, hidden=hidden
    )


def show(fmt: Format, output: Output) -> None:
    """Print all that a command has to say."""
    from kvmstate.cli import colour

    click.echo(fmt.whole(output), color=colour())


class Tell(Protocol):
    """One thing that was done: the text, and facts of it for programs."""

    def __call__(self, text: str, **facts: object) -> None: ...


@contextmanager
def telling(fmt: Format) -> Iterator[Tell]:
    """For commands that do one thing after another: told at once as text, in other formats all in the end."""
    told: list[tuple[str, dict[str, object]]] = []

    def tell(text: str, **facts: object) -> None:
        told.append((harmless(text), facts))
        if fmt == TEXT:
            click.echo(harmless(text))

    yield tell
    if fmt != TEXT:
        results = [{"message": text.strip(), **facts} for text, facts in told]
        text = "\n".join(text for text, _ in told)
        show(fmt, Output(lambda: {"format_version": FORMAT_VERSION, "results": results}, lambda: text))


def asked(args: Sequence[str]) -> Format:
    """The format that a command line asks for, whether or not it is right otherwise."""
    if list(args[:2]) in (["sandbox", "exec"], ["sandbox", "run"]):
        return TEXT
    words = [*(args[: list(args).index("--")] if "--" in args else args), ""]
    for word, following in pairwise(words):
        name = following if word == "--format" else word.removeprefix("--format=" if "=" in word else "--")
        if name in FORMATS and name != word:
            return Format(name)
    return TEXT
