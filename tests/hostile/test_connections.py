"""What a file says of the connection: a host, and never a program, a key, or whom to believe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bounds import bounded
from saved import SAVED

from kvmstate.model.uri import Refused, check, misspelt, redacted, without_secrets

EVIL = (
    "qemu+ssh://nohost.invalid/system?command={}",
    "qemu+ssh://nohost.invalid/system?Command={}",
    "qemu+ssh://nohost.invalid/system?%63ommand={}",
    "qemu+ssh://nohost.invalid/system?no_tty=1;command={}",
    "qemu+ext:///system?command={}",
    "qemu+ext:///session?command={}",
    "test+ext:///default?command={}",
)
REFUSED = (
    "qemu+ssh://host/system?netcat=/tmp/x",
    "qemu+ssh://host/system?keyfile=/root/.ssh/id_rsa",
    "qemu+ssh://host/system?known_hosts=/dev/null",
    "qemu+ssh://host/system?known_hosts_verify=ignore",
    "qemu+ssh://host/system?no_verify=1",
    "qemu+ssh://host/system?proxy=netcat",
    "qemu+ssh://host/system?sshauth=password",
    "qemu+ssh://host/system?socket=/tmp/x",
    "qemu+ssh://host/system?name=qemu:///embed",
    "qemu+ssh://-oProxyCommand=x/system",
    "qemu+ssh://-oProxyCommand=x@host/system",
    "qemu+ssh://%2DoProxyCommand=x@host/system",
    "qemu+ssh://host%20-x/system",
    "qemu+ssh://ho$(x)st/system",
    "qemu+ssh://root:hunter2@host/system",
    "qemu+ssh://host/system\nx",
    "qemu+libssh2://host/system",
    "qemu+libssh://host/system?known_hosts_verify=auto",
    "qemu+tcp://host/system",
    "qemu+tls://host/system?no_verify=1",
    "qemu+tls://host/system?no_sanity=1",
    "qemu+tls://host/system?pkipath=/tmp",
    "qemu+tls://host/system?tls_priority=NORMAL:-VERS-ALL",
    "qemu://host/system?no_verify=1",
    "qemu+unix:///system?socket=relative",
    "qemu+unix://host/system",
    "qemu:///embed?root=/tmp",
    "qemu:///system#x",
    "test:///etc/shadow",
    "esx://host/?no_verify=1",
    "vbox+ssh://host/session",
    "-x",
)
TAKEN = (
    "qemu:///system",
    "qemu:///session",
    "qemu+unix:///system?socket=/run/libvirt/libvirt-sock",
    "qemu:///system?socket=/run/x&mode=direct",
    "qemu+ssh://root@kvm1.example.org:2222/system?no_tty=1",
    "qemu+ssh://kvm-1/system?mode=auto",
    "qemu+tls://kvm1.example.org/system",
    "qemu://[fe80::1]/system",
    "test:///default",
    "test+unix:///default?socket=/tmp/x",
    "lab",
)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A program in the repository, which leaves a trace when it is run."""
    program = tmp_path / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    (tmp_path / "m.yaml").write_text("apiVersion: kvmstate/v1\nkind: Network\nmetadata: {name: n}\nspec: {}\n")
    return program


@pytest.mark.parametrize("uri", EVIL)
@pytest.mark.parametrize("where", ["top", "environment", "saved plan"])
def test_no_program_is_run(uri: str, where: str, evil: Path) -> None:
    uri, here = uri.format(evil), evil.parent
    args = ["plan", str(here)]
    if where == "top":
        (here / "kvmstate.yaml").write_text(f"project: x\nconnection: {json.dumps(uri)}\n")
    elif where == "environment":
        (here / "kvmstate.yaml").write_text(f"project: x\nenvironments: {{prod: {{connection: {json.dumps(uri)}}}}}\n")
        args += ["--env", "prod"]
    else:
        (here / "q.json").write_text(json.dumps(SAVED | {"host": uri}))
        args = ["apply", "q.json"]
    done = bounded(*args, cwd=here)
    assert done.code == 1, done
    assert "-c URI" in done.err or "this is not a connection URI" in done.err, done
    assert not (here / "ran").exists(), done


@pytest.mark.parametrize("uri", REFUSED)
def test_what_a_file_may_not_say(uri: str) -> None:
    with pytest.raises(Refused):
        check(uri)


