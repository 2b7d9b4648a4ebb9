"""`kvmstate graph`: what refers to what."""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.formats import formats, show
from kvmstate.cli.options import inputs, values_options
from kvmstate.views.formats import Format


@click.command("graph")
@values_options
@formats("dot", "mermaid", default="dot")
def command(fmt: Format, **given: Any) -> int:
    """Draw the references between resources.

    The default is DOT, for Graphviz. No host is needed."""
    from kvmstate.views import graph

    resources = inputs(**given).load().manifests.resources
    drawn = {"dot": graph.dot, "mermaid": graph.mermaid}.get(fmt.name)
    if drawn:
        click.echo(drawn(resources))
    else:
        show(fmt, graph.output(resources))
    return 0
