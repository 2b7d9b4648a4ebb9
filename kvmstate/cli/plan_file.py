"""Saved plans as files: told from manifests by what is in them, and for their owner's eyes only."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from kvmstate.cli.options import allowed_here, inputs
from kvmstate.errors import PlanError, UsageError

if TYPE_CHECKING:
    from kvmstate.manifest.reach import Reach
    from kvmstate.model.resource import Resource
    from kvmstate.plan.saved import SavedPlan

# What `apply FILE` takes beside FILE: nothing that would make it another plan. Of one with secrets it takes what says
# where they are, too.
_TAKES = {"paths", "connect", "allowed", "lock_timeout", "parallelism", "fmt", "auto_approve", "quiet"}
_FINDS_SECRETS = ("env", "values", "set_values", "confined", "secrets", "secrets_files")


@dataclass(frozen=True)
class Found:
    """A saved plan, and what reads the manifests that have its secrets (raises ManifestErrors, PlanError)."""

    plan: SavedPlan
    manifests: Callable[[], Sequence[Resource]]


def check_out(path: Path) -> None:
    """Check that a plan may be saved here. Raises UsageError when the file must not be written: it is something else
    than an old plan."""
    if path.exists() and not (path.is_file() and _is_plan(path)):
        raise UsageError(f"{path} exists and is not a saved plan", "choose another file: it would be overwritten")


def write(path: Path, content: dict[str, object]) -> None:
    """In one go, readable by its owner only. Raises UsageError when it cannot be written."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(content, file)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def find(paths: Sequence[Path], allowed: Sequence[Path] = (), **given: Any) -> Found | None:
    """The saved plan among these, if there is one. Where it has secrets, the others are its manifests, by default those
    of this folder's project.

    The files that it uploads lie in this project's folder, beside the plan, or in what is `allowed`. Raises PlanError
    when it cannot be used, UsageError beside manifests or options that it does not need.
    """
    plan = next((path for path in paths if path.is_file() and _is_plan(path)), None)
    if plan is None:
        return None
    from kvmstate.manifest.project import find_project, load_project
    from kvmstate.manifest.reach import Reach
    from kvmstate.manifest.sources import working_folder
    from kvmstate.plan.saved import read

    found = read(plan.read_text(encoding="utf-8", errors="replace"), str(plan))
    others = [path for path in paths if path != plan]
    _check_options(plan, others, found.has_secrets)
    allowed = (*allowed, *allowed_here())
    here = [Path(".")] if working_folder() else []
    file = find_project(here[0]) if here else None
    _check_files(found, Reach.of([*([file.parent] if file else here), plan.parent, *allowed]))
    if file and not others and (name := load_project(Path("."), allowed=allowed).name) != found.project:
        raise PlanError(
            f"{plan} is a plan of project {found.project}, and this folder belongs to project {name}",
            f"if that is meant, apply it in a folder of project {found.project}, or of none",
        )

    def manifests() -> Sequence[Resource]:
        if not (others or file):
            return ()
        asked = {name: given[name] for name in _FINDS_SECRETS if name in given}
        loaded = inputs(tuple(others), allowed=allowed, **asked).load(valued=True)
        if loaded.project.named and loaded.project.name != found.project:
            raise PlanError(
                f"{plan} is a plan of project {found.project}, and the manifests are those of {loaded.project.name}",
                "give those that it was made from",
            )
        return loaded.manifests.resources

    return Found(found, manifests)


def _check_options(plan: Path, others: Sequence[Path], has_secrets: bool) -> None:
    """Raises UsageError for what would make it another plan."""
    context, takes = click.get_current_context(), {*_TAKES, *(_FINDS_SECRETS if has_secrets else ())}
    given = [name for name in context.params if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    options = [p.opts[0] for p in context.command.params if p.name in given and p.name not in takes]
    if options or (others and not has_secrets):
        said = ", ".join(options) or "other manifests"
        raise UsageError(f"{plan} is a saved plan: it takes no {said}", "say that when the plan is made")


def _check_files(plan: SavedPlan, reach: Reach) -> None:
    """Raises PlanError."""
    from kvmstate.manifest.reach import HINT
    from kvmstate.manifest.references import local_files

    for resource in plan.resources:
        for path in local_files(resource.spec):
            if why := reach.refused(path):
                raise PlanError(f"{resource.id} is uploaded from {path}: {why}", HINT)


def _is_plan(path: Path) -> bool:
    from kvmstate.plan.saved import is_saved

    try:
        with path.open("rb") as file:
            return is_saved(file.read(200).decode(errors="replace"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