@pytest.mark.parametrize("uri", TAKEN)
def test_what_a_file_may_say(uri: str) -> None:
    assert check(uri) == uri


def test_the_command_line_says_all(evil: Path) -> None:
    done = bounded("plan", str(evil.parent), "-c", EVIL[0].format(evil), cwd=evil.parent)
    assert done.code == 1, done
    assert (evil.parent / "ran").exists(), done


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("qemu+ssh://root:hunter2@h/system", "qemu+ssh://root:***@h/system"),
        ("qemu+ssh://root:hun@ter2@h/system", "qemu+ssh://root:***@h/system"),
        ("qemu+ssh://h/system?command=/x%20hunter2", "qemu+ssh://h/system?command=***"),
        ("esx://h/?proxy=http://u:hunter2@p", "esx://h/?proxy=***"),
        ("qemu+unix:///system?socket=/run/x", "qemu+unix:///system?socket=/run/x"),
        ("https://u:hunter2@h/i.img?sig=hunter2#hunter2", "https://u:***@h/i.img?sig=***#***"),
        ("https://hunter2@h/i.img", "https://***@h/i.img"),
        ("https://h/i.img?hunter2", "https://h/i.img?***"),
        ("lab", "lab"),
    ],
)  # fmt: skip
def test_uris_are_shown_without_secrets(uri: str, shown: str) -> None:
    assert redacted(uri) == shown
    assert without_secrets(f"cannot reach '{uri}', sorry") == f"cannot reach '{shown}', sorry"


@pytest.mark.parametrize("flags", [(), ("--json",)])
@pytest.mark.parametrize("command", ["plan", "status", "drift", "doctor", "unlock"])
def test_a_password_in_a_uri_is_not_printed(command: str, flags: tuple[str, ...], evil: Path) -> None:
    if command == "unlock" and flags:
        return
    uri = "qemu+ssh://root:hunter2@127.0.0.1:9/system?no_tty=1"
    for env in ({}, {"LIBVIRT_DEFAULT_URI": uri}):
        done = bounded(command, *flags, *(() if env else ("-c", uri)), cwd=evil.parent, **env)
        assert done.code == 1, done
        assert "hunter2" not in done.out + done.err, done
        assert "127.0.0.1" in done.out + done.err, done


def test_a_password_in_a_file_is_refused_and_not_repeated(evil: Path) -> None:
    (evil.parent / "kvmstate.yaml").write_text("project: x\nconnection: qemu+ssh://root:hunter2@h/system\n")
    done = bounded("plan", cwd=evil.parent)
    assert done.code == 1, done
    assert "kvmstate.yaml:2:" in done.err, done
    assert "hunter2" not in done.err, done


@pytest.mark.parametrize(
    ("uri", "said", "hint"),
    [
        ("qemu+unix:///system?sokcet=/run/x", "sokcet=", "did you mean socket=? It takes socket, mode"),
        ("qemu:///system?socket=/run/x&mod=direct", "mod=", "did you mean mode=?"),
        ("qemu+ssh://h/system?keyfil=/k", "keyfil=", "did you mean keyfile=?"),
        ("qemu://h/system?pki_path=/k", "pki_path=", "did you mean pkipath=?"),
        ("qemu+tcp://h/system?colour=blue", "colour=", "It takes none"),
        ("qemu+ssh://h/system?keyfile=/k&KeyFile=/k&name=qemu:///system", "", ""),
        ("esx://h/?auto_answer=1", "", ""),
        ("qemu:///embed?root=/x", "", ""),
        ("laptop", "", ""),
    ],
)
def test_a_parameter_that_libvirt_would_pass_over_is_told(uri: str, said: str, hint: str) -> None:
    wrong, fix = misspelt(uri) or ("", "")
    assert (said in wrong, hint in fix) == (True, True), (wrong, fix)
    assert bool(wrong) == bool(said)


def test_another_host_than_was_meant_is_not_asked(tmp_path: Path) -> None:
    """Without the parameter it would be the host of this machine's own socket."""
    (tmp_path / "kvmstate.yaml").write_text("project: shop\n")
    (tmp_path / "m.yaml").write_text("# nothing\n")
    done = bounded("plan", str(tmp_path), "-c", "test+unix:///default?sokcet=/nowhere", cwd=tmp_path)
    assert done.code == 1, done
    assert "libvirt does not know the parameter sokcet=" in done.err
    assert "did you mean socket=?" in done.err
