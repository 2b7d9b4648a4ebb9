"""What `kvmstate run` is told of a git repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from kvmstate.cli.git_options import git_options, git_settings
from kvmstate.errors import UsageError
from kvmstate.sources.git import Git


def parsed(*arguments: str) -> Git | None:
    @click.command()
    @git_options
    def command(**given: Any) -> Git | None:
        return git_settings(given)

    result: Git | None = command.main(list(arguments), standalone_mode=False)
    return result


def test_options(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert parsed() is None
    assert parsed("--git", "git@host:a/b.git") == Git("git@host:a/b.git")
    given = f"--branch main --path a --git-interval 5m --git-depth 0 --on-rewrite hold --verify-ssh {file}"
    assert parsed("--git", "https://host/a.git", *given.split()) == Git(
        "https://host/a.git", "main", path="a", interval=300, depth=0, on_rewrite="hold", verify_ssh=file
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--branch main", "--branch is for --git, which is not given"),
        ("--git /a --branch main --tag v1", "two revisions"),
        ("--git https://bob:pw@host/a.git", "URL holds a password"),
        ("--git https://host/a.git --ssh-key FILE", "are for ssh"),
        ("--git git@host:a.git --git-token-file FILE", "is for https"),
        ("--git http://host/a.git --git-token-file FILE --verify-ssh FILE", "show the token"),
        ("--git http://host/a.git", "everybody on the way"),
        ("--git git://host/a.git", "everybody on the way"),
        ("--git ext::sh%20-c%20true", "not the URL of a repository"),
        ("--git https://pw@host/a.git", "URL holds a password"),
        ("--git https://[::1/a.git", "URL is not one"),
        ("--git ftp://host/a.git", "not a way to a repository"),
        ("--git=--upload-pack=true", "not the URL of a repository"),
        ("--git /a --path ../b", "--path ../b"),
        ("--git /a --git-interval 0s", "at least 1s"),
    ],
)
def test_options_that_do_not_fit_together(given: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").touch()
    with pytest.raises((UsageError, click.UsageError)) as caught:
        parsed(*given.replace("FILE", str(tmp_path / "FILE")).split())
    assert says in getattr(caught.value, "message", "")
    assert "pw" not in str(caught.value)
