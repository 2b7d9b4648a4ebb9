"""`kvmstate transfer`: have another project own what this one owns."""

from __future__ import annotations

from pathlib import Path

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.options import complete_addresses, connect_option, env_option, folder_option, inputs, name_given
from kvmstate.cli.session import UNNAMED, claim_options, lock_option
from kvmstate.errors import UsageError
from kvmstate.views.formats import Format


@click.command("transfer")
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1, shell_complete=complete_addresses)
@click.option("--to", "target", metavar="PROJECT", required=True, callback=name_given, help="Who owns them then.")
@click.option("--from", "source", metavar="PROJECT", callback=name_given, help="Default: that of kvmstate.yaml.")
@click.option("--all", "every", is_flag=True, help="Everything that the project owns, as when it is renamed.")
@folder_option
@env_option
@connect_option
@claim_options
@lock_option
@format_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def command(
    addresses: tuple[str, ...],
    target: str,
    source: str | None,
    every: bool,
    folder: Path,
    env: str | None,
    connect: str | None,
    take_ownership: bool,
    change_environment: bool,
    lock_timeout: int,
    auto_approve: bool,
    fmt: Format,
) -> int:
    """Give resources to another project on the same host.

    Addresses are as plans write them (domain/web-1, 'volume/images/*'). Only the records of who owns what change, and
    the stamp in the <metadata> of machines and networks, while they run or not. Move their manifests to the other
    project as well.
    """
    if every == bool(addresses):
        raise UsageError("say what to hand over", "--all, or addresses such as domain/web-1 and 'volume/images/*'")
    project = inputs((folder,), env).project()
    if not project.named and source is None:
        raise UsageError("nothing says which project owns them: there is no kvmstate.yaml", f"say --from; or {UNNAMED}")
    owner = source or project.name
    if owner == target:
        raise UsageError(f"project {target} is where they are already", "name another one with --to")
    from kvmstate.app import both_writable
    from kvmstate.apply import marks
    from kvmstate.apply.transfer import stamp, transfer
    from kvmstate.cli.approve import approve
    from kvmstate.cli.session import writing
    from kvmstate.host import open_host
    from kvmstate.plan.select import matching

    claim = project.claim(take_ownership, change_environment)
    with (
        open_host(connect or project.connection) as host,
        telling(fmt) as tell,
        both_writable(host, owner, target, writing(lock_timeout, False), claim) as (giving, taking),
    ):
        known = taking.inventory.entries
        # handed over before, by a run that was cut off: they may lack their stamps
        done = {id_ for address in addresses for id_ in matching(known, address)}
        left = [a for a in addresses if matching(giving.inventory.entries, a) or not matching(known, a)]
        entries = list(giving.inventory.entries.values()) if every else marks.owned(giving, left)
        orphans = [*giving.inventory.orphans.values()] if every else []
        if every and not entries and not orphans:
            raise UsageError(f"project {owner} owns nothing on this host")
        for entry in (*entries, *orphans):
            stays = "   (released before; it stays on the host)" if entry.orphaned else ""
            tell(f"  {entry.id}: {owner} -> {target}{stays}", address=str(entry.id), owner=target)
        if (entries or orphans) and not auto_approve:
            approve(f"Do you want project {target} to own these on {host.uri}?", fmt)
        transfer(giving, taking, entries, orphans)
        stamp(host, [*entries, *(known[id_] for id_ in sorted(done))], taking)
        tell(f"\n{len(entries)} handed over: they are to be declared in the manifests of {target} now.")
    return 0
