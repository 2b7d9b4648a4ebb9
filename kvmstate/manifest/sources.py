"""Paths to files: folders are walked in a fixed order, without hidden ones and symlink loops."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmstate.errors import Problem, UsageError
from kvmstate.manifest.reach import HINT, Reach
from kvmstate.model.files import open_regular

PROJECT_FILE = "kvmstate.yaml"
PLAIN = (".yaml", ".yml")
TEMPLATES = (".yaml.j2", ".yml.j2")
STDIN = "-"


@dataclass(frozen=True)
class Source:
    """A file of manifests: `label` as messages show it, `root` the folder that templates may include from."""

    label: str
    path: Path | None
    root: Path
    named: bool = True
    """By a file, or found in a folder. What is given on the command line may be a FIFO, such as a shell's <(...)."""

    @property
    def is_template(self) -> bool:
        return self.path is not None and self.path.name.endswith(TEMPLATES)

    @property
    def folder(self) -> Path:
        """What relative paths in the manifest start from."""
        return self.path.parent if self.path else working_folder() or Path("/")

    @property
    def is_empty(self) -> bool:
        """Whether the file has no bytes. Raises OSError."""
        return self.path is not None and not self.path.stat().st_size

    def read(self, limit: int) -> bytes:
        """At most a byte more than `limit`. Raises OSError."""
        if self.path is None:
            return sys.stdin.buffer.read(limit + 1)
        with open_regular(self.path) if self.named else self.path.open("rb") as file:
            return file.read(limit + 1)


def working_folder() -> Path | None:
    """None when it has been deleted: what is named from / can be worked on all the same."""
    try:
        return Path.cwd()
    except OSError:
        return None


def shown(path: str) -> str:
    """Relative to the working folder, where there is one."""
    return os.path.relpath(path) if working_folder() else path


def sources(
    paths: Sequence[Path],
    skip: Collection[Path],
    problems: list[Problem],
    project: Path | None = None,
    reach: Reach | None = None,
    named: bool = False,
) -> tuple[list[Source], list[str]]:
    """Every manifest file below these paths, each once, sorted, and those of the paths that are folders without any;
    `project` is the project file that they belong to, and has `named` them, or they are given. `reach` says where what
    is found may lie.

    What is there and cannot be read, and what may belong to another project, is added to `problems`: it must not seem
    to have been taken away. Raises UsageError for a path that is not there.
    """
    skipped = {os.path.realpath(path) for path in skip}
    walk = _Walk(skipped, problems, os.path.realpath(project) if project else "", reach)
    found: dict[str, Source] = {}
    empty = []
    for path in paths:
        if str(path) == STDIN:
            found[STDIN] = Source("<stdin>", None, working_folder() or Path("/"))
            continue
        if walk.is_out_of_reach(path):
            continue
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise UsageError(*_not_there(path, error)) from None
        if stat.S_ISDIR(mode):
            files = {real: Source(os.path.normpath(file), file, path) for file, real in walk.folder(path)}
            found = files | found
            empty += [] if files else [os.path.normpath(path)]
            continue
        if not path.name.endswith((*PLAIN, *TEMPLATES)) and stat.S_ISREG(mode):
            raise UsageError(
                f"{path}: not a manifest",
                "manifests are *.yaml, *.yml, *.yaml.j2 and *.yml.j2 files; only `kvmstate apply` takes a plan, as "
                "`plan --out` saved it",
            )
        found.setdefault(os.path.realpath(path), Source(os.path.normpath(path), path, path.parent, named))
    return sorted(found.values(), key=lambda source: source.label), empty


@dataclass(frozen=True)
class _Walk:
    """`skipped` and `project` are real paths."""

    skipped: Collection[str]
    problems: list[Problem]
    project: str
    reach: Reach | None = None

    def folder(self, top: Path) -> Iterator[tuple[Path, str]]:
        """Each file with its real path."""
        return self._below(top, top, frozenset())

    def _below(self, folder: Path, top: Path, above: frozenset[str]) -> Iterator[tuple[Path, str]]:
        real = os.path.realpath(folder)
        if real in above:
            return
        if self._is_nested(folder, top):
            self._report(
                folder / PROJECT_FILE,
                "this folder is a project of its own",
                "leave it out with `exclude` in kvmstate.yaml, or name in `manifests` what belongs to this project",
            )
            return
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            self._report(folder, f"cannot be read: {error.strerror}")
            return
        for found in entries:
            if found.name.startswith("."):
                continue
            entry, linked = folder / found.name, found.is_symlink()
            real_entry = os.path.realpath(entry) if linked else os.path.join(real, found.name)
            if real_entry in self.skipped:
                continue
            # looked at, a folder that is linked may be all of the machine's; what is not a link is where its folder is
            if linked and self.is_out_of_reach(entry):
                continue
            try:
                mode = found.stat().st_mode
            except OSError as error:
                # what has gone since the folder was listed is gone
                if linked or error.errno != errno.ENOENT:
                    message, hint = _not_there(entry, error)
                    self._report(entry, message.removeprefix(f"{entry}: "), hint)
                continue
            if stat.S_ISDIR(mode):
                yield from self._below(entry, top, above | {real})
            elif not found.name.endswith((*PLAIN, *TEMPLATES)) or found.name == PROJECT_FILE:
                continue
            elif stat.S_ISREG(mode):
                yield entry, real_entry
            else:
                self._report(entry, f"this is {_special(mode)}, not a regular file")

    def is_out_of_reach(self, path: Path) -> bool:
        """Whether it is, which is then reported."""
        why = self.reach.refused(path) if self.reach else ""
        if why:
            self._report(path, why, HINT)
        return bool(why)

    def _is_nested(self, folder: Path, top: Path) -> bool:
        file = folder / PROJECT_FILE
        if not os.path.lexists(file):
            return False
        return os.path.realpath(file) != self.project if self.project else folder != top

    def _report(self, path: Path, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, os.path.normpath(path), hint=hint))


def _special(mode: int) -> str:
    """What a file is that is not a regular one."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _not_there(path: Path, error: OSError) -> tuple[str, str]:
    """Message and hint for what cannot be looked at."""
    if os.path.islink(path) and error.errno in (errno.ENOENT, errno.ENOTDIR):
        return (
            f"{path}: a symbolic link to {os.readlink(path)}, which is not there",
            "mount or restore what it leads to, or delete the link",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{path}: no such file or folder", ""
    return f"{path}: cannot be read: {error.strerror}", ""
