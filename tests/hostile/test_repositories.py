"""Who controls the server, and no key, has only what was signed before: none of that comes (back) in force."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import MAIN, ROOT, until

from kvmstate.errors import SourceError
from kvmstate.sources.git import Git, GitSource

sys.path.insert(0, str(Path(__file__).parents[1] / "reconcile"))
from remotes import Remote, ssh_key


@pytest.fixture
def signers(tmp_path: Path) -> Path:
    ssh_key(tmp_path / "asa")
    file = tmp_path / "signers"
    file.write_text(f"asa@example.org {(tmp_path / 'asa.pub').read_text()}")
    return file


@pytest.fixture
def remote(signers: Path, tmp_path: Path) -> Remote:
    """With a branch of which three commits were pushed, all signed."""
    made = Remote(tmp_path)
    made.sign_with(tmp_path / "asa")
    for day in (1, 2, 3):
        made.commit("lan.yaml", f"main {day}", date=f"2026-11-0{day}T03:00:00Z")
        made.git("branch", f"at-{day}")
    made.push()
    return made


@contextmanager
def opened(remote: Remote, signers: Path, **settings: Any) -> Iterator[GitSource]:
    asked = {"url": str(remote.bare), "verify_ssh": signers, **settings}
    if "tag" not in settings:
        asked.setdefault("branch", "main")
    with closing(GitSource(Git(**asked), remote.bare.parent / "cache")) as source:
        yield source


def replay(remote: Remote, what: str, tmp_path: Path) -> None:
    """The server puts another signed commit under the branch's name."""
    if what == "an older one of the branch":
        remote.git("push", "-q", "-f", str(remote.bare), "at-1:main")
    elif what == "an older one of another branch":
        remote.git("checkout", "-q", "-b", "feature", "at-1")
        remote.commit("lan.yaml", "feature", date="2026-11-02T05:00:00Z")
        remote.git("push", "-q", "-f", str(remote.bare), "feature:main")
    else:
        remote.git("checkout", "-q", "--orphan", "elsewhere")
        day = "2026-11-01T03:00:00Z" if what.startswith("an older") else "2026-11-20T03:00:00Z"
        remote.commit("lan.yaml", "elsewhere", date=day)
        remote.git("push", "-q", "-f", str(remote.bare), "elsewhere:main")


REPLAYED = (
    "an older one of the branch",
    "an older one of another branch",
    "an older one of another repository",
    "a newer one of another repository",
)


@pytest.mark.parametrize("what", REPLAYED)
@pytest.mark.parametrize("settings", [{}, {"on_rewrite": "follow"}, {"depth": 0}, {"depth": 0, "on_rewrite": "follow"}])
def test_no_other_signed_commit_comes_in_force(
    what: str, settings: dict[str, Any], remote: Remote, signers: Path, tmp_path: Path
) -> None:
    with opened(remote, signers, **settings) as source:
        source.fetch()
        replay(remote, what, tmp_path)
        for _ in range(2):
            with pytest.raises(SourceError, match="stays in force"):
                source.fetch()
        assert (source.folder / "lan.yaml").read_text() == "main 3"
    with opened(remote, signers, **settings) as source, pytest.raises(SourceError, match="stays in force"):
        source.fetch()


def test_what_goes_on_from_there_is_taken(remote: Remote, signers: Path) -> None:
    with opened(remote, signers) as source:
        source.fetch()
        # more than are fetched at first
        remote.many(60)
        remote.publish("four")
        assert source.fetch()[1] == ""
        assert (source.folder / "lan.yaml").read_text() == "four"


def test_a_newer_rewrite_is_followed_where_that_is_asked_for(remote: Remote, signers: Path) -> None:
    with opened(remote, signers, on_rewrite="follow") as source:
        source.fetch()
        remote.git("reset", "-q", "--hard", "at-2")
        remote.commit("lan.yaml", "amended", date="2026-11-04T03:00:00Z")
        remote.git("push", "-q", "-f", str(remote.bare), "HEAD:main")
        assert "was rewritten" in source.fetch()[1]
        assert (source.folder / "lan.yaml").read_text() == "amended"


def test_an_older_tag_is_not_taken(remote: Remote, signers: Path) -> None:
    remote.git("tag", "-s", "-m", "v1", "v1", "at-3")
    remote.push("v1")
    with opened(remote, signers, tag="v1", on_rewrite="follow") as source:
        source.fetch()
        remote.git("tag", "-f", "-s", "-m", "v1", "v1", "at-2")
        remote.git("push", "-q", "-f", str(remote.bare), "v1")
        with pytest.raises(SourceError, match=r"came before the one in force; .* stays in force"):
            source.fetch()


def test_without_signatures_rewrites_are_followed_by_default(remote: Remote) -> None:
    asked = Git(url=str(remote.bare), branch="main")
    assert not asked.holds
    assert Git(url=str(remote.bare), branch="main", verify_ssh=Path("x")).holds


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("connection: qemu+ssh://nohost.invalid/system?command={}", "a file may not say command="),
        ("connection: qemu+ext:///system?command={}", "a file may not choose the transport ext"),
        ("connection: test:///default", "these manifests are confined"),
        ("values: [/etc/hostname]", "outside of the project's folder"),
        ("manifests: [/etc]", "outside of the project's folder"),
    ],
)
def test_a_repository_chooses_no_host_and_reaches_no_file_of_the_machine(
    settings: str, says: str, tmp_path: Path
) -> None:
    remote = Remote(tmp_path)
    # its place in the cache is known, and it keeps its x bit
    program = tmp_path / "cache" / "current" / "evil.sh"
    remote.commit("evil.sh", f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (remote.work / "evil.sh").chmod(0o755)
    remote.commit("lan.yaml", "apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: n}\nspec: {}\n")
    remote.commit("kvmstate.yaml", f"project: x\n{settings.format(program)}\n")
    remote.push()
    options = ["--git", str(remote.bare), "--git-cache", str(tmp_path / "cache"), "--listen", "none"]
    env = {name: value for name, value in os.environ.items() if name != "LIBVIRT_DEFAULT_URI"}
    with (tmp_path / "log").open("w") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-c", MAIN, "run", *options, "--log-format", "json"],
            env={**env, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path), "KVMSTATE_ALLOW_PATH": ""},
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: says in (tmp_path / "log").read_text(), says, 20)
    finally:
        daemon.terminate()
        daemon.wait(30)
    assert not (tmp_path / "ran").exists()
