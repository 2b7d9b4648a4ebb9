"""Which project a host's record is of: names alone are not unique."""

from __future__ import annotations

from dataclasses import dataclass

from kvmstate.errors import PlanError


@dataclass(frozen=True)
class Identity:
    """The `id` of a project's kvmstate.yaml and the environment; either is empty where there is none."""

    id: str = ""
    environment: str = ""


@dataclass(frozen=True)
class Claim:
    """Who a run says that it is, and whether it may take what another one owns. No `environment` (None) stands for the
    one that is recorded."""

    id: str = ""
    environment: str | None = ""
    take_ownership: bool = False
    change_environment: bool = False

    def settled(self, project: str, recorded: Identity | None) -> Identity:
        """What is to be recorded from now on. Raises PlanError when the host's record of what the project owns is
        another one's."""
        known = recorded or Identity(self.id, self.environment or "")
        if known.id and known.id != self.id and not self.take_ownership:
            raise PlanError(*_another(project, known.id, self.id))
        environment = known.environment if self.environment is None else self.environment
        if known.environment != environment and not self.change_environment:
            raise PlanError(*_elsewhere(project, known.environment, environment))
        return Identity(self.id, environment)


def _another(project: str, known: str, mine: str) -> tuple[str, str]:
    if mine:
        return (
            f"what project {project} owns on this host belongs to another project of this name: its id is {known}, and "
            f"that of this kvmstate.yaml {mine}",
            "choose another name; if this one is to own all of it from now on, `kvmstate apply --take-ownership`",
        )
    return (
        f"what project {project} owns on this host belongs to the kvmstate.yaml with the id {known}, and this run has "
        "none with an id",
        f"if it is the same project, write `id: {known}` into its kvmstate.yaml; else choose another name, or, if this "
        "one is to own all of it from now on, `kvmstate apply --take-ownership`",
    )


def _elsewhere(project: str, known: str, mine: str) -> tuple[str, str]:
    named = f"environment {known}" if known else "no environment"
    return (
        f"what project {project} owns on this host was applied with {named}, and this run "
        + (f"is of environment {mine}" if mine else "names none"),
        (f"say --env {known}" if known else "leave --env out")
        + "; a second environment on the same host needs a kvmstate.yaml with a project of its own; if this one is to "
        "take its place, `kvmstate apply --allow-environment-change`",
    )
