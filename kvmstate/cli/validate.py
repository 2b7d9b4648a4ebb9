"""`kvmstate validate`: are the manifests right? Talks to no host unless one is named."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.options import Inputs, Loaded, connect_option, inputs, values_options
from kvmstate.cli.session import no_manifests, warn
from kvmstate.errors import ManifestErrors, UsageError
from kvmstate.model.printable import harmless
from kvmstate.views.formats import Format, Output

if TYPE_CHECKING:
    from kvmstate.manifest import Manifests

FORMAT_VERSION = "1.0"


@click.command("validate")
@values_options
@connect_option
@format_option
def command(fmt: Format, **options: Any) -> int:
    """Check manifests: syntax, fields, values and references.

    All errors are reported at once.

    PATH is a file, a folder, or - for standard input. Default: what kvmstate.yaml says. With -c, what the manifests
    refer to and do not declare must be on that host; without, no host is talked to.
    """
    given = inputs(**options)
    try:
        loaded = given.load()
        if given.connect and loaded.manifests.dangling:
            from kvmstate.app import check_references_on

            check_references_on(given.connect, loaded.manifests.resources, loaded.manifests.place)
            loaded = dataclasses.replace(loaded, manifests=dataclasses.replace(loaded.manifests, dangling=()))
    except ManifestErrors as errors:
        return _refused(errors, fmt)
    if loaded.manifests.empty:
        raise UsageError(*no_manifests(loaded.manifests.empty, "see `manifests` in kvmstate.yaml"))
    if not fmt.structured:
        warn(loaded.manifests.warnings)
        for text in notes(loaded.manifests):
            click.echo(harmless(f"note: {text}"), err=True)
    text = harmless(f"{_where(given, loaded)}: {summary(loaded.manifests)}")
    show(fmt, Output(lambda: _data(loaded.manifests, None), lambda: text))
    return 0


def notes(manifests: Manifests) -> list[str]:
    """References to what is not declared: an error only when the host does not have it either. Selectors of nothing."""
    from kvmstate.kinds import BY_WORD

    found = []
    for resource, reference in manifests.dangling:
        file, line, column = manifests.at(resource.id, reference.path)
        message = f"{reference.target} is not in these manifests; it must be on the host"
        found.append(f"{file}:{line}:{column}: {resource.named(message)}")
    for policy in (each for each in manifests.resources if BY_WORD[each.id.kind].is_policy):
        if not any(map(policy.spec.selects, manifests.resources)):
            file, line, column = manifests.at(policy.id, ("selector",))
            found.append(f"{file}:{line}:{column}: {policy.id} selects nothing that is in these manifests")
    return found


def summary(manifests: Manifests) -> str:
    from kvmstate.kinds import ALL_KINDS

    counts = Counter(resource.id.kind for resource in manifests.resources)
    parts = ", ".join(f"{counts[kind.word]} {kind.name}" for kind in ALL_KINDS if counts[kind.word])
    total = len(manifests.resources)
    return f"{total} resource{'' if total == 1 else 's'} valid" + (f" ({parts})" if parts else "")


def _refused(errors: ManifestErrors, fmt: Format) -> int:
    if fmt.structured:
        show(fmt, Output(lambda: _data(None, errors), lambda: ""))
        return 1
    click.echo(harmless(str(errors)), err=True)
    count = len(errors.problems)
    click.echo(f"{count} problem{'' if count == 1 else 's'}", err=True)
    return 1


def _where(given: Inputs, loaded: Loaded) -> str:
    return " ".join(map(str, given.paths or loaded.project.paths))


def _data(manifests: Manifests | None, errors: ManifestErrors | None) -> object:
    resources = manifests.resources if manifests else ()
    return {
        "format_version": FORMAT_VERSION,
        "valid": errors is None,
        "error_count": len(errors.problems) if errors else 0,
        "resources": [{"address": str(r.id), "file": r.origin.file, "line": r.origin.line} for r in resources],
        "diagnostics": [
            *({"severity": "error", **dataclasses.asdict(p)} for p in (errors.problems if errors else ())),
            *({"severity": "warning", "message": text} for text in (manifests.warnings if manifests else ())),
            *({"severity": "note", "message": text} for text in (notes(manifests) if manifests else ())),
        ],
    }
