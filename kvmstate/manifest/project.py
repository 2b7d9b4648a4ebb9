"""`kvmstate.yaml`: what manifests have in common: the project's name, the host, values and environments."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, model_validator

from kvmstate.errors import ManifestErrors, Problem, UsageError
from kvmstate.kinds import ALL_KINDS
from kvmstate.manifest.load import load
from kvmstate.manifest.manifests import Manifests
from kvmstate.manifest.reach import Reach
from kvmstate.manifest.sources import PROJECT_FILE, working_folder
from kvmstate.manifest.suggest import hint
from kvmstate.manifest.text import problem
from kvmstate.manifest.translate import validate
from kvmstate.manifest.values import assignments, is_read, meant, merge, read_mapping, unread
from kvmstate.model import uri
from kvmstate.model.identity import Claim
from kvmstate.model.resource import Model, Move, ResourceId
from kvmstate.model.rollout import SHARE_PATTERN, Rollout
from kvmstate.xmlbind import later

if TYPE_CHECKING:
    from kvmstate.manifest.providers import Providers
    from kvmstate.manifest.reconcile import Reconcile
else:
    # what only the daemon needs
    Reconcile = later("kvmstate.manifest.reconcile", "Reconcile")

DEFAULT_NAME = "default"
NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"


def _share_text(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("expected a share such as 50%")
    return value


ProjectName = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        max_length=63,
        description="Who owns what is made: recorded on the host, so that two projects never touch each other's.",
    ),
]
Uri = Annotated[
    Annotated[str, Field(min_length=1), AfterValidator(uri.check)] | None,
    Field(
        description="The libvirt connection URI, such as qemu:///system or qemu+ssh://root@host/system, by unix, ssh "
        "or tls. What names programs, keys or servers' certificates is for -c alone. Default: libvirt's own rule.",
    ),
]
Paths = Annotated[list[Annotated[str, Field(min_length=1)]], Field(description="Relative to this file.")]


class Environment(Model):
    """What differs in one environment (`--env NAME`)."""

    connection: Uri = None
    values: Annotated[Paths, Field(description="Values files, merged over the project's.")] = []
    prune: Annotated[bool | None, Field(description="Instead of the project's.")] = None


Address = Annotated[
    str,
    Field(
        pattern=f"^({'|'.join(sorted(kind.word for kind in ALL_KINDS if kind.on_host or kind.inherited_by))})/.+$",
        description="As plans show it: domain/web-1, volume/images/root.",
    ),
]


class Moved(Model):
    """A resource that has been renamed in the manifests: it is renamed on the host, not created again."""

    old: Annotated[Address, Field(alias="from")]
    new: Annotated[Address, Field(alias="to")]

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.old.partition("/")[0] != self.new.partition("/")[0]:
            raise ValueError(f"{self.old} and {self.new} are of different kinds")
        return self


class ProjectFile(Model):
    """What the manifests of a project have in common."""

    project: ProjectName
    id: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
            max_length=63,
            description="Tells this project from others of its name: a UUID that `kvmstate init` and `adopt` choose. "
            "Recorded on the host; never change it.",
        ),
    ] = None
    connection: Uri = None
    manifests: Annotated[
        Paths, Field(min_length=1, description="Files and folders of manifests, relative to this file.")
    ] = ["."]
    exclude: Annotated[
        Paths, Field(description="Files and folders that are not manifests of this project, relative to this file.")
    ] = []
    values: Annotated[Paths, Field(description="Values files for templates; the later wins.")] = []
    environments: Annotated[dict[str, Environment], Field(description="By name, as `--env` takes them.")] = {}
    prune: Annotated[
        bool, Field(description="Whether apply deletes owned resources that were removed from the manifests.")
    ] = False
    max_delete_share: Annotated[
        str | None,
        BeforeValidator(_share_text),
        Field(
            pattern=SHARE_PATTERN,
            description="How many of the owned resources may be deleted at once by pruning, such as 50%; "
            "one or two resources always may. Default: a third.",
        ),
    ] = None
    moved: Annotated[
        list[Moved],
        Field(description="What was renamed. Entries that are done on every host do no harm, and may be deleted."),
    ] = []
    rollout: Annotated[
        Rollout | None,
        Field(description="How machines are restarted whose lifecycle says `restart: now`: a few at a time."),
    ] = None
    reconcile: Annotated[Reconcile | None, Field(description="How `kvmstate run` keeps the host.")] = None


ADAPTER: TypeAdapter[ProjectFile] = TypeAdapter(ProjectFile)


@dataclass(frozen=True)
class Project:
    """A project as one run sees it: environment chosen, values merged.

    With no `kvmstate.yaml` and no name given it is named "default", as the host's inventory needs some name, and is not
    `named`. `id` is empty where its file has none. `values_files` are the values by file, `set_values` the names of
    those that were set besides. `settings` are the daemon's, where the file has some.
    """

    name: str = DEFAULT_NAME
    id: str = ""
    named: bool = False
    connection: str | None = None
    paths: tuple[Path, ...] = (Path("."),)
    values: Mapping[str, object] = field(default_factory=dict)
    prune: bool = False
    max_delete_share: float = 1 / 3
    rollout: Rollout = field(default_factory=Rollout)
    environment: str | None = None
    file: Path | None = None
    skip: tuple[Path, ...] = ()
    moves: tuple[Move, ...] = ()
    set_values: tuple[str, ...] = ()
    values_files: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    settings: "Reconcile | None" = None
    reach: Reach = field(default_factory=lambda: Reach.of([Path(".")]))

    @property
    def roots(self) -> tuple[Path, ...]:
        """Its folder, and that of the repository which has it."""
        folders = [self.file.parent.resolve()] if self.file else [path.resolve() for path in self.paths]
        above = (parent for folder in folders for parent in (folder, *folder.parents) if (parent / ".git").exists())
        return (*folders, *above)

    @property
    def reconcile(self) -> "Reconcile":
        """How the daemon keeps the host."""
        from kvmstate.manifest.reconcile import Reconcile

        return self.settings or Reconcile()

    def claim(self, take_ownership: bool = False, change_environment: bool = False) -> Claim:
        """Who a run of it says that it is."""
        return Claim(self.id, self.environment or "", take_ownership, change_environment)

    def load(self, paths: Sequence[Path] = (), providers: "Callable[[], Providers] | None" = None) -> Manifests:
        """The manifests of the project, or those in `paths`; `providers` have the values of secrets. Raises
        ManifestErrors, and UsageError for values that were set and are not read by any template."""
        # what is given on the command line need not be in the project's folder
        given = [place for path in paths for place in ((path,) if path.is_dir() else (path.parent, path))]
        found = load(
            tuple(paths) or self.paths,
            values=self.values,
            skip=self.skip,
            project=self.file,
            reach=self.reach.with_folders(given),
            named=not paths,
            providers=providers,
            name=self.name,
        )
        if name := next((name for name in self.set_values if not is_read(name, found.reads)), None):
            raise UsageError(f"--set {name}: there is no template that reads it", meant(name, found.reads))
        if paths and self.file:
            # templates that are not looked at may read what these do not
            return found
        warnings = (
            f"{file}: no template reads {name}" + (f" ({guess})" if (guess := meant(name, found.reads)) else "")
            for file, values in self.values_files.items()
            for name in unread(values, found.reads)
        )
        return replace(found, warnings=(*found.warnings, *warnings))


def share(text: str) -> float:
    """50% as 0.5. Raises ValueError."""
    if not re.fullmatch(SHARE_PATTERN, text):
        raise ValueError("expected a share such as 50%")
    return int(text[:-1]) / 100


def find_project(where: Path) -> Path | None:
    """The project file in this folder, or in the nearest one above it, up to the repository's root."""
    folder = (where if where.is_dir() else where.parent).resolve()
    for parent in (folder, *folder.parents):
        # also one that cannot be read: the manifests beside it are not those of a project above
        if os.path.lexists(parent / PROJECT_FILE):
            return parent / PROJECT_FILE
        if (parent / ".git").exists():
            return None
    return None


