"""A private bare mirror of a repository, and git's commands on it.

git itself does the work: it is what its protocols, its transports and its signatures are defined by, and the one
implementation that all servers are tried with.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvmstate.errors import SourceError
from kvmstate.sources.remote import Git

# `--depth` of all there is (git-fetch-pack's own number for it)
ALL = 2147483647
# Attributes in a repository would have its files written otherwise than they were signed; these count more
ATTRIBUTES = "* -text -eol -crlf -ident -filter -working-tree-encoding\n"
# Seconds that the remote may take for a short answer: an unreachable one shall hold nothing up
SHORT = 30
VERBS = {"fetch": "fetch", "read-tree": "write out", "checkout-index": "write out", "init": "make a mirror for"}
NOISE = re.compile(r"hint:|Please make sure you have the correct access rights|and the repository exists\.|warning:")
HINTS = (
    (r"Host key verification failed", "the server's key is not known, or another one: see --known-hosts"),
    (r"Permission denied \(|UNPROTECTED PRIVATE KEY|Load key", "the server does not take the key: see --ssh-key"),
    (
        r"Authentication failed|could not read Username|HTTP Basic|error: 40[13]|not found$|repository '.*' not found",
        "the repository does not exist, or --git-token-file does not open it",
    ),
    (r"certificate", "GIT_SSL_CAINFO names a file of certificate authorities"),
    (r"does not appear to be a git repository", "is there a repository at that address?"),
)


class CommandFailed(SourceError):
    """git said no."""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


class Repository:
    """The mirror, in `home`/repository. Every command ends within the settings' timeout, and with this process.

    `held` is the descriptor of the lock on `home`: commands keep it open, so that a mirror is never anybody else's
    while a command of a killed process still writes.
    """

    def __init__(self, settings: Git, home: Path, held: int) -> None:
        self._settings = settings
        self._home = home
        self._held = held
        self.folder = home / "repository"

    def prepare(self) -> None:
        """Make what is missing. Raises SourceError."""
        (self._home / "config").write_text(self._settings.configuration())
        self.tidy()
        init = ("init", "--quiet", "--bare", "--template=", "--initial-branch=none", str(self.folder))
        if self.ask(*init).code:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.git(*init)
        (self.folder / "info").mkdir(exist_ok=True)
        (self.folder / "info" / "attributes").write_text(ATTRIBUTES)

    def tidy(self) -> None:
        """Remove the locks that killed commands have left: whoever holds the cache's own lock runs the only ones."""
        for lock in self.folder.rglob("*.lock"):
            lock.unlink()

    def remake(self) -> None:
        """Begin again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.prepare()

    @property
    def is_sound(self) -> bool:
        return not self.ask("fsck", "--no-dangling", "--no-progress").code

    def remote_object(self) -> str:
        """What the remote has under the ref that was asked for. Raises SourceError."""
        said = self.git("ls-remote", "--quiet", "--", self._settings.url, self._settings.ref)
        for line in said.splitlines():
            object_, _, ref = line.partition("\t")
            if ref == self._settings.ref:
                return object_
        raise SourceError(
            f"there is no {self._settings.asked} in {self._settings.url}", "it was deleted, or has another name"
        )

    def fetch(self, what: str, depth: int) -> None:
        """`what` is a refspec or a hash; `depth` 0 is all. Raises SourceError."""
        self.git(
            "fetch",
            "--quiet",
            "--force",
            "--no-tags",
            "--no-write-fetch-head",
            "--update-shallow",
            f"--depth={depth or ALL}",
            "--end-of-options",
            self._settings.url,
            what,
        )

    def find(self, name: str) -> str:
        """The hash of an object, or nothing."""
        return self.ask("rev-parse", "--verify", "--quiet", name).out.strip()

    def parents(self, commit: str) -> list[str]:
        """All that the commit names, also those that were not fetched."""
        return re.findall(r"^parent (\w+)$", self.ask("cat-file", "commit", commit).out.partition("\n\n")[0], re.M)

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `old` is an ancestor of `new`, as far as the history was fetched."""
        return not self.ask("merge-base", "--is-ancestor", old, new).code or old in self.parents(new)

    def is_complete(self, commit: str) -> bool:
        """Whether all of its history is here."""
        shallow = self.folder / "shallow"
        cut = set(shallow.read_text().split()) if shallow.exists() else set[str]()
        history = self.ask("rev-list", commit)
        return not history.code and cut.isdisjoint(history.out.split())

    def check_out(self, commit: str, folder: Path) -> None:
        """Write the commit's files, byte for byte, into an empty folder. Raises SourceError."""
        index = self._home / "index"
        index.unlink(missing_ok=True)
        at = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(folder)}
        self.git("read-tree", commit, environment=at)
        self.git("checkout-index", "--quiet", "--all", environment=at, cwd=folder)

    def git(self, *arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> str:
        """What a command says. Raises CommandFailed, or SourceError when it could not be run to its end."""
        answer = self.ask(*arguments, environment=environment, cwd=cwd)
        if answer.code:
            raise self._failed(arguments[0], answer.err)
        return answer.out

    def ask(self, *arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> Answer:
        return self.run(["git", *arguments], environment, cwd)

    def run(self, command: list[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> Answer:
        """Run a command of git. Raises SourceError when the command is not there, or does not end in time."""
        if not shutil.which(command[0]):
            raise SourceError(f"{command[0]} is not installed", f"install {command[0]} on this machine")
        seconds = min(self._settings.timeout, SHORT) if "ls-remote" in command else self._settings.timeout
        env = self._settings.environment(self._home) | {"GIT_DIR": str(self.folder)} | (environment or {})
        # timeout(1) ends all of a command's processes, setpriv has it do so also when this process is killed
        around = ["setpriv", "--pdeathsig", "TERM", "timeout", "--kill-after=5", str(seconds)]
        process = subprocess.Popen(
            [*around, *command],
            env=env,
            cwd=cwd or self._home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(self._held,),
            start_new_session=True,
        )
        try:
            out, err = (data.decode(errors="replace") for data in process.communicate())
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode in (124, 137, -signal.SIGKILL):
            name = " ".join(command[:2] if command[0] == "git" else command[:1])
            raise SourceError(f"{name} for {self._settings.url} did not end within {seconds} s", "see --git-timeout")
        return Answer(process.returncode, out, err)

    def _failed(self, command: str, err: str) -> CommandFailed:
        if secret := self._settings.secret():
            err = err.replace(secret, "***")
        lines = [line.strip() for line in err.splitlines()]
        lines = [line.removeprefix("fatal: ").removeprefix("error: ") for line in lines if not NOISE.match(line)]
        said = "; ".join([line for line in lines if line][-3:])[-500:] or "it does not say why"
        hint = next((hint for pattern, hint in HINTS if re.search(pattern, said)), "")
        return CommandFailed(
            f"cannot {VERBS.get(command, 'read')} {self._settings.asked} of {self._settings.url}: {said}", hint
        )
