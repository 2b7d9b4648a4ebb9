"""Documents that yield others: one of a kind that expands stands for resources which are written nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from pydantic import ValidationError

from kvmstate.kind import Unclear
from kvmstate.kinds import BY_WORD
from kvmstate.manifest.document import check_ignored
from kvmstate.manifest.inlined import inlined
from kvmstate.manifest.manifests import Document, Loaded, Part
from kvmstate.manifest.nodes import Node
from kvmstate.manifest.reach import Reach
from kvmstate.manifest.translate import Report, spell
from kvmstate.model.resource import Origin

# Of one document
MOST = 10_000


def apart(item: Loaded, project: str, report: Report, reach: Reach | None) -> tuple[Loaded, list[Loaded]]:
    """A document's resource without others that its spec declares, and these, each at its place in the document."""
    inlined(item, reach, report)
    try:
        spec, inner = item.resource.spec.apart(item.resource, project)
    except Unclear as error:
        fault = error.fault
        report(fault.message, *item.place(fault.path), fault.hint, spell(("spec", *fault.path)))
        return item, []
    if not inner:
        return item, []
    found = []
    for path, resource in inner:
        if resource.lifecycle.ignore_changes:
            node = item.document.node
            for step in ("spec", *path):
                node = node.get(step) or node
            check_ignored(node, BY_WORD[resource.id.kind], resource.spec, resource.lifecycle, report)
        found.append(Loaded(resource, Part(item.document, path), item.source))
    return replace(item, resource=replace(item.resource, spec=spec)), found


def expanded(item: Loaded, project: str, report: Report, reach: Reach | None) -> Iterator[Loaded]:
    """A document's resource, and those that it yields. Their place is the document: nothing in it is a field of
    theirs."""
    item, inner = apart(item, project, report, reach)
    yield item
    yield from inner
    by, at = item.resource, item.document
    expand = BY_WORD[by.id.kind].expand
    if expand is None:
        return
    try:
        yielded = list(islice(expand(by), MOST + 1))
    except ValidationError as errors:
        for found in errors.errors(include_url=False):
            message = found["msg"].removeprefix("Value error, ")
            report(f"what {by.id} yields is not valid: {message}", at.line, at.column, "", spell(found["loc"]))
        return
    except ValueError as error:
        report(f"{by.id} yields nothing: {error}", at.line, at.column)
        return
    if len(yielded) > MOST:
        report(f"{by.id} yields more than {MOST:,} resources", at.line, at.column)
        return
    here = Origin(item.source.label, at.line, str(by.id))
    for each in yielded:
        if BY_WORD[each.id.kind].expand:
            # else who reads the document would have to follow several
            report(f"{by.id} yields {each.id}, which would yield others", at.line, at.column)
        else:
            yield Loaded(
                replace(each, origin=here), Document.of(Node(None, at.line, at.column), item.source), item.source
            )
