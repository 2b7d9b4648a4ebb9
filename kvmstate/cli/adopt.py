"""`kvmstate adopt`: take ownership of what exists."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.formats import format_option
from kvmstate.cli.options import split_addresses
from kvmstate.cli.session import claim_options, host_options, lock_option, opened, quiet_option
from kvmstate.errors import UsageError
from kvmstate.model.printable import harmless
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.cli.session import Opened
    from kvmstate.model.change import Change
    from kvmstate.model.plan import Plan


@click.command("adopt")
@host_options
@claim_options
@lock_option
@quiet_option
@format_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def command(auto_approve: bool, quiet: bool, fmt: Format, paths: tuple[Path, ...], **given: Any) -> int:
    """Take ownership of existing objects that the manifests declare.

    Nothing on the host changes but the record of who owns what, and the project's stamp in the <metadata> of machines
    and networks, while they run or not: the next plan shows how they differ. What another project owns stays with it.

    PATH may be an address, such as domain/web-1 or 'volume/images/*': only what these name is adopted then.
    """
    addresses, paths = split_addresses(paths)
    given["prune"] = False  # what leaves is not what this is about
    with opened(repair=True, paths=paths, **given) as at:
        from kvmstate.cli.approve import carry_out

        at.session.host.closely = True
        plan = at.session.plan(at.options)
        found = [change for change in plan.changes if change.action.name == "ADOPT"]
        if addresses:
            found = _chosen(plan, found, addresses)
        adopted = tuple(c if c.owner else dataclasses.replace(c, blocked="", hint="") for c in found)
        plan = dataclasses.replace(plan, changes=adopted)
        question = f"Do you want project {plan.project} to own these?"
        code = carry_out(at, plan, auto_approve, 1, question, fmt, quiet=quiet)
        _identify(at)
        return code


def _identify(at: Opened) -> None:
    """A project whose kvmstate.yaml has no id gets one, there and in the host's record."""
    import uuid

    from kvmstate.manifest.edit import add_id

    project, store = at.project, at.session.store
    if project is None or project.file is None or project.id:
        return
    id_ = str(uuid.uuid4())
    try:
        add_id(project.file, id_)
    except UsageError as error:
        click.echo(harmless(f"warning: {error.message}\nhint: {error.hint}"), err=True)
        return
    click.echo(harmless(f"wrote the project's id into {project.file}"), err=True)
    assert store.identity
    store.identity = dataclasses.replace(store.identity, id=id_)
    store.flush()


def _chosen(plan: Plan, found: list[Change], addresses: tuple[str, ...]) -> list[Change]:
    """Of what can be adopted, what the addresses name. Raises UsageError for an address that names nothing of it."""
    from kvmstate.manifest.suggest import nearest
    from kvmstate.plan.select import matching

    chosen = set()
    for address in addresses:
        named = matching((change.id for change in found), address)
        if not named and (known := matching((change.id for change in plan.changes), address)):
            owned = all(change.observed for change in plan.changes if change.id in known)
            why = f"project {plan.project} owns it already" if owned else "it is not on the host"
            raise UsageError(f"{address} cannot be adopted: {why}", "`kvmstate status` shows what there is")
        if not named:
            guess = nearest(address, (str(change.id) for change in plan.changes))
            raise UsageError(
                f"{address} is not in these manifests",
                f"did you mean {guess}?" if guess else f"`kvmstate import {address}` writes a manifest of it",
            )
        chosen |= named
    return [change for change in found if change.id in chosen]
