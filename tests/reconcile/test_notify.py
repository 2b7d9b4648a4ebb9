"""Notifications reach real receivers, once and not too often, and receivers that fail harm nobody."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope
from harness import until

from kvmstate.errors import ManifestErrors, UsageError
from kvmstate.manifest.notifications import Email, Slack, Webhook
from kvmstate.manifest.project import load_project
from kvmstate.manifest.reach import Reach
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.notify import receiver
from kvmstate.reconcile.notify.credentials import Credentials
from kvmstate.reconcile.notify.notifier import Notifier
from kvmstate.reconcile.status_store import ConditionType, ResourceStatus, State, StatusStore, Sync

WEB, DB = ResourceId("domain", "web"), ResourceId("domain", "db")


class Hook:
    """A receiver of webhooks, which answers `status`, once `answers` is set."""

    def __init__(self) -> None:
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        self.got: list[tuple[str, dict[str, str], Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.answers.wait(30)
                hook.got.append((self.path, dict(self.headers), body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def messages(self) -> list[str]:
        return [body["message"] for _, _, body in self.got]

    def gets(self, count: int) -> list[str]:
        until(lambda: len(self.got) >= count, f"{count} messages")
        return self.messages()

    def close(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    opened = Hook()
    yield opened
    opened.close()


@pytest.fixture
def status() -> StatusStore:
    return StatusStore(State(project="shop", host="qemu:///system"))


@pytest.fixture
def tell(status: StatusStore, tmp_path: Path) -> Iterator[Callable[..., Notifier]]:
    notifier = Notifier(status)

    def configure(*to: Any) -> Notifier:
        notifier.configure(to, Credentials(project=tmp_path, reach=Reach.of([tmp_path])))
        return notifier

    yield configure
    notifier.close()


def said(status: StatusStore, reason: str) -> list[str]:
    return [event.message for event in status.events() if event.reason == reason]


def test_a_webhook_gets_what_it_asked_for(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("hush\n")
    notifier = tell(Webhook(type="webhook", url=hook.url, token_file="token", on=["drift", "failure"]))
    status.update_resources([ResourceStatus(WEB, Sync.IN_SYNC)])
    status.record_event("DriftCorrected", "cpus: 3 -> 2", WEB)
    status.update_resources([ResourceStatus(WEB, Sync.FAILED, "no memory", "buy some")])
    # nobody asked for recoveries
    status.update_resources([ResourceStatus(WEB, Sync.IN_SYNC)])
    status.set_condition(ConditionType.MANIFESTS, UsageError("m.yaml:1: no"))
    hook.gets(3)
    path, headers, first = hook.got[0]
    assert (path, headers["Authorization"]) == ("/hook", "Bearer hush")
    assert {k: v for k, v in first.items() if k != "time"} == {
        "format_version": "1.0",
        "topic": "drift",
        "about": "domain/web",
        "reason": "DriftCorrected",
        "message": "cpus: 3 -> 2",
        "project": "shop",
        "host": "qemu:///system",
        "resource": "domain/web",
        "hint": "",
        "revision": "",
        "held_back": {},
    }
    assert hook.messages()[1:] == ["no memory", "m.yaml:1: no"]
    until(lambda: notifier.counts["webhook", "sent"] == 3, "the last one counts as sent")


def test_slack_gets_text_from_which_nobody_can_break_out(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook, tmp_path: Path
) -> None:
    (tmp_path / "slack").write_text(hook.url)
    tell(Slack(type="slack", url_file="slack"))
    status.record_event("DriftCorrected", "title: <!channel> & \x1b[31m", WEB)
    until(lambda: hook.got, "a message")
    assert hook.got[0][2] == {
        "text": "[shop] domain/web: DriftCorrected on qemu:///system\ntitle: &lt;!channel&gt; &amp; \\x1b[31m"
    }


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", *kind, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


class Mails:
    def __init__(self) -> None:
        self.got: list[Envelope] = []
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.got.append(envelope)
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=True)


@pytest.mark.parametrize("encryption", ["starttls", "none"])
def test_an_email_is_sent_with_encryption_unless_told_otherwise(
    encryption: Any,
    status: StatusStore,
    tell: Callable[..., Notifier],
    certificate: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    (tmp_path / "password").write_text("hush")
    mails, encrypted = Mails(), encryption == "starttls"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    secure = {"tls_context": context, "require_starttls": True, "authenticator": mails.authenticate}
    server = Controller(mails, "localhost", port=0, **(secure if encrypted else {}))
    # it finds a free port only when it is told one
    server.port = _free_port()
    server.start()
    try:
        login = {"username": "ops", "password_file": "password"} if encrypted else {}
        tell(
            Email(
                type="email",
                server=f"localhost:{server.port}",
                encryption=encryption,
                sender="kvmstate@example.org",
                to=["ops@example.org", "boss@example.org"],
                **login,
            )
        )
        status.update_resources([ResourceStatus(WEB, Sync.FAILED, "no memory\nat all", "buy some")])
        until(lambda: mails.got, f"a mail, or {said(status, 'NotificationFailed')}")
    finally:
        server.stop()
    mail = message_from_bytes(mails.got[0].content)
    assert mails.got[0].rcpt_tos == ["ops@example.org", "boss@example.org"]
    assert mail["Subject"] == "[shop] domain/web: Failed"
    assert "no memory\nat all\nhint: buy some" in mail.get_payload().replace("\r\n", "\n")
    assert mails.logins == ([(b"ops", b"hush")] if encrypted else [])


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_the_same_news_is_sent_once_until_it_changes(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook
) -> None:
    tell(Webhook(type="webhook", url=hook.url))
    for _ in range(5):
        status.record_event("DriftCorrected", "cpus: 3 -> 2", WEB)
    status.record_event("DriftCorrected", "cpus: 4 -> 2", WEB)
    status.record_event("DriftCorrected", "cpus: 3 -> 2", WEB)
    status.record_event("DriftCorrected", "cpus: 3 -> 2", DB)
    assert hook.gets(4) == ["cpus: 3 -> 2", "cpus: 4 -> 2", "cpus: 3 -> 2", "cpus: 3 -> 2"]
    assert hook.got[3][2]["resource"] == "domain/db"


def test_so_many_are_sent_an_hour_and_the_rest_is_summed_up(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "HOUR", 1.5)
    notifier = tell(Webhook(type="webhook", url=hook.url, per_hour=2))
    began = time.monotonic()
    for number in range(10):
        status.record_event("DriftCorrected", f"{number}", WEB)
    status.update_resources([ResourceStatus(DB, Sync.FAILED, "no memory")])
    found = hook.gets(3)
    assert time.monotonic() - began >= 1.5
    assert found == ["0", "1", "9 held back (8 drift, 1 failure); the last one: domain/db: Failed: no memory"]
    assert hook.got[2][2]["held_back"] == {"drift": 8, "failure": 1}
    until(lambda: notifier.counts["webhook", "sent"] == 3, "the third message counted as sent")
    assert notifier.counts["webhook", "held"] == 9


def test_a_receiver_that_fails_is_tried_again_and_said_once(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(receiver, "RETRIES", (0.05,))
    secret = tmp_path / "secret"
    secret.write_text(f"{hook.url}/T0/hush")
    hook.status = 503
    tell(Slack(type="slack", url_file="secret"))
    status.record_event("DriftCorrected", "cpus: 3 -> 2", WEB)
    until(lambda: len(hook.got) > 3, "further tries")
    hook.status = 200
    until(lambda: said(status, "NotificationRecovered"), "it is said to be over")
    assert said(status, "NotificationFailed") == ["slack secret: it answers 503"]
    # nobody listens there, or it is not a URL: what the file holds is never said
    for text, why in (
        ("http://127.0.0.1:1/T0/hush", "refused"),
        ("ftp://hush", "not a URL"),
        ("", "expected one line"),
    ):
        secret.write_text(text)
        count = len(said(status, "NotificationFailed"))
        status.record_event("DriftCorrected", f"because of {why}", WEB)
        until(lambda n=count: len(said(status, "NotificationFailed")) > n, "the next failure")  # type: ignore[misc]
        assert why in said(status, "NotificationFailed")[-1]
        secret.write_text(hook.url)
        until(lambda n=count: len(said(status, "NotificationRecovered")) > n, "it is over")  # type: ignore[misc]
    assert "hush" not in str(status.events())


def test_a_receiver_that_never_answers_holds_up_nobody(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Hook()
    stuck.answers.clear()
    try:
        notifier = tell(Webhook(type="webhook", url=stuck.url), Webhook(type="webhook", url=hook.url))
        began = time.monotonic()
        for number in range(300):
            status.record_event("DriftCorrected", f"{number}", WEB)
        assert time.monotonic() - began < 5
        assert hook.gets(20)
        # what the one that is stuck is to get is bounded
        until(lambda: notifier.counts["webhook", "held"] >= 199, "what is too much is held back")
    finally:
        stuck.close()


def test_receivers_that_are_configured_anew_replace_those_before(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook
) -> None:
    tell(Webhook(type="webhook", url=hook.url))
    tell(Webhook(type="webhook", url=hook.url))
    status.record_event("DriftCorrected", "one", WEB)
    hook.gets(1)
    tell(Webhook(type="webhook", url=hook.url + "/other"))
    status.record_event("DriftCorrected", "two", WEB)
    assert hook.gets(2) == ["one", "two"]
    assert [path for path, _, _ in hook.got] == ["/hook", "/hook/other"]


def test_a_receiver_that_is_new_is_told_what_is_wrong_already(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook
) -> None:
    status.set_condition(ConditionType.MANIFESTS, UsageError("m.yaml:1: no"))
    status.update_resources([ResourceStatus(WEB, Sync.FAILED, "no memory"), ResourceStatus(DB, Sync.IN_SYNC)])
    known = Webhook(type="webhook", url=hook.url)
    tell(known)
    assert hook.gets(2) == ["m.yaml:1: no", "no memory"]
    # the one that was told is not told again
    tell(known, Webhook(type="webhook", url=hook.url + "/other"))
    hook.gets(4)
    assert [path for path, _, _ in hook.got] == ["/hook", "/hook", "/hook/other", "/hook/other"]


def test_who_stands_by_for_another_daemon_tells_nobody(
    status: StatusStore, tell: Callable[..., Notifier], hook: Hook
) -> None:
    tell(Webhook(type="webhook", url=hook.url))
    status.update(standby="ops@other")
    status.set_condition(ConditionType.MANIFESTS, UsageError("m.yaml:1: no"))
    status.update(standby="")
    status.record_event("DriftCorrected", "cpus: 3 -> 2", WEB)
    assert hook.gets(1) == ["cpus: 3 -> 2"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"type": "webhook"}, "expected url or urlFile, one of them"),
        ({"type": "webhook", "url": "http://a", "urlFile": "b"}, "expected url or urlFile, one of them"),
        ({"type": "webhook", "url": "https://ops:hush@a/"}, "a URL with a password belongs into a file: urlFile"),
        ({"type": "webhook", "url": "file:///etc/passwd"}, "expected a URL such as https://"),
        ({"type": "webhook", "url": "http://a:99999/"}, "expected a URL such as https://"),
        ({"type": "slack", "url": "https://hooks.slack.com/services/T0"}, "unknown field"),
        ({"type": "pigeon"}, "expected one of webhook, slack, email; found 'pigeon'"),
        ({"type": "slack", "urlFile": "a", "on": []}, "at least 1"),
        ({"type": "slack", "urlFile": "a", "on": ["drfit"]}, "expected one of drift, failure, recovery"),
        ({"type": "email", "server": "a:0", "from": "a@b", "to": ["a@b"]}, "expected a server such as"),
        ({"type": "email", "server": "a", "from": "a@b", "to": ["a b"]}, "expected an address such as ops@example.org"),
        (
            {"type": "email", "server": "a", "from": "a@b", "to": ["a@b"], "username": "a"},
            "username and passwordFile go together",
        ),
        (
            {
                "type": "email",
                "server": "a",
                "from": "a@b",
                "to": ["a@b"],
                "username": "a",
                "passwordFile": "b",
                "encryption": "none",
            },
            "a password is not sent without encryption",
        ),
    ],
)
def test_settings_that_will_not_do(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    settings = {"project": "shop", "reconcile": {"notifications": [given]}}
    (tmp_path / "kvmstate.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ManifestErrors) as failed:
        load_project(tmp_path)
    assert says in str(failed.value)
    assert "reconcile.notifications[0]" in str(failed.value)
