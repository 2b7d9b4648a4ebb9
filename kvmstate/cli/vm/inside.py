"""`kvmstate vm exec` and `copy`: programs and files in a guest, by its agent."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.session import seconds
from kvmstate.cli.vm.options import machine_options, opened_one, place_options
from kvmstate.errors import HostError, UsageError
from kvmstate.model.printable import harmless

if TYPE_CHECKING:
    from kvmstate.host.objects import Domain
    from kvmstate.host.overview import Seen

# What a program may be given on its standard input: it is one message, and a quarter of a MiB does not reach the agent
_INPUT_MAX = 96 << 10


@click.command("exec")
@machine_options
@click.option("--stdin", "-i", is_flag=True, help="Give it the standard input, up to 96 KiB.")
@click.option("--setenv", "-E", "variables", multiple=True, metavar="NAME=VALUE", help="Its environment.")
@click.option(
    "--timeout", metavar="DURATION", default="1h", show_default=True, callback=seconds, help="How long it may take."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(stdin: bool, variables: tuple[str, ...], timeout: int, command: tuple[str, ...], **given: Any) -> int:
    """Run a program in a guest, by its agent.

    \b
        kvmstate vm exec web-1 -- systemctl is-system-running

    No shell is in between, unless COMMAND is one. What it prints comes when it has ended; the exit code is its own.
    """
    given_in = b""
    if stdin:
        given_in = sys.stdin.buffer.read(_INPUT_MAX + 1)
        if len(given_in) > _INPUT_MAX:
            raise UsageError("the standard input is larger than 96 KiB", "`kvmstate vm copy` takes a file of any size")
    with opened_one(**given) as (_, seen):
        domain = _answering(seen)
        from kvmstate.host.agent_files import execute

        done = execute(domain, command, given_in, variables, timeout)
    sys.stdout.flush()
    for stream, data in ((sys.stdout, done.out), (sys.stderr, done.err)):
        stream.buffer.write(data)
        stream.flush()
    if done.cut:
        click.echo("warning: it printed more than the guest agent keeps; the rest is lost", err=True)
    return done.code


@click.command("copy")
@click.argument("source")
@click.argument("target")
@place_options
def copy(source: str, target: str, **given: Any) -> int:
    """Copy a file into a guest or out of it, by its agent.

    \b
        kvmstate vm copy app.conf web-1:/etc/app.conf
        kvmstate vm copy web-1:/var/log/syslog .

    What is written over is gone. - is the standard input or output. Of a copy into a guest, owner and mode are those
    that the agent gives a new file.
    """
    inward, outward = _remote(target), _remote(source)
    if bool(inward) == bool(outward):
        raise UsageError("one of SOURCE and TARGET is in a guest", "such as web-1:/etc/app.conf")
    name, path = inward or outward or ("", "")
    with opened_one(name, **given) as (_, seen):
        domain = _answering(seen)
        count = _into(domain, Path(source), path) if inward else _out_of(domain, path, Path(target))
    if target != "-":
        click.echo(f"{harmless(source)} -> {harmless(target)}: {count} bytes", err=True)
    return 0


def _remote(text: str) -> tuple[str, str] | None:
    """Machine and path of NAME:PATH; a path of this machine with a colon begins with ./ or /."""
    name, colon, path = text.partition(":")
    if not colon or "/" in name:
        return None
    if not path:
        raise UsageError(f"{text}: which file?", f"such as {text}/etc/hostname")
    return name, path


def _into(domain: Domain, source: Path, path: str) -> int:
    from kvmstate.host.agent_files import write_file

    if source.is_dir():
        raise UsageError(f"{source} is a folder", "pack it with tar, copy that, and unpack it with `kvmstate vm exec`")
    path = path + source.name if path.endswith("/") else path
    with ExitStack() as stack:
        file = sys.stdin.buffer if str(source) == "-" else stack.enter_context(open(source, "rb"))
        whole = 0 if str(source) == "-" else os.fstat(file.fileno()).st_size
        return write_file(domain, path, file.read, lambda done: _tell(source.name, done, whole))


def _out_of(domain: Domain, path: str, target: Path) -> int:
    from kvmstate.host.agent_files import read_file

    if target.is_dir():
        target /= path.rpartition("/")[2]
    count = 0
    with ExitStack() as stack:
        parts = read_file(domain, path)
        # a file that cannot be read in the guest makes none here
        first = next(parts, b"")
        file = sys.stdout.buffer if str(target) == "-" else stack.enter_context(open(target, "wb"))
        for part in chain((first,), parts):
            file.write(part)
            count += len(part)
            _tell(path, count, 0)
        file.flush()
    return count


def _tell(name: str, done: int, whole: int) -> None:
    if os.isatty(2):
        share = f" of {whole >> 20} MiB" if whole else ""
        click.echo(f"\r  {harmless(name)}: {done >> 20} MiB{share}\x1b[K\r", err=True, nl=False)


def _answering(seen: Seen) -> Domain:
    """Raises HostError where there is no agent to ask."""
    name = seen.domain.name
    if seen.state != "running":
        raise HostError(f"{name} is {seen.state}", f"kvmstate vm {'unpause' if seen.active else 'start'} {name}")
    from kvmstate.host import agent, domains

    if not agent.is_connected(domains.xml(seen.domain, inactive=False)):
        raise HostError(
            f"the guest agent of {name} has not opened its channel",
            "`guestAgent: true` in its manifest gives it one; qemu-guest-agent must run in the guest",
        )
    return seen.domain
