"""kvmstate sandbox: throw-away libvirt hosts. On stdout is only what was asked for."""

from __future__ import annotations

from pathlib import Path

import click

from kvmstate import sandbox
from kvmstate.cli.formats import format_option, show
from kvmstate.views.formats import Format, Output
from kvmstate.views.text import aligned

_NAME = click.argument("name", default="default")
_TREE = click.option(
    "--tree",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="KVMSTATE_SANDBOX_TREE",
    help="Root folder of another Debian, whose libvirt and QEMU are used (as root; script/tree makes one).",
)
# options after the first word of the command are the command's
_COMMAND = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.group("sandbox")
def command() -> None:
    """Run throw-away libvirt hosts, for tests and demos.

    A sandbox is private to this machine and user.

    A sandbox has its own network, storage and libvirt daemons. Nothing in it touches the machine's own
    libvirt or leaves the machine, and ending it removes everything. Root is not needed. Guests are
    emulated, without KVM.
    """


@command.command()
@_NAME
@_TREE
def start(name: str, tree: Path | None) -> None:
    """Start the sandbox NAME and print its connection URI.

    It runs until `kvmstate sandbox stop` or the end of the machine:

    \b
        export LIBVIRT_DEFAULT_URI=$(kvmstate sandbox start)
    """
    click.echo(sandbox.start(name, tree).uri)


@command.command()
@_NAME
def stop(name: str) -> None:
    """End the sandbox NAME, with all guests and data in it."""
    sandbox.stop(name)


@command.command("list")
@format_option
def list_(fmt: Format) -> None:
    """List the sandboxes of this user that are running."""
    hosts = sandbox.running()
    rows = [{"name": host.name, "uri": host.uri, "pid": host.pid, "directory": str(host.directory)} for host in hosts]
    lines = aligned([("NAME", "PID", "URI"), *((host.name, str(host.pid), host.uri) for host in hosts)])
    show(fmt, Output(lambda: rows, lambda: "\n".join(lines) if hosts else "No sandbox is running."))


@command.command()
@_NAME
def uri(name: str) -> None:
    """Print the connection URI of the sandbox NAME."""
    click.echo(sandbox.find(name).uri)


@command.command("exec", context_settings=_COMMAND)
@click.option("-n", "--name", default="default", help="The sandbox.", show_default=True)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(context: click.Context, name: str, command: tuple[str, ...]) -> None:
    """Run COMMAND inside a sandbox, as its root.

    The command sees the sandbox's network and processes.

    The exit code is the command's:

    \b
        kvmstate sandbox exec -- virsh net-dhcp-leases lan
    """
    context.exit(sandbox.execute(sandbox.find(name), command))


@command.command(context_settings=_COMMAND)
@_TREE
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(context: click.Context, tree: Path | None, command: tuple[str, ...]) -> None:
    """Run COMMAND with a sandbox of its own, which is gone afterwards.

    The command stays outside and finds the host by LIBVIRT_DEFAULT_URI; the exit code is the command's:

    \b
        kvmstate sandbox run -- pytest tests/real
    """
    context.exit(sandbox.run(command, tree))