def load_project(
    where: Path,
    env: str | None = None,
    set_values: Sequence[str] = (),
    values_files: Sequence[Path] = (),
    name: str | None = None,
    allowed: Sequence[Path] = (),
) -> Project:
    """The project that `where` (a folder or file) belongs to, which may be given by `name` where no file says it.

    What its files name lies in its folder, or in those that are `allowed`.

    Values are merged in this order: files of the project, of the environment, `values_files`, `set_values`.
    Raises ManifestErrors for what is wrong in project and values files, UsageError for an unknown environment and for
    another name than the file's.
    """
    file = find_project(where)
    base = _shown(file.parent) if file else where if where.is_dir() else where.parent
    reach = Reach.of([base, *allowed])
    declared = _read(file, reach) if file else ProjectFile(project=name or DEFAULT_NAME)
    if name is not None and name != declared.project:
        raise UsageError(f"{file} is of project {declared.project}, not {name}", "leave --project out")
    if env is not None and env not in declared.environments:
        names = declared.environments
        raise UsageError(
            f"there is no environment {env!r}", hint(env, names, "environments") or "kvmstate.yaml has none"
        )
    chosen = declared.environments[env] if env is not None else Environment()
    named = [base / name for name in (*declared.values, *chosen.values)]
    others = [base / name for other in declared.environments.values() for name in other.values]
    files = _values(named, values_files, reach)
    values: dict[str, object] = {}
    for over in (*files.values(), assignments(set_values)):
        values = merge(values, over)
    return Project(
        declared.project,
        declared.id or "",
        file is not None or name is not None,
        chosen.connection or declared.connection,
        tuple(base / name for name in declared.manifests),
        values,
        declared.prune if chosen.prune is None else chosen.prune,
        share(declared.max_delete_share) if declared.max_delete_share else Project.max_delete_share,
        declared.rollout or Rollout(),
        env,
        file,
        (*(base / name for name in declared.exclude), *named, *others, *values_files),
        tuple(Move(ResourceId.parse(moved.old), ResourceId.parse(moved.new)) for moved in declared.moved),
        tuple(text.partition("=")[0] for text in set_values),
        files,
        declared.reconcile,
        reach,
    )


def _read(file: Path, reach: Reach) -> ProjectFile:
    label = str(_shown(file))
    root, problems = read_mapping(file, label, reach)

    def report(message: str, line: int = 0, column: int = 0, said: str = "", path: str = "") -> None:
        problems.append(problem(label, False, message, line, column, said, path))

    project = None if problems else validate(ADAPTER, (ProjectFile,), root, (), report)
    if project is None or problems:
        raise ManifestErrors(problems)
    return project


def _values(named: Sequence[Path], given: Sequence[Path], reach: Reach) -> dict[str, dict[str, object]]:
    """By file; the later file is the later entry."""
    values: dict[str, dict[str, object]] = {}
    problems: list[Problem] = []
    for path, where in (*((path, reach) for path in named), *((path, None) for path in given)):
        label = os.path.normpath(path)
        node, wrong = read_mapping(path, label, where)
        problems += wrong
        values.pop(label, None)
        values[label] = node.data()
    if problems:
        raise ManifestErrors(problems)
    return values


def _shown(path: Path) -> Path:
    """Relative to the working folder where that is shorter to read."""
    here = working_folder()
    return path.relative_to(here) if here and path.is_relative_to(here) else path
