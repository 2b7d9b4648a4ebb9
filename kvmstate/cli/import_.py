"""`kvmstate import`: manifests of what exists, and ownership of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli import complain
from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.init import project_name
from kvmstate.cli.options import allowed_here, connect_option
from kvmstate.cli.session import lock_option
from kvmstate.errors import HostError, UsageError
from kvmstate.model.printable import harmless
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.manifest.project import Project
    from kvmstate.model.change import Change
    from kvmstate.model.resource import Resource, ResourceId


@click.command("import")
@click.argument("addresses", metavar="[KIND/NAME]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All that the host has; of volumes, those of active pools.")
@click.option(
    "-o",
    "--output",
    default=".",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Default: here. Of a project's folder, the first folder among its `manifests`.",
)
@click.option("--project", metavar="NAME", help="Default: that of DIR's kvmstate.yaml, or its folder's name.")
@click.option("--no-adopt", is_flag=True, help="Write manifests only; take no ownership.")
@click.option("--force", is_flag=True, help="Overwrite files.")
@connect_option
@lock_option
@format_option
def command(
    addresses: tuple[str, ...],
    every: bool,
    output: Path,
    project: str | None,
    no_adopt: bool,
    force: bool,
    connect: str | None,
    lock_timeout: int,
    fmt: Format,
) -> int:
    """Write manifests of what exists on a host, and own it.

    The next plan is empty.

    Objects are named by kind and name, such as domain/web, network/lan, pool/images or volume/images/web.qcow2. What no
    field of a manifest can say is kept as its remainder. Passwords are never written. Exit 1 when something could not
    be imported; the rest is.
    """
    if every == bool(addresses):
        raise UsageError("say what to import", "--all, or addresses such as domain/web and network/lan")
    from kvmstate.app import Writing, open_session
    from kvmstate.apply.adoption import existing, own
    from kvmstate.manifest import folder
    from kvmstate.manifest.project import find_project, load_project
    from kvmstate.manifest.write import project_file
    from kvmstate.model.identity import Claim
    from kvmstate.model.resource import FOUND

    known = load_project(output, allowed=allowed_here()) if find_project(output) else None
    declared = {resource.id: Path(resource.origin.file) for resource in known.load().resources} if known else {}
    if known and project not in (None, known.name):
        raise UsageError(f"{known.file} is of project {known.name}", "choose another --output, or leave --project out")
    name = known.name if known else project or project_name(output)
    output = _among(known, output) if known else output
    wanted = None if every else [_address(text) for text in addresses]
    writing = None if no_adopt else Writing("import", lock_timeout, lambda text: click.echo(harmless(text), err=True))
    # whichever environment: what is on the host is the same
    claim = None if no_adopt else Claim(known.id if known else "", environment=None)
    uri = connect or (known.connection if known else None)
    with telling(fmt) as tell, open_session(uri, name, (), writing=writing, claim=claim) as session:
        # what is owned already has another kvmstate.yaml, which has no id
        own_id = "" if known or session.store.inventory.entries else str(uuid.uuid4())
        if own_id and session.store.identity:
            session.store.identity = replace(session.store.identity, id=own_id)
        found = existing(session.host, session.store, wanted)
        standing = {
            id_: file for id_, file in declared.items() if not force or not _is(file, output / folder.place(id_))
        }
        if not every and (clash := next((c.id for c in found.changes if c.id in standing), None)):
            raise UsageError(
                f"{clash} is declared in {standing[clash]} already",
                "edit it there; --force writes again what import wrote",
            )
        changes = [c for c in found.changes if c.id not in standing]
        files = folder.layout(c.desired for c in changes if c.desired)
        if not known:
            files[Path("kvmstate.yaml")] = project_file(name, own_id, _for_a_file(session.host.address))
        folder.write(output, files, force)
        for path in files:
            tell(f"wrote {output / path}", file=str(output / path))
        written = _read_back(output, changes)
        # what is recorded is what they say, to the letter; it stays as it was found
        changes = [replace(c, desired=replace(written[c.id], origin=FOUND), spec=written[c.id].spec) for c in changes]
        result = None if no_adopt else own(session.host, session.store, changes)
        for change in changes:
            if change.reason:
                tell(f"note: {change.id}: {change.reason}", address=str(change.id), note=change.reason)
        for id_, error in found.refused.items():
            if fmt.structured:
                tell(f"error: {id_}: {error.message}", address=str(id_), error=error.message, hint=error.hint)
            else:
                complain(HostError(f"{id_}: {error.message}", error.hint))
        tell(f"\nImport complete! Resources: {len(changes)} imported, {len(found.refused)} refused.")
    return 0 if not found.refused and (result is None or result.ok) else 1


def _among(project: Project, output: Path) -> Path:
    """The folder of its manifests that is meant. Raises UsageError where it reads none of what would be written."""
    where, read = output.resolve(), [path.resolve() for path in project.paths]
    if any(path in (where, *where.parents) for path in read):
        return output
    folder = next((path for path in read if not path.is_file()), None)
    if folder and project.file and where == project.file.parent.resolve():
        return output / folder.relative_to(where) if folder.is_relative_to(where) else folder
    raise UsageError(
        f"{output} is not among the manifests of project {project.name}: nothing is imported",
        f"add the folder to `manifests` in {project.file}, or choose another --output",
    )


def _read_back(output: Path, changes: Sequence[Change]) -> dict[ResourceId, Resource]:
    """The resources that were written, as the manifests say them. Raises UsageError where one is not among them: what
    is owned and not in the manifests counts as to be deleted."""
    from kvmstate.manifest.project import load_project

    there = load_project(output, allowed=allowed_here()).load()
    if lost := next((c.id for c in changes if there.get(c.id) is None), None):
        raise UsageError(
            f"its project does not read the manifest of {lost} in {output}: what was written is not owned",
            "look at `manifests` and `exclude` in kvmstate.yaml, then `kvmstate adopt`",
        )
    return {c.id: said for c in changes if (said := there.get(c.id))}


def _for_a_file(uri: str) -> str | None:
    """The connection, when a file may say it."""
    from kvmstate.model.uri import Refused, check

    try:
        return check(uri)
    except Refused:
        click.echo("note: kvmstate.yaml does not say how the host is reached: use -c URI, as here", err=True)
        return None


def _is(file: Path, other: Path) -> bool:
    return file.resolve() == other.resolve()


def _address(text: str) -> Any:
    """Raises UsageError."""
    from kvmstate.kinds import BY_NAME, BY_WORD, ON_HOST
    from kvmstate.model.resource import ResourceId

    kind, _, name = text.partition("/")
    word = BY_NAME[kind].word if kind in BY_NAME else kind
    if word not in BY_WORD or not name or bool(BY_WORD[word].parent) != ("/" in name):
        forms = [kind.address for kind in ON_HOST]
        raise UsageError(f"{text!r} is not an address", f"write {', '.join(forms[:-1])} or {forms[-1]}")
    return ResourceId(word, name)
