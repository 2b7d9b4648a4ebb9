"""A host's networks as a picture: who is plugged in where."""

from __future__ import annotations

from kvmstate.host.topology import Node, Topology
from kvmstate.model.printable import one_line
from kvmstate.views.formats import Output
from kvmstate.views.formats.markdown import framed
from kvmstate.views.graph import html_quoted

SHAPES = {"host": "box3d", "device": "component", "bridge": "hexagon", "network": "ellipse", "machine": "box"}
BRACKETS = {"host": ("[[", "]]"), "device": ("[/", "/]"), "bridge": ("{{", "}}"), "network": ("([", "])")}


def output(found: Topology) -> Output:
    """The picture as text, as data, and as one that GitHub and GitLab draw."""
    return Output(
        lambda: {
            "format_version": "1.0",
            "nodes": [
                {"kind": node.kind, "name": node.name, "about": about, "active": node not in found.idle}
                for node, about in found.nodes.items()
            ],
            "edges": [
                {"from": one._asdict(), "to": other._asdict(), "about": about} for one, other, about in found.edges
            ],
        },
        lambda: "\n".join(_line(*edge) for edge in found.edges),
        lambda: framed(mermaid(found), "mermaid"),
    )


def _line(one: Node, other: Node, about: str) -> str:
    return one_line(f"{one.kind}/{one.name} -> {other.kind}/{other.name}{f' ({about})' if about else ''}")


def dot(found: Topology) -> str:
    """https://graphviz.org/doc/info/lang.html"""

    def quoted(*lines: str) -> str:
        escaped = (one_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines if line)
        return '"' + "\\n".join(escaped) + '"'

    lines = ["digraph networks {", "  rankdir=LR"]
    for node, about in found.nodes.items():
        style = " style=dashed" if node in found.idle else ""
        label = quoted(f"{node.kind} {node.name}", about)
        lines.append(f"  {quoted('/'.join(node))} [label={label} shape={SHAPES[node.kind]}{style}]")
    for one, other, about in found.edges:
        label = f" [label={quoted(about)}]" if about else ""
        lines.append(f"  {quoted('/'.join(one))} -> {quoted('/'.join(other))}{label}")
    return "\n".join([*lines, "}"])


def mermaid(found: Topology) -> str:
    """https://mermaid.js.org/syntax/flowchart.html"""
    number = {node: f"n{i}" for i, node in enumerate(found.nodes)}

    lines = ["flowchart LR"]
    for node, about in found.nodes.items():
        left, right = BRACKETS.get(node.kind, ("[", "]"))
        text = f"{node.kind} {node.name}{f': {about}' if about else ''}"
        lines.append(f"  {number[node]}{left}{html_quoted(text)}{right}")
    for one, other, about in found.edges:
        lines.append(f"  {number[one]} -->{f'|{html_quoted(about)}|' if about else ''} {number[other]}")
    lines += [f"  style {number[node]} stroke-dasharray: 5 5" for node in found.nodes if node in found.idle]
    return "\n".join(lines)
