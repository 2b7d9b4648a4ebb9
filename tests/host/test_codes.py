"""What libvirt's error codes and numbers tell is taken from them, whatever language the host's daemon speaks."""

from __future__ import annotations

import errno

import libvirt
import pytest

from kvmstate.errors import ConnectionFailed
from kvmstate.host.connection import open_host
from kvmstate.host.faults import translate, unreachable
from kvmstate.host.hints import DAEMON, NO_DAEMON, NOT_LET_IN, SILENT_SSH
from kvmstate.model.uri import meant

SYSTEM = libvirt.VIR_ERR_SYSTEM_ERROR
STORAGE, RPC, QEMU = libvirt.VIR_FROM_STORAGE, libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_QEMU


def german(code: int, domain: int, said: str, number: int = -1) -> libvirt.libvirtError:
    """As libvirt's binding gives it: libvirt's translations are in packages of their own."""
    error = libvirt.libvirtError(said)
    error.err = (code, domain, said, 2, "%s", said, None, number, -1)
    return error


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (german(SYSTEM, STORAGE, "Kein Speicherplatz mehr frei", errno.ENOSPC), "free some space"),
        (german(SYSTEM, QEMU, "Zugriff auf »/srv/x« verweigert", errno.EACCES), "check owner and modes"),
        (german(SYSTEM, STORAGE, "Datei zu groß", errno.EFBIG), "lower capacity"),
        (german(SYSTEM, QEMU, "Datei oder Verzeichnis nicht gefunden", errno.ENOENT), "is on the host"),
        (german(libvirt.VIR_ERR_STORAGE_VOL_EXIST, STORAGE, "Datenträger »v« besteht bereits"), "kvmstate adopt"),
        (german(libvirt.VIR_ERR_AUTH_UNAVAILABLE, 0, "Authentifizierung nicht verfügbar"), "usermod -aG libvirt"),
        (german(libvirt.VIR_ERR_AGENT_UNRESPONSIVE, QEMU, "Gastagent antwortet nicht"), "qemu-guest-agent"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_host_of_another_language_has_the_same_mends(error: libvirt.libvirtError, fix: str) -> None:
    assert fix in translate(error).hint


@pytest.mark.parametrize(
    ("uri", "error", "fix"),
    [
        ("qemu:///system", german(SYSTEM, RPC, "Zugriff verweigert", errno.EACCES), "usermod -aG libvirt"),
        ("qemu:///system", german(SYSTEM, RPC, "Datei nicht gefunden", errno.ENOENT), NO_DAEMON),
        ("qemu:///system", german(SYSTEM, RPC, "Verbindungsaufbau abgelehnt", errno.ECONNREFUSED), NO_DAEMON),
        ("qemu:///system", german(libvirt.VIR_ERR_AUTH_FAILED, 0, "Anmeldung gescheitert"), NOT_LET_IN),
        ("qemu+ssh://h/system", german(SYSTEM, RPC, "Datenübergabe unterbrochen", errno.EPIPE), SILENT_SSH),
        ("qemu+ssh://h/system", german(SYSTEM, RPC, "Cannot recv data: : Reset", errno.ECONNRESET), SILENT_SSH),
        ("qemu+libssh2://h/system", german(libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_FROM_SSH, "nein"), "keyfile="),
        ("qemu+tcp://h/system", german(SYSTEM, RPC, "Verbindungsaufbau abgelehnt", errno.ECONNREFUSED), DAEMON),
    ],
    ids=lambda value: str(value)[:40],
)
def test_why_a_host_cannot_be_reached_is_told_by_numbers(uri: str, error: libvirt.libvirtError, fix: str) -> None:
    assert fix in unreachable(uri, error).hint


@pytest.mark.parametrize(
    ("typed", "better"),
    [
        ("qemu+shh://root@kvm1/system", "qemu+ssh://root@kvm1/system"),
        ("qemu+sssh://h/system?keyfile=/x", "qemu+ssh://h/system?keyfile=/x"),
        ("qemu//system", "qemu:///system"),
        ("qemu:system", "qemu:///system"),
        ("qemu:///sytem", "qemu:///system"),
        ("qemu:///sesion", "qemu:///session"),
        ("qemu:///system/", "qemu:///system"),
        ("quemu+ssh://a@b/session", "qemu+ssh://a@b/session"),
        ("qemu+ssh://root@kvm1", "qemu+ssh://root@kvm1/system"),
        ("qemu+ssh:root@kvm1/system", "qemu+ssh://root@kvm1/system"),
        ("qemu+ssh:/root@kvm1/system", "qemu+ssh://root@kvm1/system"),
        ("kvm1", "qemu+ssh://root@kvm1/system"),
        ("admin@kvm1.example.org:2222", "qemu+ssh://admin@kvm1.example.org:2222/system"),
        ("ssh://root@kvm1", "qemu+ssh://root@kvm1/system"),
        ("kvm:///system", "qemu:///system"),
        ("system", "qemu:///system"),
    ],
)
def test_a_mistyped_address_has_a_guess(typed: str, better: str) -> None:
    assert meant(typed) == better
    error = german(libvirt.VIR_ERR_NO_CONNECT, 0, "kein Treiber")
    assert unreachable(typed, error).hint == f"did you mean {better}?"


@pytest.mark.parametrize(
    "right",
    [
        "qemu:///system",
        "qemu:///session?socket=/nowhere",
        "qemu:/system",
        "qemu+ssh://kvm1:22/system",
        "qemu+tls://10.0.0.5/system",
        "qemu+unix:///system?socket=/run/x",
        "qemu:///embed?root=/a",
        "test:///default",
        "test:///etc/a.xml",
        "esx://h/?no_verify=1",
        "lxc:///",
        "two words",
    ],
)
def test_what_may_be_right_is_not_guessed_at(right: str) -> None:
    assert meant(right) == ""


def test_a_guess_tells_no_secret() -> None:
    with pytest.raises(ConnectionFailed) as failed, open_host("qemu+shh://root:hunter2@kvm1/system?auth=hunter2"):
        pass
    assert "did you mean qemu+ssh://root:***@kvm1/system" in failed.value.hint
    assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize(
    "said",
    [
        "cannot open qemu+ssh://me:s3cret@h/system?x=s3cret",
        "unsupported configuration: <graphics type='vnc' passwd='s3cret'/>",
        'Parameter "password": "s3cret" is too long',
        "-object secret,id=a,data=b,my-password=s3cret,x: no such thing",
        "curl: https://h/image?sig=s3cret: 404",
    ],
)
def test_what_libvirt_repeats_of_secrets_is_not_told(said: str) -> None:
    told = translate(german(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, said))
    assert "s3cret" not in str(told)
    assert "***" in told.message


def test_secrets_of_libvirts_own_are_named() -> None:
    said = "Secret not found: no secret with matching uuid '5f9a'"
    assert translate(german(libvirt.VIR_ERR_NO_SECRET, libvirt.VIR_FROM_SECRET, said)).message == said
