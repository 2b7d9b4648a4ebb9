"""Manifests from a git repository: a revision is in force when all of it is here, verified and written out.

The cache has

    current/      the revision in force, its files as they were committed
    before/       the one before it, until the next fetch
    repository/   the mirror; its ref refs/kvmstate/current/… says what is in force
    config, lock  git's configuration; who uses the cache

`current` is always at the same place: the paths of files that manifests name are part of what is compared with the
host, and another path would be another content. Nothing is trusted because it lies there: it is written again, from
what git has hashed and signers have signed, when a source is opened.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from kvmstate.errors import KvmstateError, ManifestErrors, SourceError, UsageError
from kvmstate.sources.remote import Git
from kvmstate.sources.repository import CommandFailed, Repository
from kvmstate.sources.revision import Revision
from kvmstate.sources.signature import signer

__all__ = ["Git", "GitSource"]

FETCHED = "refs/kvmstate/fetched"
# How many commits are fetched, round by round, to tell what became of the revision in force
ROUNDS = (50, 1000)


class GitSource:
    """`revision` is what is in force, None until one was fetched or found in the cache; `interval` is in seconds.

    Raises SourceError when another process uses the cache, when it cannot be written, or when git is not installed.
    """

    def __init__(self, settings: Git, cache: Path) -> None:
        self._settings = settings.absolute()
        self._cache = cache.absolute()
        for option, path in self._settings.files.items():
            if path.resolve().is_relative_to(self._cache.resolve()):
                raise UsageError(f"{option} {path} is in the cache", "a repository does not say what is trusted")
        self._lock = _locked(self._cache)
        self._repository = Repository(self._settings, self._cache, self._lock.fileno())
        self.interval = settings.interval
        self.reading = threading.Lock()
        """Held by who reads the files: no other revision takes their place meanwhile."""
        self.revision: Revision | None = None
        self._object = ""
        identity = f"{self._settings.url}\0{self._settings.ref}"
        self._current = f"refs/kvmstate/current/{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        try:
            self._open()
        except OSError as error:
            raise _unusable(self._cache, error) from None

    def _open(self) -> None:
        self._repository.prepare()
        if self._settings.ref != "HEAD" and self._repository.ask("check-ref-format", self._settings.ref).code:
            raise UsageError(f"{self._settings.asked}: not a name that git allows")
        # what is not to be trusted (any more) is fetched, and then refused aloud
        with suppress(SourceError):
            if object_ := self._repository.find(self._current):
                self._put_in_force(object_, self._revision(object_))

    @property
    def folder(self) -> Path:
        """Where the manifests of the revision are. Raises SourceError when none is in force."""
        if not self.revision:
            raise SourceError(f"no revision of {self._settings.asked} of {self._settings.url} was fetched yet")
        return self._cache / "current" / self._settings.path

    @property
    def checkout(self) -> Path:
        """Where all files of the revision in force are."""
        return self._cache / "current"

    def named(self, error: KvmstateError) -> KvmstateError:
        """What is wrong with the revision's files, by its commit and by their paths in the repository."""
        top = self._cache / "current"
        here = sorted({f"{top}/", f"{top.resolve()}/", f"{os.path.relpath(top)}/"}, key=len, reverse=True)

        def told(text: str) -> str:
            for prefix in here:
                text = text.replace(prefix, "")
            return text

        if isinstance(error, ManifestErrors):
            problems = [replace(p, file=told(p.file), message=told(p.message)) for p in error.problems]
            renamed: KvmstateError = ManifestErrors(problems)
        else:
            renamed = copy(error)
            renamed.message, renamed.hint = told(error.message), told(error.hint)
        if self.revision:
            renamed.message = f"commit {self.revision.commit[:12]}: {renamed.message}"
        return renamed

    def close(self) -> None:
        """Leave the cache to others."""
        self._lock.close()

    def fetch(self) -> tuple[Revision, str]:
        """What is in force now; and a note when history was rewritten or rolled back.

        Raises SourceError, and leaves everything as it was: when the repository cannot be reached, what it has is not
        to be trusted or not complete, or history was rewritten and that is rejected.
        """
        try:
            self._settings.secret()
            shutil.rmtree(self._cache / "before", ignore_errors=True)
            self._repository.tidy()
            object_ = self._repository.remote_object()
            try:
                return self._take(object_)
            except CommandFailed:
                if self._repository.is_sound:
                    raise
                # a mirror that a crash has damaged holds nothing that cannot be fetched again
                self._repository.remake()
                return self._take(object_)
        except OSError as error:
            raise _unusable(self._cache, error) from None

    def _take(self, object_: str) -> tuple[Revision, str]:
        if self.revision and object_ == self._object:
            # whose signatures count may have changed
            self.revision = self._revision(object_)
            return self.revision, ""
        self._fetch_it(self._settings.depth)
        note = self._became()
        object_ = self._repository.find(FETCHED)
        revision = self._revision(object_)
        if note:
            self._check_rewrite(note, revision)
        self._put_in_force(object_, revision)
        with suppress(SourceError):
            self._repository.ask("gc", "--auto", "--quiet")
        return revision, note

    def _check_rewrite(self, note: str, new: Revision) -> None:
        """Raises SourceError for what is not followed."""
        old, settings = self.revision, self._settings
        assert old
        stays = f"{old.commit[:12]} stays in force"
        if settings.holds:
            raise SourceError(f"{note}; {stays}", "where that is meant, --on-rewrite follow takes what is there")
        if settings.is_verified and (why := self._not_newer(new, old)):
            # who controls the server, and no key, has only what was signed before
            raise SourceError(f"{note}, and {why}; {stays}", "sign a new commit that comes after the one in force")

    def _not_newer(self, new: Revision, old: Revision) -> str:
        """Why a signed commit may be one that was in force before, or never in this repository; or an empty text."""
        mirror = self._repository
        if mirror.is_ancestor(new.commit, old.commit):
            return "came before the one in force"
        if new.time < old.time:
            return "is older than the one in force"
        if mirror.ask("merge-base", old.commit, new.commit).code:
            return "has no history in common with it"
        return ""

    def _fetch_it(self, depth: int) -> None:
        self._repository.fetch(f"+{self._settings.ref}:{FETCHED}", depth)

    def _became(self) -> str:
        """What was fetched is to the revision in force, where it does not simply go on from there."""
        if not self.revision:
            return ""
        old, mirror, asked = self.revision.commit, self._repository, self._settings.asked
        for _ in self._deeper(old):
            new = mirror.find(f"{FETCHED}^{{commit}}")
            moved = f"from {old[:12]} to {new[:12]}"
            if old == new:
                return ""
            if self._settings.tag:
                return f"{asked} was moved {moved}"
            if mirror.is_ancestor(old, new):
                return ""
            if mirror.is_ancestor(new, old):
                return f"{asked} was rolled back {moved}, which came before it"
            if mirror.is_complete(new) and mirror.is_complete(old):
                return f"the history of {asked} was rewritten {moved}, which does not come after it"
        return f"the history of {asked} was rewritten {moved}, or they are too far apart to tell"

    def _deeper(self, old: str) -> Iterator[None]:
        """More and more history. A server that gives no more, or more than comes in time, leaves things untold."""
        yield
        depth = self._settings.depth
        # what cannot be told is not taken: then all of it is worth its time
        rounds = (*ROUNDS, 0) if self._settings.is_verified else ROUNDS
        for more in rounds if depth else ():
            if more > depth or not more:
                with suppress(SourceError):
                    self._fetch_it(more)
                yield
                with suppress(SourceError):
                    self._repository.fetch(old, more)
                yield

    def _revision(self, object_: str) -> Revision:
        """Raises SourceError for one that is not signed as it should be."""
        who = signer(self._repository, self._settings, object_)
        said = self._repository.git(
            "log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%H%x00%an <%ae>%x00%ct%x00%s", object_
        )
        commit, author, seconds, subject = said.rstrip("\n").split("\0", 3)
        ref = self._settings.branch or self._settings.tag or "HEAD"
        try:
            time = datetime.fromtimestamp(int(seconds), UTC)
        except (ValueError, OverflowError, OSError):
            raise SourceError(f"commit {commit[:12]} has an impossible date: {seconds} s since 1970") from None
        return Revision(commit, ref, author, time, subject, who)

    def _put_in_force(self, object_: str, revision: Revision) -> None:
        """Raises SourceError when its files are not all here, and none are what they should not be."""
        incoming = self._cache / "incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        self._repository.check_out(revision.commit, incoming)
        _check_links(incoming, revision)
        if not (incoming / self._settings.path).is_dir():
            raise SourceError(
                f"there is no folder {self._settings.path} in {revision.commit[:12]} ({self._settings.asked} of "
                f"{self._settings.url})",
                "see --path",
            )
        # nobody looks above it for a project file or a repository
        (incoming / ".git").mkdir()
        shutil.rmtree(self._cache / "before", ignore_errors=True)
        self._repository.git("update-ref", self._current, object_)
        with self.reading:
            _exchange(incoming, self._cache / "current")
            self.revision, self._object = revision, object_
        if incoming.exists():
            incoming.rename(self._cache / "before")


