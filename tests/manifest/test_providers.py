"""Where values of secrets are: each provider, with the program itself where this machine has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmstate.errors import UsageError
from kvmstate.manifest import providers as module
from kvmstate.manifest.providers import NotGiven, providers

SECRET = "one-secret"


def read(place: str) -> bytes:
    return providers([f"it={place}"], [], []).read("it")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not here")


def test_a_file_and_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "it").write_text(f"{SECRET}\n")
    monkeypatch.setenv("IT", SECRET)
    assert read(f"file:{tmp_path}/it") == b"one-secret\n"
    assert read("env:IT") == b"one-secret"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read("credential:it") == b"one-secret\n"


@needs("age")
def test_age(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
    public = key.read_text().partition("public key: ")[2].split()[0]
    command = ["age", "--encrypt", "--recipient", public, "--output", tmp_path / "it.age"]
    subprocess.run(command, input=SECRET.encode(), check=True)
    assert read(f"age:{tmp_path}/it.age#{key}") == b"one-secret"
    with pytest.raises(NotGiven, match=r"age failed.*no such file"):
        read(f"age:{tmp_path}/no-such#{key}")
    with pytest.raises(NotGiven, match="expected age:FILE#IDENTITY"):
        read(f"age:{tmp_path}/it.age")


@needs("pass")
@needs("gpg")
def test_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a socket's path is short
    home = Path("/tmp") / f"kvmstate-gpg-{os.getpid()}"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    monkeypatch.setenv("PASSWORD_STORE_DIR", str(tmp_path))
    try:
        new = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "kvmstate", "default", "default", "never"]
        subprocess.run(new, check=True, capture_output=True)
        subprocess.run(["pass", "init", "kvmstate"], check=True, capture_output=True)
        said = f"{SECRET}\nuser: kvm1\n".encode()
        subprocess.run(["pass", "insert", "--multiline", "kvm/ceph"], input=said, check=True, capture_output=True)
        assert read("pass:kvm/ceph") == b"one-secret"
        with pytest.raises(NotGiven, match=r"pass failed.*not in the password store"):
            read("pass:kvm/none")
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)
        shutil.rmtree(home)


@needs("systemd-creds")
@pytest.mark.skipif(os.geteuid() != 0, reason="the host's key is root's")
def test_systemd_creds(tmp_path: Path) -> None:
    command = ["systemd-creds", "encrypt", "--with-key=host", "--name=it", "-", str(tmp_path / "it")]
    if subprocess.run(command, input=SECRET.encode(), capture_output=True, check=False).returncode:
        pytest.skip("this machine has no key for credentials")
    assert read(f"systemd-creds:{tmp_path}/it") == b"one-secret"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A program in place of sops, which distributions do not have; it logs its arguments."""

    def put(text: str) -> Path:
        path, log = tmp_path / "bin" / "sops", tmp_path / "log"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"#!{sys.executable}\nimport sys, time\nopen({str(log)!r}, 'w').write(repr(sys.argv[1:]))\n{text}\n"
        )
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        return log

    return put


def test_sops_is_asked_for_one_value_without_a_shell(program: Callable[[str], Path]) -> None:
    log = program("print('one-secret', end='')")
    assert read("sops:/etc/a; touch /tmp/b.yaml#ceph.key") == b"one-secret"
    assert log.read_text() == repr(["--decrypt", "--extract", '["ceph"]["key"]', "/etc/a; touch /tmp/b.yaml"])


def test_what_a_program_says_is_told_and_none_is_waited_for(
    program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    program("sys.exit('no key for this file')")
    with pytest.raises(NotGiven, match=r"sops failed \(1\): no key for this file"):
        read("sops:a.yaml")
    program("time.sleep(60)")
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    began = time.monotonic()
    with pytest.raises(NotGiven, match=r"has not ended within 0\.5 s"):
        read("sops:a.yaml")
    assert time.monotonic() - began < 10
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotGiven, match="sops cannot be run: No such file"):
        read("sops:a.yaml")


@pytest.mark.parametrize(
    "text", ["it", "it=", "it=file:", "it=exec:rm -rf /", "it=rm", "=file:/a", "it=sops:--config", "i t=file:/a"]
)
def test_what_is_no_provider_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        providers([text], [], [])


def test_a_file_of_them_lies_outside_of_the_repository(tmp_path: Path) -> None:
    repository, outside = tmp_path / "repository", tmp_path / "outside"
    for folder in (repository, outside):
        folder.mkdir()
        (folder / "secrets.yaml").write_text("it: file:value\nother: env:OTHER\n")
    (outside / "value").write_text(SECRET)
    found = providers(["other=file:/a"], [outside / "secrets.yaml"], [repository])
    assert found.read("it") == SECRET.encode()
    assert found.places["other"].word == "file"
    (outside / "link.yaml").symlink_to(repository / "secrets.yaml")
    (repository / "link.yaml").symlink_to(outside / "secrets.yaml")
    for file in (repository / "secrets.yaml", outside / "link.yaml", repository / "link.yaml"):
        with pytest.raises(UsageError, match="it lies in"):
            providers([], [file], [repository])
