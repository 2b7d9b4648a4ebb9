"""`kvmstate graph`: what refers to what."""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.options import inputs, manifest_options


@click.command("graph")
@manifest_options
@click.option("--format", "as_format", type=click.Choice(["dot", "mermaid"]), default="dot", show_default=True)
def command(as_format: str, **given: Any) -> int:
    """Draw the references between resources, for Graphviz (DOT) or Mermaid. Talks to no host."""
    from kvmstate.views import graph

    resources = inputs(**given).load().manifests.resources
    click.echo(graph.mermaid(resources) if as_format == "mermaid" else graph.dot(resources))
    return 0
