"""Manifests from git: what is in force is always a whole revision that is trusted, whatever becomes of the remote."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import until
from remotes import Remote, ssh_key, sshd, web

from kvmstate.errors import SourceError, UsageError
from kvmstate.sources import git
from kvmstate.sources.git import Git, GitSource
from kvmstate.sources.revision import Revision

ROOT = Path(__file__).parents[2]


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path)


@contextmanager
def opened(remote: Remote, **settings: Any) -> Iterator[GitSource]:
    """The source, with a cache that the next one finds again."""
    asked = {"url": str(remote.bare), **settings}
    if "tag" not in settings:
        asked.setdefault("branch", "main")
    with closing(GitSource(Git(**asked), remote.bare.parent / "cache")) as source:
        yield source


def content(source: GitSource, name: str = "lan.yaml") -> str:
    return (source.folder / name).read_text()


def refused(source: GitSource, says: str) -> str:
    """A fetch fails aloud, and leaves everything as it was."""
    before = source.revision
    files = {path: path.read_bytes() for path in source.folder.rglob("*.yaml")} if before else {}
    with pytest.raises(SourceError, match=says) as caught:
        source.fetch()
    assert source.revision == before
    assert all(path.read_bytes() == data for path, data in files.items())
    return str(caught.value)


def test_what_is_in_force_and_who_wrote_it(remote: Remote) -> None:
    remote.commit("hosts/a/lan.yaml", "one", "The first\n\nand more", date="2026-11-25T03:00:00+01:00")
    remote.push()
    with opened(remote, path="hosts/a") as source:
        assert source.revision is None
        revision, note = source.fetch()
        assert revision == source.revision
        assert note == ""
        assert revision == Revision(
            remote.git("rev-parse", "HEAD"),
            "main",
            "Åsa Author <asa@example.org>",
            datetime(2026, 11, 25, 2, tzinfo=UTC),
            "The first",
        )
        assert content(source) == "one"
        folder = source.folder.resolve()
        remote.commit("hosts/a/lan.yaml", "two")
        remote.push()
        assert source.fetch()[1] == ""
        # paths of files are part of what is compared with a host
        assert source.folder.resolve() == folder
        assert content(source) == "two"
        assert (source.folder.parents[2] / "before/hosts/a/lan.yaml").read_text() == "one"


def test_over_ssh(remote: Remote, tmp_path: Path) -> None:
    remote.publish("one")
    with sshd(tmp_path) as port:
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{remote.bare}"
        keys = {"ssh_key": tmp_path / "id", "known_hosts": tmp_path / "known_hosts"}
        with opened(remote, url=url, **keys) as source:
            source.fetch()
            assert content(source) == "one"
        with opened(remote, url=url, **keys | {"ssh_key": ssh_key(tmp_path / "other")}) as source:
            assert "--ssh-key" in refused(source, "Permission denied")
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'other.pub').read_text()}")
        with opened(remote, url=url, **keys) as source:
            assert "--known-hosts" in refused(source, "Host key verification failed")


def test_a_token_opens_the_repository_and_is_never_shown(remote: Remote, tmp_path: Path) -> None:
    remote.publish("one")
    file = tmp_path / "token"
    file.write_text("s3cr3t\n")
    with web(tmp_path, token="s3cr3t") as server, opened(remote, url=server.url, token=file) as source:
        source.fetch()
        assert content(source) == "one"
        file.write_text("wr0ng\n")
        said = refused(source, "Authentication failed")
        assert "--git-token-file" in said
        assert "wr0ng" not in said
    kept = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not any(b"s3cr3t" in data or b"wr0ng" in data for data in kept)


def test_a_token_goes_to_its_server_only(remote: Remote, tmp_path: Path) -> None:
    remote.publish("one")
    (tmp_path / "token").write_text("s3cr3t")
    with web(tmp_path, token="another") as thief, web(tmp_path, redirect=thief.url) as server:
        with opened(remote, url=server.url, token=tmp_path / "token") as source:
            refused(source, "cannot read branch main")
        assert thief.asked
        assert not any(thief.asked)


def test_files_are_as_they_were_committed_and_nothing_of_the_repository_is_run(remote: Remote, tmp_path: Path) -> None:
    remote.git("config", "filter.evil.clean", "cat")
    remote.commit(".gitattributes", "*.yaml ident eol=crlf filter=evil working-tree-encoding=UTF-16\n")
    remote.git("config", "filter.evil.smudge", f"touch {tmp_path}/run")
    text = b"# $Id$\nkind: Network\n"
    blob = subprocess.run(
        ["git", "-C", remote.work, "hash-object", "-w", "--stdin"], input=text, stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    remote.git("update-index", "--add", "--cacheinfo", f"100644,{blob.strip()},lan.yaml")
    remote.git("update-index", "--add", "--cacheinfo", f"160000,{remote.git('rev-parse', 'HEAD')},module")
    (remote.work / ".gitmodules").write_text(f'[submodule "module"]\n\tpath = module\n\turl = {remote.bare}\n')
    remote.git("add", ".gitmodules")
    remote.git("commit", "-q", "-m", "attributes")
    remote.push()
    with opened(remote) as source:
        source.fetch()
        assert (source.folder / "lan.yaml").read_bytes() == text
        assert list((source.folder / "module").iterdir()) == []
    assert not (tmp_path / "run").exists()


def test_nobody_elses_settings_play_a_part(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.publish("one")
    (tmp_path / "theirs").write_text(
        f'[url "/nowhere"]\n\tinsteadOf = {remote.bare}\n[core]\n\thooksPath = {tmp_path}\n'
    )
    for name, value in {
        "GIT_CONFIG_GLOBAL": str(tmp_path / "theirs"),
        "GIT_DIR": str(tmp_path),
        "GIT_INDEX_FILE": "/nowhere/index",
        "GIT_ALLOW_PROTOCOL": "ext",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "protocol.file.allow",
        "GIT_CONFIG_VALUE_0": "never",
    }.items():
        monkeypatch.setenv(name, value)
    with opened(remote) as source:
        source.fetch()
        assert content(source) == "one"


def test_links_out_of_the_repository_are_refused(remote: Remote) -> None:
    remote.publish("one")
    with opened(remote) as source:
        source.fetch()
        (remote.work / "same.yaml").symlink_to("lan.yaml")
        remote.publish("two")
        source.fetch()
        assert content(source, "same.yaml") == "two"
        for target in ("/etc/passwd", "../../../lock"):
            (remote.work / "out.yaml").unlink(missing_ok=True)
            (remote.work / "out.yaml").symlink_to(target)
            remote.publish("three")
            refused(source, f"out.yaml in .* is a symbolic link to {target}")
        assert content(source) == "two"


def test_only_as_much_is_fetched_as_is_needed(remote: Remote) -> None:
    remote.publish()
    remote.many(30)
    # what its HEAD is
    with opened(remote, branch="") as source:
        assert source.fetch()[0].ref == "HEAD"
        mirror = source.folder.parent / "repository"
        count = ["git", "-C", str(mirror), "rev-list", "--count", "--all"]
        assert subprocess.run(count, stdout=subprocess.PIPE, check=True).stdout == b"1\n"
        # further apart than what is looked at first: still one comes after the other
        last = remote.many(60)
        assert source.fetch() == (source.revision, "")
        assert source.revision
        assert source.revision.commit == last


@pytest.mark.parametrize("depth", [0, 1])
def test_a_force_push_and_a_rollback_are_told_apart(remote: Remote, depth: int) -> None:
    first = remote.publish("first")
    for number in range(3):
        remote.publish(str(number))
    with opened(remote, depth=depth) as source:
        source.fetch()
        remote.git("reset", "-q", "--hard", first)
        remote.push()
        revision, note = source.fetch()
        assert revision.commit == first
        assert "rolled back" in note
        remote.git("commit", "-q", "--amend", "-m", "another first")
        other = remote.publish("other")
        revision, note = source.fetch()
        assert revision.commit == other
        assert "was rewritten from" in note
        assert "too far apart" not in note
        assert source.fetch() == (revision, "")


def test_what_the_server_no_longer_has_cannot_be_told(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "ROUNDS", (2, 4))
    remote.publish("one")
    remote.publish("two")
    with opened(remote) as source:
        source.fetch()
        remote.git("checkout", "-q", "--orphan", "new")
        remote.commit()
        remote.git("branch", "-q", "-M", "main")
        remote.many(10)
        subprocess.run(["git", "-C", remote.bare, "gc", "-q", "--prune=now"], check=True, env=remote.env)
        assert "too far apart to tell" in source.fetch()[1]


def test_a_file_system_that_cannot_exchange_folders(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git.ctypes, "CDLL", lambda *_, **__: object())
    with opened(remote) as source:
        for text in ("one", "two", "three"):
            remote.publish(text)
            source.fetch()
            assert content(source) == text
        assert (source.folder.parent / "before/lan.yaml").read_text() == "two"


def test_a_rewrite_is_held_off_where_that_is_asked_for(remote: Remote) -> None:
    remote.publish("one")
    with opened(remote, on_rewrite="hold") as source:
        source.fetch()
        remote.git("commit", "-q", "--amend", "-m", "rewritten")
        remote.publish("two")
        for _ in range(2):
            refused(source, "was rewritten .* stays in force")
        assert content(source) == "one"
    with opened(remote, on_rewrite="hold") as source:
        refused(source, "stays in force")
    with opened(remote) as source:
        assert "was rewritten" in source.fetch()[1]


def test_a_tag_that_moved_is_a_rewrite(remote: Remote) -> None:
    remote.publish("one")
    remote.git("tag", "-a", "-m", "v1", "v1")
    remote.push("v1")
    with opened(remote, tag="v1") as source:
        revision, _ = source.fetch()
        assert (revision.ref, revision.commit) == ("v1", remote.git("rev-parse", "HEAD"))
        remote.publish("two")
        assert source.fetch() == (revision, "")
        remote.git("tag", "-f", "-a", "-m", "v1", "v1")
        remote.push("v1")
        assert "tag v1 was moved" in source.fetch()[1]
        assert content(source) == "two"


def signers(tmp_path: Path, *entries: str) -> Path:
    """Allowed signers: the key `asa` with these options."""
    key = (tmp_path / "asa.pub").read_text().strip()
    file = tmp_path / "signers"
    file.write_text("".join(f"{entry} {key}\n" for entry in entries))
    return file


def test_only_what_trusted_ssh_keys_signed_is_taken(remote: Remote, tmp_path: Path) -> None:
    asa, mallory = ssh_key(tmp_path / "asa"), ssh_key(tmp_path / "mallory")
    allowed = signers(tmp_path, 'asa@example.org namespaces="git",valid-before="20261201"')
    remote.sign_with(asa)
    remote.commit(date="2026-11-25T03:00:00Z")
    remote.push()
    with opened(remote, verify_ssh=allowed) as source:
        assert source.fetch()[0].signer == "asa@example.org"
        good = remote.git("rev-parse", "HEAD")

        remote.sign_with(None)
        # a repository does not say what is trusted
        remote.commit("signers", (tmp_path / "mallory.pub").read_text())
        remote.push()
        assert "git commit -S" in refused(source, "is not signed")

        remote.sign_with(mallory)
        remote.publish()
        assert str(allowed) in refused(source, "none of the keys that are trusted made it")

        remote.sign_with(asa)
        remote.commit(date="2026-12-02T03:00:00Z")
        remote.push()
        refused(source, "none of the keys that are trusted made it")

        # signed, then changed
        raw = remote.git("cat-file", "commit", good).replace("asa@example.org>", "eve@example.org>", 1) + "\n"
        command = ["git", "-C", remote.work, "hash-object", "-t", "commit", "-w", "--stdin"]
        forged = subprocess.run(command, input=raw, text=True, stdout=subprocess.PIPE, check=True).stdout.strip()
        remote.push(f"{forged}:refs/heads/main")
        refused(source, "not what was signed")
        assert source.revision
        assert source.revision.commit == good


def test_of_a_tag_the_tag_is_verified_under_its_own_name(remote: Remote, tmp_path: Path) -> None:
    asa = ssh_key(tmp_path / "asa")
    verify = {"verify_ssh": signers(tmp_path, "asa@example.org")}
    remote.publish("one")
    remote.sign_with(asa)
    remote.git("tag", "-s", "-m", "v1", "v1")
    remote.push("v1")
    # the server shows one release as another
    remote.push("v1:refs/tags/v2")
    remote.sign_with(None)
    remote.git("tag", "-a", "-m", "v3", "v3")
    remote.push("v3")
    with opened(remote, tag="v1", **verify) as source:
        assert source.fetch()[0].signer == "asa@example.org"
    with opened(remote, tag="v2", **verify) as source:
        refused(source, "was signed as tag v1")
    with opened(remote, tag="v3", **verify) as source:
        refused(source, "is not signed")


def test_only_what_trusted_gpg_keys_signed_is_taken(remote: Remote, tmp_path: Path) -> None:
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    remote.env["GNUPGHOME"] = str(home)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    keys = {}
    try:
        # GPG's clock stands still where it makes and uses the key that will have expired
        for name, clock, expiry in (("asa", [], "0"), ("old", ["--faked-system-time", "20200101T000000"], "1d")):
            make = [
                "--passphrase",
                "",
                "--quick-generate-key",
                f"{name} <{name}@example.org>",
                "ed25519",
                "sign",
                expiry,
            ]
            subprocess.run([*gpg, *clock, *make], check=True, stderr=subprocess.DEVNULL)
            keys[name] = tmp_path / f"{name}.asc"
            subprocess.run([*gpg, "--export", "--armor", "--output", keys[name], name], check=True)
        remote.sign_with("asa@example.org")
        remote.publish("one")
        with opened(remote, verify_gpg=keys["asa"]) as source:
            assert source.fetch()[0].signer == "asa <asa@example.org>"
        with opened(remote, verify_gpg=keys["old"]) as source:
            # not even what was in force before
            assert source.revision is None
            refused(source, "none of the keys that are trusted made it")
        program = tmp_path / "gpg-of-2020"
        program.write_text('#!/bin/sh\nexec gpg --faked-system-time 20200101T000001 "$@"\n')
        program.chmod(0o755)
        remote.sign_with("old@example.org")
        remote.git("config", "gpg.program", str(program))
        remote.publish("two")
        with opened(remote, verify_gpg=keys["old"]) as source:
            refused(source, "the key has expired")
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


def test_a_remote_that_is_gone_changes_nothing(remote: Remote) -> None:
    remote.publish("one")
    with opened(remote) as source:
        source.fetch()
        remote.push("main:other")
        subprocess.run(["git", "-C", remote.bare, "update-ref", "-d", "refs/heads/main"], check=True, env=remote.env)
        refused(source, "there is no branch main in")
        remote.bare.rename(remote.bare.with_name("moved.git"))
        refused(source, "does not appear to be a git repository")


def test_a_folder_that_is_not_in_the_repository_changes_nothing(remote: Remote) -> None:
    remote.commit("hosts/a/lan.yaml", "one")
    remote.push()
    with opened(remote, path="hosts/a") as source:
        source.fetch()
        remote.git("mv", "hosts/a", "hosts/b")
        remote.commit("more.yaml")
        remote.push()
        assert "--path" in refused(source, "there is no folder hosts/a in")
        assert content(source) == "one"


def test_a_restart_needs_no_network(remote: Remote) -> None:
    remote.publish("one")
    with opened(remote) as source:
        revision, _ = source.fetch()
    remote.bare.rename(remote.bare.with_name("moved.git"))
    # neither what somebody wrote there nor what a crash has emptied is in force
    (source.folder / "lan.yaml").write_text("")
    (source.folder / "more.yaml").write_text("kind: Network")
    with opened(remote) as again:
        assert again.revision == revision
        assert content(again) == "one"
        assert not (again.folder / "more.yaml").exists()
        refused(again, "does not appear to be a git repository")
    with opened(remote, branch="other") as other:
        assert other.revision is None


def test_a_damaged_mirror_is_made_anew(remote: Remote) -> None:
    remote.commit("pool.yaml", "a pool")
    remote.publish("one")
    with opened(remote) as source:
        source.fetch()
        # what did not change is not sent again
        blob = remote.git("rev-parse", "HEAD:pool.yaml")
        (pack,) = (source.folder.parent / "repository/objects/pack").glob("*.pack")
        packed = remote.git("verify-pack", "-v", str(pack)).splitlines()
        offset = next(int(line.split()[4]) for line in packed if line.startswith(blob))
        pack.chmod(0o600)
        with pack.open("r+b") as file:
            file.seek(offset + 3)
            file.write(b"????")
        remote.publish("two")
        source.fetch()
        assert (content(source), content(source, "pool.yaml")) == ("two", "a pool")
    with opened(remote) as again:
        assert content(again) == "two"


def test_a_cache_is_one_daemons(remote: Remote) -> None:
    remote.publish("one")
    with opened(remote) as source:
        source.fetch()
        with pytest.raises(SourceError, match=rf"another kvmstate run \(pid {os.getpid()}\)"), opened(remote):
            pass
    with opened(remote) as source:
        assert content(source) == "one"


def test_a_kill_in_the_middle_of_a_fetch_leaves_what_was_in_force(remote: Remote, tmp_path: Path) -> None:
    remote.publish("one")
    (tmp_path / "token").write_text("s3cr3t")
    with web(tmp_path, token="s3cr3t") as server:
        settings = {"url": server.url, "token": tmp_path / "token"}
        with opened(remote, **settings) as source:
            revision, _ = source.fetch()
        last = remote.publish("two")
        server.stall = threading.Event()
        code = (
            "import sys; from pathlib import Path; from kvmstate.sources.git import *\n"
            "url, token, cache = sys.argv[1:]\n"
            "GitSource(Git(url, 'main', token=Path(token)), Path(cache)).fetch()"
        )
        command = [sys.executable, "-c", code, server.url, str(tmp_path / "token"), str(tmp_path / "cache")]
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) as daemon:
            assert server.stall.wait(30)
            running = [path for path in Path("/proc").glob("[0-9]*") if str(tmp_path / "cache").encode() in said(path)]
            assert len(running) > 1
            assert not any(b"s3cr3t" in said(path) for path in running)
            daemon.send_signal(signal.SIGKILL)
        server.stall = None
        until(lambda: not any(said(path) for path in running), "the end of git", 10)
        # as one that was killed at another moment leaves them
        for name in ("shallow.lock", "config.lock", "refs/kvmstate/fetched.lock"):
            (tmp_path / "cache/repository" / name).touch()
        with opened(remote, **settings) as source:
            assert source.revision == revision
            assert content(source) == "one"
            assert source.fetch()[0].commit == last
            assert content(source) == "two"


def said(process: Path) -> bytes:
    """A process' arguments and environment; nothing when it has ended."""
    try:
        return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:
        return b""


def test_a_server_that_falls_silent_does_not_hold_anything_up(remote: Remote, tmp_path: Path) -> None:
    remote.publish("one")
    with web(tmp_path) as server, opened(remote, url=server.url, timeout=1) as source:
        source.fetch()
        remote.publish("two")
        server.stall = threading.Event()
        since = time.monotonic()
        refused(source, "git fetch for .* did not end within 1 s")
        assert time.monotonic() - since < 10
        server.stall = None
        source.fetch()
        assert content(source) == "two"


def test_what_is_trusted_is_not_kept_where_a_repository_writes(remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in the cache"), opened(remote, verify_ssh=tmp_path / "cache/current/signers"):
        pass
    with pytest.raises(UsageError, match="not a name that git allows"), opened(remote, branch="main:evil"):
        pass
