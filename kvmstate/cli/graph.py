"""`kvmstate graph`: what refers to what."""

from __future__ import annotations

from typing import Any

import click

from kvmstate.cli.formats import formats, show
from kvmstate.cli.options import connect_option, inputs, values_options
from kvmstate.errors import KvmstateError, UsageError
from kvmstate.views.formats import Format


@click.command("graph")
@values_options
@click.option("--network", is_flag=True, help="Draw the networks of the host: hosts, bridges, networks, machines.")
@connect_option
@formats("dot", "mermaid", "svg", default="dot")
def command(fmt: Format, network: bool, connect: str | None, **given: Any) -> int:
    """Draw references between resources, or a host's networks.

    The default is DOT, for Graphviz; svg is drawn by Graphviz where it is installed. References need no host. With
    --network the host is asked: what is drawn is all that it has, whoever's it is; what does not run is dashed.

        kvmstate graph --network --format svg >networks.svg
    """
    if network:
        from kvmstate.host import open_host
        from kvmstate.host.topology import topology
        from kvmstate.views import topology as drawing

        asked = inputs(**given, connect=connect)
        with open_host(asked.uri(asked.project())) as host:
            found = topology(host)
        drawn = {"dot": drawing.dot, "svg": drawing.dot, "mermaid": drawing.mermaid}.get(fmt.name)
        text, output = drawn(found) if drawn else "", drawing.output(found)
    else:
        from kvmstate.views import graph

        if connect:
            raise UsageError("references are in manifests: no host is asked", "add --network, or leave out --connect")
        resources = inputs(**given).load().manifests.resources
        of_resources = {"dot": graph.dot, "svg": graph.dot, "mermaid": graph.mermaid}.get(fmt.name)
        text, output = of_resources(resources) if of_resources else "", graph.output(resources)
    if text:
        click.echo(_svg(text) if fmt.name == "svg" else text)
    else:
        show(fmt, output)
    return 0


def _svg(text: str) -> str:
    """Raises KvmstateError where Graphviz is not installed, or fails."""
    import subprocess

    hint = "install the package graphviz, or choose --format dot or mermaid, which need nothing"
    try:
        done = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        raise KvmstateError("svg is drawn by Graphviz, which is not installed here", hint) from None
    except subprocess.SubprocessError as error:
        raise KvmstateError(f"Graphviz failed: {error}", "choose --format dot or mermaid") from None
    return done.stdout.decode()
