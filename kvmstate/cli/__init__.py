"""The command line. A command's module is imported when it is used, so that `--version` and help are quick."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from kvmstate import __version__
from kvmstate.errors import KvmstateError, UsageError
from kvmstate.model.printable import harmless, one_line

COMMANDS = {
    name: f"kvmstate.cli.{name}:command"
    for name in (
        "init",
        "validate",
        "plan",
        "apply",
        "destroy",
        "adopt",
        "drift",
        "run",
        "service",
        "status",
        "events",
        "unlock",
        "explain",
        "schema",
        "graph",
        "snapshot",
        "doctor",
        "sandbox",
    )
} | {
    "import": "kvmstate.cli.import_:command",
    "suspend": "kvmstate.cli.marks:suspend",
    "resume": "kvmstate.cli.marks:resume",
    "confirm": "kvmstate.cli.marks:confirm",
}


class LazyGroup(click.Group):
    """Commands by their module's name, imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        target = COMMANDS.get(name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            said = f"did you mean {close[0]}?" if close else ""
            raise UsageError(error.message, said or "kvmstate --help lists the commands") from None
        if command:
            _refuse_repeated(ctx, command, rest)
        return name, command, rest


def _refuse_repeated(parent: click.Context, command: click.Command, args: list[str]) -> None:
    """Raises UsageError for an option of one value that is given twice: click takes the last without a word."""
    with command.context_class(command, parent, command.name, **command.context_settings) as context:
        try:
            _, rest, given = command.make_parser(context).parse_args(list(args))
        except click.UsageError:
            # told when it is parsed for good
            return
        single = [o for o in given if isinstance(o, click.Option) and not (o.multiple or o.is_flag or o.count)]
        for option in single:
            if (times := single.count(option)) > 1:
                raise UsageError(
                    f"{max(option.opts, key=len)} is given {times} times, and takes one value",
                    f"say which one is meant; see {context.command_path} --help",
                )
        if isinstance(command, click.Group) and rest and (below := command.get_command(context, rest[0])):
            _refuse_repeated(context, below, rest[1:])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="kvmstate", message="%(prog)s %(version)s")
def cli() -> None:
    """Virtual machines, networks and storage on KVM hosts, declared in YAML and kept true through libvirt."""


def main(args: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 any error (usage errors too), 130 interrupted, or what the command says."""
    signal.signal(signal.SIGINT, _interrupted)
    # a command is over before its garbage matters: looking for it takes a sixth of a large plan's time, and taking
    # everything apart at the end a tenth
    gc.disable()
    code = run(args)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _interrupted(number: int, frame: object) -> None:
    # the second Ctrl-C is the kernel's: Python waits with its own until a call into libvirt returns
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def run(args: list[str] | None = None) -> int:
    """The exit code of a command; errors have been printed."""
    args = sys.argv[1:] if args is None else args
    if _is_stream(args):
        from kvmstate.views.apply_json import say_version

        say_version()
    try:
        code = cli.main(args, prog_name="kvmstate", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else error.format_message(), err=True)
        return 1
    except click.UsageError as error:
        known = error.ctx.command_path if error.ctx else "kvmstate"
        complain(UsageError(error.format_message(), f"see {known} --help"), args)
        return 1
    except click.ClickException as error:
        complain(UsageError(error.format_message()), args)
        return 1
    except KvmstateError as error:
        complain(error, args)
        return 1
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader has gone; Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        return _bug(error, args)


def _is_stream(args: Sequence[str]) -> bool:
    """Whether JSON comes as one object a line, not as one in all."""
    return args[:1] == ["apply"] and "--json" in args


def complain(error: KvmstateError, args: Sequence[str] = ()) -> None:
    """Print an error and its hint to stderr; with --json as diagnostics to stdout, in the shape of the command."""
    if "--json" in args:
        from kvmstate.views import apply_json, diagnostics

        if _is_stream(args):
            apply_json.say_error(error)
        else:
            click.echo(json.dumps(diagnostics.failed(error), indent=2))
        return
    click.echo(click.style("error: ", fg="red", bold=True) + harmless(error.message), err=True, color=colour())
    if error.hint:
        click.echo(f"hint: {harmless(error.hint)}", err=True)


def colour() -> bool | None:
    """False where nobody wants colour (https://no-color.org); else None: where the output is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _bug(error: Exception, args: Sequence[str]) -> int:
    if os.environ.get("KVMSTATE_DEBUG"):
        raise error
    said = one_line(f"{type(error).__name__}: {error}")
    hint = "KVMSTATE_DEBUG=1 shows where it happened"
    complain(KvmstateError(f"this is a bug in kvmstate, please report it: {said}", hint), args)
    return 1
