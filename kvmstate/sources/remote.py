"""Which git repository the manifests come from, and how it is reached: nothing but what is said here plays a part."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from kvmstate.errors import SourceError, UsageError

SCHEMES = ("https", "ssh", "file", "http", "git")
# what says where certificates are; all else that begins with GIT_ could make git do anything
KEPT = ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH")
# The helper's words go to git through a pipe: the token is in no argument list, no environment and no message
HELPER = (
    """!f() { [ "$1" = get ] || exit 0; echo "username=$KVMSTATE_GIT_USER"; """
    """printf 'password=%s\\n' "$(head -n 1 "$KVMSTATE_GIT_TOKEN" | tr -d '\\r')"; }; f"""
)


@dataclass(frozen=True)
class Git:
    """A branch or a tag (by default what the repository's HEAD is) of a repository, and whom to believe.

    `path` is the folder of the manifests in it, `depth` how many commits are fetched at first (0: all), `interval` and
    `timeout` (of one git command) are seconds. `ssh_key`, `known_hosts`, `token` (a password or token in its first
    line), `verify_ssh` (allowed signers, see ssh-keygen(1)) and `verify_gpg` (exported public keys) are local files.
    With either of the last two, what is not signed by a key in them is refused. `on_rewrite` says what a force-push, a
    rollback or a moved tag is: followed, or rejected; the latter by default where signatures are verified: a server
    without a key could put every commit in force that was ever signed. What such a source follows, is newer.

    Raises UsageError for what does not fit together.
    """

    url: str
    branch: str = ""
    tag: str = ""
    path: str = "."
    depth: int = 1
    interval: int = 60
    timeout: int = 120
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    token: Path | None = None
    verify_ssh: Path | None = None
    verify_gpg: Path | None = None
    on_rewrite: Literal["", "follow", "hold"] = ""

    def __post_init__(self) -> None:
        scheme, parts = self.scheme, self._parts
        if parts.password is not None or (parts.username and scheme in ("https", "http") and not self.token):
            # that name may be a token: it is not repeated
            raise UsageError(
                "the repository's URL holds a password, or a user without --git-token-file",
                "put the password or token into a file, for --git-token-file",
            )
        if self.branch and self.tag:
            raise UsageError("--branch and --tag are two revisions", "choose one of them")
        if (self.ssh_key or self.known_hosts) and scheme != "ssh":
            raise UsageError(f"--ssh-key and --known-hosts are for ssh, and not for {self.url}")
        if self.token and scheme not in ("https", "http"):
            raise UsageError(f"--git-token-file is for https, and not for {self.url}")
        if scheme in ("http", "git") and not _is_loopback(parts.hostname):
            if self.token:
                raise UsageError("http would show the token to everybody on the way", "use https")
            if not self.is_verified:
                raise UsageError(
                    f"everybody on the way can change what {scheme} brings",
                    "use https or ssh, or have signatures verified (--verify-ssh, --verify-gpg)",
                )
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts:
            raise UsageError(f"--path {self.path}: a folder in the repository has no / in front and no ..")

    @property
    def scheme(self) -> str:
        """One of SCHEMES. Raises UsageError for a URL that is none of git's, or is one that starts programs."""
        if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", self.url):
            if match[1] in SCHEMES:
                return match[1]
            raise UsageError(f"{self.url}: {match[1]} is not a way to a repository", f"use {', '.join(SCHEMES)}")
        if self.url.startswith(("/", "./", "../")):
            return "file"
        if re.match(r"(?!-)[^/:]+:(?!:)", self.url):
            return "ssh"
        raise UsageError(
            f"{self.url!r} is not the URL of a repository",
            "such as https://host/manifests.git, git@host:manifests.git, or a path that begins with / or ./",
        )

    @property
    def _parts(self) -> SplitResult:
        try:
            return urlsplit(self.url if "://" in self.url else "")
        except ValueError as error:
            raise UsageError(f"the repository's URL is not one: {error}") from None

    @property
    def ref(self) -> str:
        """The ref as the remote calls it."""
        return f"refs/heads/{self.branch}" if self.branch else f"refs/tags/{self.tag}" if self.tag else "HEAD"

    @property
    def asked(self) -> str:
        """The ref, as people call it."""
        return f"branch {self.branch}" if self.branch else f"tag {self.tag}" if self.tag else "HEAD"

    @property
    def is_verified(self) -> bool:
        return bool(self.verify_ssh or self.verify_gpg)

    @property
    def holds(self) -> bool:
        """Whether history that was rewritten is rejected."""
        return self.on_rewrite == "hold" or (not self.on_rewrite and self.is_verified)

    @property
    def files(self) -> dict[str, Path]:
        """The local files, by their options."""
        named = {
            "--ssh-key": self.ssh_key,
            "--known-hosts": self.known_hosts,
            "--git-token-file": self.token,
            "--verify-ssh": self.verify_ssh,
            "--verify-gpg": self.verify_gpg,
        }
        return {option: path for option, path in named.items() if path}

    def absolute(self) -> Git:
        """The same, wherever git is run."""
        names = ("ssh_key", "known_hosts", "token", "verify_ssh", "verify_gpg")
        found = {name: getattr(self, name) for name in names}
        url = os.path.abspath(self.url) if self.url.startswith(".") else self.url
        return replace(self, url=url, **{name: path.absolute() for name, path in found.items() if path})

    def secret(self) -> str:
        """The token, to be kept out of messages. Raises SourceError."""
        if not self.token:
            return ""
        try:
            secret = self.token.read_text(errors="replace").partition("\n")[0].strip()
        except OSError as error:
            raise SourceError(f"{self.token}: {error.strerror}", "see --git-token-file") from None
        if not secret:
            raise SourceError(f"{self.token} holds no token", "see --git-token-file")
        return secret

    def environment(self, home: Path) -> dict[str, str]:
        """What git finds around it: its configuration is the one in `home`, nobody is asked anything."""
        env = {k: v for k, v in os.environ.items() if k in KEPT or not k.startswith(("GIT_", "SSH_ASKPASS"))}
        env |= {
            "LC_ALL": "C",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "GIT_CONFIG_GLOBAL": str(home / "config"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": shlex.join(self._ssh()),
            "GIT_SSH_VARIANT": "ssh",
        }
        if self.token:
            user = unquote(self._parts.username or "git")
            env |= {"KVMSTATE_GIT_USER": user, "KVMSTATE_GIT_TOKEN": str(self.token)}
        return env

    def _ssh(self) -> list[str]:
        options = {"BatchMode": "yes", "StrictHostKeyChecking": "yes", "ConnectTimeout": "20"}
        options |= {"ServerAliveInterval": "15", "ServerAliveCountMax": "3"}
        if self.known_hosts:
            # a percent sign would be one of ssh's tokens
            options["UserKnownHostsFile"] = '"{}"'.format(str(self.known_hosts).replace("%", "%%"))
            options["GlobalKnownHostsFile"] = "/dev/null"
        if self.ssh_key:
            options |= {"IdentitiesOnly": "yes", "IdentityAgent": "none"}
        key = ["-i", str(self.ssh_key).replace("%", "%%")] if self.ssh_key else []
        return ["ssh", *key, *(f"-o{name}={value}" for name, value in options.items())]

    def configuration(self) -> str:
        """The content of git's configuration file."""
        sections: dict[str, dict[str, str]] = {
            "core": {"hooksPath": "/dev/null", "attributesFile": "/dev/null", "fsmonitor": "false", "askPass": ""},
            # what the URL itself asks for, and nothing that a server or a repository leads to
            "protocol": {"allow": "never", "version": "2"},
            f'protocol "{self.scheme}"': {"allow": "always"},
            "transfer": {"fsckObjects": "true"},
            "fetch": {"recurseSubmodules": "false"},
            "http": {"lowSpeedLimit": "1", "lowSpeedTime": "30"},
            "maintenance": {"auto": "false"},
            "gc": {"autoDetach": "false", "pruneExpire": "now", "autoPackLimit": "20"},
            # a kind of signature that nothing was said of is a bad one
            "gpg": {"program": "gpg" if self.verify_gpg else "false"},
            'gpg "x509"': {"program": "false"},
            'gpg "ssh"': {"allowedSignersFile": str(self.verify_ssh)} if self.verify_ssh else {"program": "false"},
        }
        if self.token:
            # to this server only, wherever it may redirect to
            origin = f"{self.scheme}://{self._parts.netloc.rpartition('@')[2]}"
            sections[f"credential {_quoted(origin)}"] = {"helper": HELPER}
        if self.scheme == "file":
            # whose repository it is does not matter: it was named, and nothing in it is run
            sections["safe"] = {"directory": "*"}
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"\t{name} = {_quoted(value)}" for name, value in values.items())]
        return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
