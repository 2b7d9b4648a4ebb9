"""The command line. A command's module is imported when it is used, so that `--version` and help are quick."""

from __future__ import annotations

import gc
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import click

from kvmstate import __version__
from kvmstate.cli import output
from kvmstate.cli.formats import asked
from kvmstate.errors import KvmstateError, UsageError
from kvmstate.model.printable import harmless, one_line
from kvmstate.views.formats import Output

# As --help lists them. A command is a module of its name, which has `command`; MODULES names the others.
GROUPS = {
    "Start": ("init", "import", "discover", "doctor"),
    "Plan and apply": ("validate", "pin", "plan", "apply", "recreate", "destroy"),
    "Ownership": ("adopt", "transfer", "suspend", "resume", "confirm", "unlock"),
    "Machines": ("vm", "host"),
    "Look": ("status", "inventory", "drift", "graph", "explain"),
    "Daemon": ("run", "service", "events"),
    "Snapshots": ("snapshot",),
    "Templates": ("template", "clone"),
    "Tools": ("sandbox", "schema", "completion", "man"),
}
# a module `run` would hide the function here
MODULES = {"import": "import_:command", "run": "run_:command"} | {
    name: f"marks:{name}" for name in ("suspend", "resume", "confirm")
}
COMMANDS = {name: f"kvmstate.cli.{MODULES.get(name, f'{name}:command')}" for names in GROUPS.values() for name in names}


# Those that do something beside saying it; and of groups those that do not
ACTING = {"pin", "apply", "destroy", "adopt", "import", "run", "service", "unlock", "sandbox", "init"}
ACTING |= {"clone", "suspend", "resume", "confirm", "host"}
# what carries a plan out
STREAMS = ("apply", "destroy", "adopt", "recreate")
LOOKS = {
    "snapshot": ([], ["list"], ["tree"], ["show"]),
    "host": ([], ["interfaces"]),
    "template": ([], ["list"], ["tree"]),
    "vm": ([], ["list"], ["top"], ["wait"], ["display"], ["console"]),
}
# The signal that has interrupted this process; who answers no has interrupted it as well
_signal: int = signal.SIGINT
_NO_MEMORY = re.compile("start new thread|allocate memory|failed to map segment")


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            with formatter.section(title):
                commands = ((name, self.get_command(ctx, name)) for name in names)
                limit = formatter.width - 4 - width
                formatter.write_dl([(n.ljust(width), c.get_short_help_str(limit)) for n, c in commands if c])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            from kvmstate.cli.elsewhere import ELSEWHERE

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            said = ELSEWHERE.get(args[0]) or (f"did you mean {close[0]}?" if close else "")
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
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="kvmstate", message="%(prog)s %(version)s")
def cli() -> None:
    """Declare virtual machines, networks and storage of KVM hosts in YAML, and apply them through libvirt."""


def main(args: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 any error (usage errors too), 128 and a signal's number when that interrupted
    it, or what the command says. What cannot be printed changes that only where printing was all there was to do."""
    output.install()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup(1) has it ignored
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    # a command is over before its garbage matters: looking for it takes a sixth of a large plan's time, and taking
    # everything apart at the end a tenth
    gc.disable()
    args = sys.argv[1:] if args is None else args
    code = run(args)
    if why := output.lost():
        complain(KvmstateError(f"the output could not be written: {why}"))
        code = code if acts(args) else 1
    output.lost()
    os._exit(code)


def _without_plugins() -> None:
    """Have pydantic look for no plugins of its own: it would in every package that is installed, and even to be told
    not to it loads the standard library's e-mail, which takes longer than all manifests of a small project."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    nothing = ModuleType("pydantic.plugin._loader")
    nothing.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules.setdefault(nothing.__name__, nothing)


def _interrupted(number: int, frame: object) -> None:
    global _signal
    _signal = number
    once()
    raise KeyboardInterrupt


def once() -> None:
    """From now on a signal ends the process at once: the kernel does it, as Python waits with its own handlers until a
    call into libvirt returns. SIGHUP does not: of a terminal that goes, the shell and the kernel both send one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def acts(args: Sequence[str]) -> bool:
    """Whether a command does something beside saying it."""
    words = [word for word in args if not word.startswith("-")]
    return words[:1] != [] and (words[0] in ACTING or words[1:2] not in LOOKS.get(words[0], [words[1:2]]))


def run(args: list[str] | None = None) -> int:
    """The exit code of a command; errors have been printed."""
    args = sys.argv[1:] if args is None else args
    _without_plugins()
    if _is_stream(args):
        from kvmstate.views.apply_json import say_version

        say_version(asked(args))
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
        return 128 + _signal
    except Exception as error:
        if os.environ.get("KVMSTATE_DEBUG"):
            raise
        complain(_unforeseen(error), args)
        return 1


def _is_stream(args: Sequence[str]) -> bool:
    """Whether it prints one object after the other, not one in all."""
    return args[:1] in [[name] for name in STREAMS] and asked(args).structured


def complain(error: KvmstateError, args: Sequence[str] = ()) -> None:
    """Print an error and its hint to stderr; for programs as diagnostics to stdout, in the shape of the command."""
    if (fmt := asked(args)).structured:
        from kvmstate.views import apply_json, diagnostics

        if _is_stream(args):
            apply_json.say_error(fmt, error)
        else:
            click.echo(fmt.whole(Output(lambda: diagnostics.failed(error), lambda: "")))
        return
    click.echo(click.style("error: ", fg="red", bold=True) + harmless(error.message), err=True, color=colour())
    if error.hint:
        click.echo(f"hint: {harmless(error.hint)}", err=True)


def colour() -> bool | None:
    """False where nobody wants colour (https://no-color.org); else None: where the output is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _unforeseen(error: Exception) -> KvmstateError:
    """What this machine does not allow is named as that; all else is a bug."""
    said = one_line(f"{type(error).__name__}: {error}")
    if isinstance(error, MemoryError) or (isinstance(error, ImportError | RuntimeError) and _NO_MEMORY.search(said)):
        return KvmstateError("this process may not have as much memory as it needs", "see `ulimit -v`, MemoryMax=")
    if isinstance(error, OSError) and error.errno:
        try:
            os.getcwd()
        except OSError:
            return UsageError("the current folder has been deleted", "go to one that exists, and name paths from /")
        where = f"{one_line(str(error.filename))}: " if error.filename else ""
        return KvmstateError(f"{where}{error.strerror}", "KVMSTATE_DEBUG=1 shows where it happened")
    hint = "KVMSTATE_DEBUG=1 shows where it happened"
    return KvmstateError(f"this is a bug in kvmstate, please report it: {said}", hint)
