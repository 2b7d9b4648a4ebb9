"""`kvmstate template`: versions of templates, and what is cloned from them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from kvmstate.cli.formats import format_option, show
from kvmstate.cli.session import Opened, host_options, lock_option, opened, parallelism_option, quiet_option
from kvmstate.errors import UsageError
from kvmstate.views.formats import Format

if TYPE_CHECKING:
    from kvmstate.plan.versions import Standing


@click.group("template")
def command() -> None:
    """List, build and prune versions of templates.

    What templates are is said by `kvmstate explain Template`."""


def _names(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.removeprefix("template/") for name in names)


NAMES = click.option(
    "--template", "names", multiple=True, metavar="NAME", callback=_names, help="Only this template. Repeatable."
)


@command.command("list")
@host_options
@NAMES
@format_option
def list_(names: tuple[str, ...], fmt: Format, **given: Any) -> int:
    """List versions, and how many clones each has.

    Only the record on the host is read: nothing is compared. PATH... are the manifests.
    """
    return _show(names, fmt, False, **given)


@command.command("tree")
@host_options
@NAMES
@format_option
def tree(names: tuple[str, ...], fmt: Format, **given: Any) -> int:
    """Draw versions, and the volumes that are cloned from each."""
    return _show(names, fmt, True, **given)


@command.command("build")
@host_options
@lock_option
@parallelism_option
@quiet_option
@NAMES
@format_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def build(names: tuple[str, ...], fmt: Format, parallelism: int, quiet: bool, auto_approve: bool, **given: Any) -> int:
    """Build the versions in force, where they are missing.

    Nothing else is changed, but for what they need, such as their pool. `kvmstate apply` builds them as well.
    """
    with opened(**given) as at:
        wanted = [each for each in _chosen(at, names) if each.current]
        return _carry_out(at, wanted, auto_approve, parallelism, fmt, quiet, "Do you want to build these on")


@command.command("prune")
@host_options
@lock_option
@parallelism_option
@quiet_option
@NAMES
@format_option
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
def prune(names: tuple[str, ...], fmt: Format, parallelism: int, quiet: bool, auto_approve: bool, **given: Any) -> int:
    """Delete versions that are not in force and have no linked clones.

    Full clones stand alone, and do not keep them. `kvmstate apply --prune` deletes them as well.
    """
    with opened(**given) as at:
        free = [each for each in _chosen(at, names) if not each.current and each.built and not each.linked]
        # all of them were asked for
        options = replace(at.options, prune=True, max_deletes=sys.maxsize, max_delete_share=1)
        at = replace(at, options=options)
        return _carry_out(at, free, auto_approve, parallelism, fmt, quiet, "Do you want to delete these on")


def _chosen(at: Opened, names: Sequence[str]) -> list[Standing]:
    """Raises UsageError for a name that nothing has."""
    from kvmstate.manifest import suggest
    from kvmstate.plan.versions import standings

    found = standings(at.session.host, at.session.resources, at.session.store.inventory)
    known = sorted({each.template for each in found})
    for name in names:
        if name not in known:
            raise UsageError(f"there is no template {name}", suggest.hint(name, known, "templates"))
    return [each for each in found if not names or each.template in names]


def _show(names: Sequence[str], fmt: Format, drawn: bool, **given: Any) -> int:
    from kvmstate.views import templates

    with opened(**given) as at:
        show(fmt, templates.output(_chosen(at, names), drawn))
    return 0


def _carry_out(
    at: Opened,
    versions: Sequence[Standing],
    auto_approve: bool,
    parallelism: int,
    fmt: Format,
    quiet: bool,
    question: str,
) -> int:
    from kvmstate.cli.approve import carry_out
    from kvmstate.model.plan import Plan

    targets = tuple(str(id_) for each in versions for id_ in each.version.volumes.values())
    at = replace(at, options=replace(at.options, targets=targets))
    # without targets a plan is of everything
    plan = at.session.plan(at.options) if targets else Plan(at.session.store.project, at.session.host.uri, ())
    return carry_out(at, plan, auto_approve, parallelism, f"{question} {plan.host}?", fmt, quiet=quiet)
