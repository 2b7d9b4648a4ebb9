"""The references between resources, as text that draws a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmstate.kind import references
from kvmstate.kinds import BY_WORD, policies
from kvmstate.model.printable import one_line
from kvmstate.model.resource import Resource, ResourceId
from kvmstate.views.formats import Output
from kvmstate.views.formats.markdown import framed


def _edges(resources: Iterable[Resource]) -> Iterator[tuple[ResourceId, ResourceId]]:
    seen = set()
    resources = list(resources)
    declared = {resource.id for resource in resources}
    selected = {
        policy.resource.id: [each.id for each in resources if policy.selects(each)] for policy in policies(resources)
    }
    for resource in resources:
        targets = [
            ref.target
            for ref in references(resource.spec)
            if ref.target in declared or not BY_WORD[ref.target.kind].of_host
        ]
        for target in [*targets, *selected.get(resource.id, ())]:
            if (edge := (resource.id, target)) not in seen:
                seen.add(edge)
                yield edge


def _nodes(resources: Iterable[Resource]) -> list[ResourceId]:
    """Also those that are only referred to: they are on the host."""
    resources = list(resources)
    return sorted({r.id for r in resources} | {target for _, target in _edges(resources)})


def output(resources: Iterable[Resource]) -> Output:
    """The references as text, as data, and as a picture that GitHub and GitLab draw."""
    resources = list(resources)
    edges = list(_edges(resources))
    return Output(
        lambda: {
            "format_version": "1.0",
            "resources": [str(id_) for id_ in _nodes(resources)],
            "references": [{"from": str(a), "to": str(b)} for a, b in edges],
        },
        lambda: "\n".join(one_line(f"{a} -> {b}") for a, b in edges),
        lambda: framed(mermaid(resources), "mermaid"),
    )


def dot(resources: Iterable[Resource]) -> str:
    """https://graphviz.org/doc/info/lang.html"""
    resources = list(resources)

    def quoted(id_: ResourceId) -> str:
        return '"' + one_line(str(id_)).replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = ["digraph kvmstate {", "  rankdir=LR"]
    lines += [f"  {quoted(id_)} [shape={BY_WORD[id_.kind].shape}]" for id_ in _nodes(resources)]
    lines += [f"  {quoted(a)} -> {quoted(b)}" for a, b in _edges(resources)]
    return "\n".join([*lines, "}"])


def mermaid(resources: Iterable[Resource]) -> str:
    """https://mermaid.js.org/syntax/flowchart.html"""
    resources = list(resources)
    nodes = _nodes(resources)
    number = {id_: f"n{i}" for i, id_ in enumerate(nodes)}

    def label(id_: ResourceId) -> str:
        left, right = BY_WORD[id_.kind].brackets
        return left + html_quoted(str(id_)) + right

    lines = ["flowchart LR", *(f"  {number[id_]}{label(id_)}" for id_ in nodes)]
    return "\n".join([*lines, *(f"  {number[a]} --> {number[b]}" for a, b in _edges(resources))])


def html_quoted(text: str) -> str:
    """A text of Mermaid, which is HTML there: https://mermaid.js.org/syntax/flowchart.html"""
    for plain, code in (("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(plain, code)
    return f'"{one_line(text)}"'
