"""`kvmstate schema`: the JSON Schema that editors check manifests with."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kvmstate.errors import UsageError

FILES = {"kvmstate.schema.json": "manifest", "project.schema.json": "project"}


@click.command("schema")
@click.option("--project", is_flag=True, help="The schema of kvmstate.yaml instead.")
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write both schemas into this folder.",
)
def command(project: bool, output: Path | None) -> None:
    """Print the JSON Schema of manifests, for editors.

    Editors with a YAML language server take it from the first line of a manifest:
    # yaml-language-server: $schema=schemas/kvmstate.schema.json
    """
    if output is None:
        click.echo(text("project" if project else "manifest"), nl=False)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, which in FILES.items():
            (output / name).write_text(text(which), encoding="utf-8")
            click.echo(output / name)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None


def text(which: str) -> str:
    """The schema of `manifest` or `project`, as its file has it."""
    from kvmstate.manifest.schema import manifest_schema, project_schema

    schema = manifest_schema() if which == "manifest" else project_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
