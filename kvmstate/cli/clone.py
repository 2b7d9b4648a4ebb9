"""`kvmstate clone`: the manifest of a machine that begins as a copy of another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from kvmstate.cli.formats import format_option, telling
from kvmstate.cli.options import complete_addresses, inputs, values_options
from kvmstate.errors import UsageError
from kvmstate.views.formats import Format


@click.command("clone")
@click.argument("machine", metavar="VM", shell_complete=complete_addresses)
@click.argument("new", metavar="NEW")
@values_options
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Default: NEW.yaml beside VM's manifest."
)
@click.option(
    "--sysprep/--no-sysprep", default=True, help="Whether virt-sysprep gives the copy an identity of its own."
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@format_option
def command(machine: str, new: str, output: Path | None, sysprep: bool, force: bool, fmt: Format, **given: Any) -> int:
    """Write the manifest of a copy of a virtual machine.

    `kvmstate apply` makes it: its disks are full copies of VM's, also while VM runs, as each is at one moment. The copy
    has MAC addresses, a UUID, a host name, firmware variables and a TPM of its own; with virt-sysprep also a machine-id
    and SSH host keys. VM is one of the manifests; `kvmstate import` writes those of others.
    """
    from kvmstate.manifest import suggest
    from kvmstate.manifest.write import document
    from kvmstate.model.printable import harmless

    manifests = inputs(**given).load().manifests
    machines = {r.metadata.name: r for r in manifests.resources if type(r.spec).twin is not _none()}
    name = machine.rpartition("/")[2]
    if (resource := machines.get(name)) is None:
        said = suggest.hint(name, machines, "virtual machines")
        raise UsageError(f"no manifest declares virtual machine {name}", said or f"kvmstate import domain/{name}")
    if new in machines or "/" in new:
        raise UsageError(f"{new} is declared already" if new in machines else f"{new} is not a name", "choose another")
    if output is None and not Path(resource.origin.file).is_file():
        raise UsageError(f"{resource.id} is not from a file", "say where the new one is written: -o FILE")
    data = manifests.documents[resource.id].data
    formats = {r.id.name: r.spec.content_format() or "" for r in manifests.resources}
    own = data["spec"] if resource.own is None else resource.own
    spec, notes = resource.spec.twin(own, new, formats, sysprep)
    metadata = {**data["metadata"], "name": new}
    text = document({**data, "metadata": metadata, "spec": spec})
    path = output or Path(resource.origin.file).with_name(f"{new}.yaml")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            if Path(resource.origin.file).is_file():
                # it says what the other one says, which may be secrets
                os.chmod(path, os.stat(resource.origin.file).st_mode & 0o777)
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already", "-o FILE writes another, --force overwrites it") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    with telling(fmt) as tell:
        tell(harmless(f"wrote {path}"), file=str(path))
        for note in notes:
            tell(harmless(f"note: {note}"), note=note)
    return 0


def _none() -> Any:
    from kvmstate.kind import Declaration

    return Declaration.twin
