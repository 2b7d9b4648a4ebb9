"""`kvmstate completion`: the script that has a shell complete commands, options and addresses."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the script for tab completion in a shell.

    \b
    bash, in ~/.bashrc:      eval "$(kvmstate completion bash)"
    zsh, in ~/.zshrc:        eval "$(kvmstate completion zsh)"
    fish, in config.fish: kvmstate completion fish | source
    """
    from kvmstate.cli import cli

    made = get_completion_class(shell)
    assert made
    click.echo(made(cli, {}, "kvmstate", "_KVMSTATE_COMPLETE").source())
    return 0
