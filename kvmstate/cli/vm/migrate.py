"""`kvmstate vm migrate`: a machine goes to another host, and with it who owns it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.session import lock_option
from kvmstate.cli.vm.options import machine_options
from kvmstate.errors import HostError, KvmstateError, UsageError
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.model.resource import Resource, ResourceId


@click.command("migrate")
@machine_options
@click.argument("destination", metavar="DESTINATION-URI")
@click.option("--copy-storage", is_flag=True, help="Copy the disks that the other host does not see.")
@click.option("--check", is_flag=True, help="Only tell what would not work.")
@click.option("--undo", is_flag=True, help="Take back a move that was cut off, if it has not moved by then.")
@click.option("--direct", is_flag=True, help="Through this client: the two hosts need not reach each other's libvirtd.")
@click.option("--peer-uri", metavar="URI", default="", help="The destination, as the source's libvirtd reaches it.")
@click.option("--migrate-uri", metavar="URI", default="", help="Where QEMU sends the memory to; see the docs.")
@click.option("--disks-uri", metavar="URI", default="", help="Where disks are copied to, with --copy-storage.")
@click.option("--tls", is_flag=True, help="Encrypt memory and disks on their way between the two QEMU.")
@click.option("--tls-name", metavar="NAME", default="", help="The name in the destination's certificate.")
@click.option("--tunnelled", is_flag=True, help="Send the memory through the two libvirtd's own connection.")
@click.option("--auto-converge", is_flag=True, help="Slow the guest down when it writes more than can be sent.")
@click.option("--post-copy", is_flag=True, help="Have it go on there after one round over its memory.")
@click.option("--bandwidth", metavar="MIB", type=click.IntRange(1), help="The most that is sent, in MiB/s.")
@click.option("--max-downtime", metavar="MS", type=click.IntRange(1), help="The longest pause, in ms.")
@lock_option
@format_option
def migrate(
    name: str,
    destination: str,
    folder: Path,
    env: str | None,
    connect: str | None,
    copy_storage: bool,
    check: bool,
    undo: bool,
    direct: bool,
    peer_uri: str,
    migrate_uri: str,
    disks_uri: str,
    tls: bool,
    tls_name: str,
    tunnelled: bool,
    auto_converge: bool,
    post_copy: bool,
    bandwidth: int | None,
    max_downtime: int | None,
    lock_timeout: int,
    fmt: Format,
) -> int:
    """Move a machine of the project to another host, running or off.

    Its project owns it there afterwards, as before. Ctrl-C cancels, and it stays where it is. After a move that was cut
    off, the same command finishes it or takes it back.
    """
    if check and undo:
        raise UsageError("--check changes nothing, and --undo does", "choose one of them")
    from kvmstate.app import moving
    from kvmstate.cli.options import inputs
    from kvmstate.cli.session import UNNAMED, writing
    from kvmstate.cli.snapshot.options import Progress, say
    from kvmstate.host.migrations import Way
    from kvmstate.migration.move import Move, passes, settled

    name = name.removeprefix("domain/")
    asked = inputs((folder,), env)
    project = asked.project()
    if not project.named:
        raise UsageError("nothing says which project owns it: there is no kvmstate.yaml", f"-C FOLDER; or {UNNAMED}")
    way = Way(
        *(not direct, peer_uri, migrate_uri, disks_uri, tls, tls_name),
        *(tunnelled, auto_converge, post_copy, bandwidth or 0, max_downtime or 0),
    )
    declared: dict[ResourceId, Resource] = {}
    with suppress(KvmstateError):
        # they have the secrets that the record has hashes of; what they say otherwise does not count
        declared = {each.id: each for each in asked.load(project).manifests.resources}
    # what is recorded in the end waits for others, rather than not being recorded
    writes, told = writing(max(lock_timeout, 60), False), Progress()
    hosts = partial(moving, connect or project.connection, destination, project.name, name, writes, project.claim())
    lost: HostError | None = None
    with telling(fmt) as tell:
        with hosts() as sides:
            move = Move(
                *sides, name, way, copy_storage, declared, say, lambda done, whole, what: told(what, done, whole)
            )
            facts: dict[str, object] = {
                "address": str(move.id),
                "source": sides[0].host.uri,
                "target": sides[1].host.uri,
            }
            if check:
                faults = move.faults()
                for fault in faults:
                    tell(f"{fault.message}\n  {fault.hint}", error=fault.message, hint=fault.hint, **facts)
                if not faults:
                    tell(f"nothing stands in the way of moving {move.id}", **facts)
                return 1 if faults else 0
            try:
                moved = move.undo(ending=True) if undo else move.run()
            except HostError as error:
                if not passes(error):
                    raise
                lost = error
        if lost:
            # the connections are closed by now
            moved = settled(move, lost, hosts)
            if moved.stays and not undo:
                raise HostError(
                    f"{move.id} stays on {facts['source']}: the move was cut off", "run the same command again"
                )
        facts["moved"] = not moved.stays
        if moved.stays:
            tell(f"{move.id} stays on {facts['source']}", **facts)
            return 0
        job = moved.job
        if job and job.downtime:
            facts |= {"downtime_ms": job.downtime, "bytes": job.memory + job.disks}
        took = f", after it stood still for {job.downtime} ms" if job and job.downtime else ""
        tell(f"{move.id} is on {facts['target']}{took}", **facts)
        if undo:
            tell(f"it had moved by then: {move.way_back}", **facts)
        for id_ in moved.left:
            tell(f"  {id_} is left on {facts['source']}, as it was then", address=str(id_), left=True)
    return 0