def _locked(cache: Path) -> IO[str]:
    """The cache's lock, held until it is closed."""
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (cache / "lock").open("a+")
    except OSError as error:
        raise _unusable(cache, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        pid = lock.read().strip()
        lock.close()
        raise SourceError(
            f"another kvmstate run{pid and f' (pid {pid})'} uses {cache}",
            "end that one, or give each a cache of its own",
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _unusable(cache: Path, error: OSError) -> SourceError:
    return SourceError(f"the cache {cache} cannot be used: {error.filename or ''}: {error.strerror}")


def _check_links(folder: Path, revision: Revision) -> None:
    """Raises SourceError for a symbolic link that leads out of the checkout."""
    top = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if not path.is_symlink():
                continue
            target = os.readlink(path)
            if os.path.isabs(target) or not Path(os.path.realpath(path)).is_relative_to(top):
                raise SourceError(
                    f"{path.relative_to(folder)} in {revision.commit[:12]} is a symbolic link to {target}",
                    "links lead to files of the same repository",
                )


def _exchange(new: Path, old: Path) -> None:
    """`new` is at the place of `old` at once, and the other way round; where the file system cannot, one after the
    other: what a crash leaves is written again from the mirror."""
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: see renameat2(2)
    if not old.exists():
        new.rename(old)
        return
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename and not rename(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange):
        return
    if rename and (code := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(old))
    aside = old.with_name("aside")
    shutil.rmtree(aside, ignore_errors=True)
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)
