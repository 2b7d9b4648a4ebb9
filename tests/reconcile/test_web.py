"""The daemon's pages over HTTP: what they say, who may ask, and what a bad client cannot do."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import MAIN, until
from prometheus_client.parser import text_string_to_metric_families

from kvmstate.errors import HostError, UsageError
from kvmstate.kind.policy import Gauge
from kvmstate.model.resource import ResourceId
from kvmstate.reconcile.journal import Journal
from kvmstate.reconcile.metrics import Metrics
from kvmstate.reconcile.stats import Space
from kvmstate.reconcile.status_store import ConditionType, ReconcileResult, ResourceStatus, State, StatusStore, Sync
from kvmstate.reconcile.workqueue import Task, WorkQueue
from kvmstate.web import handler, pages, server
from kvmstate.web.address import Address, default, find, parse
from kvmstate.web.guard import guard
from kvmstate.web.server import Server

TOKEN = "0123456789abcdef0123"


class Daemon:
    """All of a daemon but the loop."""

    def __init__(self) -> None:
        self.status, self.queue, self.alive = StatusStore(State(project="shop")), WorkQueue(), True
        self.journal = Journal(self.status)
        metrics = Metrics(self.status, self.queue)
        self.pages = pages.Pages(self.status, self.journal, metrics, self.queue, lambda: self.alive)
        self.servers: list[Server] = []

    def serve(
        self, address: str, token: Path | None = None, cert: Path | None = None, key: Path | None = None
    ) -> Address:
        at = parse(address)
        started = Server(at, guard(at, token, cert, key, pages.OPEN), self.pages)
        self.servers.append(started)
        started.start()
        return started.address


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    for started in made.servers:
        started.close()


def ask(
    at: Address, path: str, method: str = "GET", tls: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(at.host or "localhost", at.port or None, timeout=20)
    connection.sock = open_socket(at)
    if tls:
        connection.sock = tls.wrap_socket(connection.sock, server_hostname="127.0.0.1")
    with closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def lets_in(at: Address) -> bool:
    try:
        return ask(at, "/healthz")[0] == 200
    except ConnectionError:
        return False


def open_socket(at: Address) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX if at.path else socket.AF_INET)
    opened.settimeout(20)
    opened.connect(str(at.path) if at.path else (at.host, at.port))
    return opened


def status_of(raw: bytes, at: Address) -> int:
    """Of the answer to these bytes; 0 when the connection ends without one."""
    with open_socket(at) as connection:
        connection.sendall(raw)
        return answered(connection)


def answered(connection: socket.socket) -> int:
    try:
        line = connection.makefile("rb").readline()
    except ConnectionResetError:
        line = b""
    return int(line.split()[1]) if line else 0


def test_a_socket_is_for_its_owner_and_group_and_goes_with_the_daemon(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "run" / "shop.sock"
    at = daemon.serve(f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert ask(at, "/healthz") == (200, "ok\n")
    daemon.servers[0].close()
    assert not path.exists()


def test_a_socket_left_behind_is_replaced_one_in_use_is_not(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "shop.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    at = daemon.serve(f"unix:{path}")
    assert ask(at, "/healthz")[0] == 200
    with pytest.raises(UsageError, match="another process listens there"):
        daemon.serve(f"unix:{path}")
    assert ask(at, "/healthz")[0] == 200


def test_a_file_in_the_way_of_the_socket_stays(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "shop.sock").write_text("mine")
    with pytest.raises(UsageError, match=r"cannot listen on unix:.*shop\.sock"):
        daemon.serve(f"unix:{tmp_path / 'shop.sock'}")
    assert (tmp_path / "shop.sock").read_text() == "mine"


@pytest.mark.parametrize(
    "text", ["", "unix:", "9477", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "example.org:80", "::1:80", "a:b:c"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an address to listen on"):
        parse(text)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:127.0.0.1]:0"])
def test_others_machines_need_both_a_token_and_tls(
    address: str, token: Path, certificate: tuple[Path, Path], daemon: Daemon
) -> None:
    for given in ((None, None, None), (token, None, None), (None, *certificate), (token, certificate[0], None)):
        with pytest.raises(UsageError, match="needs a token and TLS"):
            daemon.serve(address, *given)


def test_a_daemon_that_cannot_listen_as_it_is_told_does_not_start(tmp_path: Path) -> None:
    address = "unix:/proc/nowhere/web.sock"
    (tmp_path / "kvmstate.yaml").write_text("project: shop\n")
    command = [sys.executable, "-c", MAIN, "run", str(tmp_path), "--listen", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert address in done.stderr
    assert "hint: " in done.stderr


def test_systemds_folder_comes_first_then_the_users(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert default("shop", env) == Address(tmp_path / "kvmstate" / "shop.sock")
    assert default("shop", env | {"RUNTIME_DIRECTORY": "/run/a:/run/b"}) == Address(Path("/run/a/shop.sock"))
    assert find("shop", env) == default("shop", env)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return tmp_path / "token"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=kvmstate", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", "req", *kind, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_a_token_is_asked_for_by_all_but_the_probes(daemon: Daemon, token: Path) -> None:
    at = daemon.serve("127.0.0.1:0", token)
    assert ask(at, "/healthz")[0] == 200
    for path, method in (("/status", "GET"), ("/metrics", "GET"), ("/events", "GET"), ("/reconcile", "POST")):
        assert ask(at, path, method)[0] == 401
        assert ask(at, path, method, Authorization=f"Bearer {TOKEN[:-1]}")[0] == 401
        assert ask(at, path, method, Authorization="Bearer ")[0] == 401
        assert ask(at, path, method, Authorization=f"Bearer {TOKEN}")[0] in (200, 202)


@pytest.mark.parametrize(("content", "says"), [("short", "less than 16"), ("", "less than 16"), (None, "No such file")])
def test_a_token_that_is_none_is_refused(content: str | None, says: str, daemon: Daemon, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(UsageError, match=says):
        daemon.serve("127.0.0.1:0", tmp_path / "token")


def test_tls(daemon: Daemon, token: Path, certificate: tuple[Path, Path]) -> None:
    at = daemon.serve("0.0.0.0:0", token, *certificate)
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    # a client that never says a word during the handshake stalls nobody
    with open_socket(Address(host="127.0.0.1", port=at.port)):
        here = Address(host="127.0.0.1", port=at.port)
        assert ask(here, "/healthz", tls=trusting) == (200, "ok\n")
        assert ask(here, "/status", tls=trusting)[0] == 401
        assert ask(here, "/status", tls=trusting, Authorization=f"Bearer {TOKEN}")[0] == 200
        assert status_of(b"GET /healthz HTTP/1.0\r\n\r\n", here) == 0


def test_web_pages_in_a_browser_cannot_ask(daemon: Daemon) -> None:
    at = daemon.serve("127.0.0.1:0")
    for host in ("127.0.0.1", f"localhost:{at.port}", "[::1]:80"):
        assert ask(at, "/status", Host=host)[0] == 200
    for headers in ({"Host": "rebound.example"}, {"Host": "127.rebound.example"}, {"Origin": "http://site.example"}):
        assert ask(at, "/status", **headers)[0] == 403
        assert ask(at, "/reconcile", "POST", **headers)[0] == 403
    assert daemon.queue.depth == 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"HEAD /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"POST /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /reconcile HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"BREW /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /status HTTP/9.9\r\n\r\n", 505),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /status HTTP/1.1\r\n" + b"A: b\r\n" * 4000 + b"\r\n", 431),
        (b"GET /status HTTP/1.1\r\n" + b"A: b\r\n" * 150 + b"\r\n", 431),
        (b"GET /status HTTP/1.1\r\nA: " + b"b" * 20_000 + b"\r\n\r\n", 431),
        (b"POST /reconcile HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 202),
        (b"POST /reconcile HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
        (b"POST /reconcile HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /reconcile HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET /events?since=yesterday HTTP/1.1\r\n\r\n", 400),
        (b"GET /events?limit=-1 HTTP/1.1\r\n\r\n", 400),
        (b"GET /events?limit=many HTTP/1.1\r\n\r\n", 400),
        (b"GET /events?wait=nan HTTP/1.1\r\n\r\n", 200),
        (b"GET /events?since=99999999999d HTTP/1.1\r\n\r\n", 400),
        (b"GET /events?" + b"&".join(b"a=b" for _ in range(50)) + b" HTTP/1.1\r\n\r\n", 400),
    ],
    ids=lambda value: value[:40].decode("latin-1").strip() if isinstance(value, bytes) else str(value),
)
def test_whatever_is_sent_is_answered(raw: bytes, status: int, daemon: Daemon) -> None:
    assert status_of(raw, daemon.serve("127.0.0.1:0")) == status


def test_there_is_room_for_so_many_at_once(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    at = daemon.serve("127.0.0.1:0")
    with open_socket(at), open_socket(at) as second:
        with open_socket(at) as one_too_many:
            assert answered(one_too_many) == 503
        second.close()
        until(lambda: lets_in(at), "there is room again", 10)


def test_slow_clients_are_cut_off(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "PATIENCE", 0.5)
    at = daemon.serve("127.0.0.1:0")
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        # a byte from time to time: each is something, and all are no request
        with suppress(OSError):
            while not ended.wait(0.05):
                connection.send(b"G")

    with open_socket(at) as silent, open_socket(at) as slow:
        dripping = threading.Thread(target=drip, args=(slow,))
        dripping.start()
        try:
            assert (answered(silent), answered(slow)) == (0, 0)
        finally:
            ended.set()
            dripping.join()


def test_a_client_that_takes_no_answer_is_cut_off(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "PATIENCE", 2.0)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 1)
    for number in range(1000):
        daemon.status.record_event("Applied", "x" * 3900, ResourceId("domain", f"web-{number}"))
    at = daemon.serve("127.0.0.1:0")
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.connect((at.host, at.port))
        greedy.sendall(b"GET /events HTTP/1.0\r\n\r\n")
        # the answer has begun, and takes the only place
        assert greedy.recv(1)
        assert not lets_in(at)
        until(lambda: lets_in(at), "there is room again", 10)


def test_ready_is_after_the_first_look_while_the_host_answers(daemon: Daemon, tmp_path: Path) -> None:
    at = daemon.serve(f"unix:{tmp_path / 'web.sock'}")
    assert ask(at, "/readyz") == (503, "not ready: FirstPassNotDone\n")
    daemon.status.update(ready=True)
    assert ask(at, "/readyz") == (200, "ok\n")
    daemon.status.set_condition(ConditionType.HOST, HostError("no route to secret.example"))
    assert ask(at, "/readyz") == (503, "not ready: HostUnreachable\n")
    daemon.status.set_condition(ConditionType.HOST, None)
    daemon.status.set_condition(ConditionType.MANIFESTS, UsageError("the last good ones are in force"))
    assert ask(at, "/readyz")[0] == 200


def test_healthy_is_a_loop_that_gives_signs_of_life(daemon: Daemon, tmp_path: Path) -> None:
    at = daemon.serve(f"unix:{tmp_path / 'web.sock'}")
    assert ask(at, "/healthz")[0] == 200
    daemon.alive = False
    assert ask(at, "/healthz")[0] == 503


def test_reconcile_asks_for_the_manifests_and_a_look_at_everything(daemon: Daemon, tmp_path: Path) -> None:
    daemon.queue.retry(Task.MANIFESTS)
    assert ask(daemon.serve(f"unix:{tmp_path / 'web.sock'}"), "/reconcile", "POST")[0] == 202
    assert daemon.queue.drain() == {Task.MANIFESTS, Task.EVERYTHING}


def test_status_says_how_everything_is(daemon: Daemon, tmp_path: Path) -> None:
    web, db = ResourceId("domain", "web"), ResourceId("domain", "db")
    daemon.status.update_resources(
        [ResourceStatus(web, Sync.IN_SYNC), ResourceStatus(db, Sync.FAILED, "no memory", "buy some", failures=2)]
    )
    daemon.status.set_condition(ConditionType.MANIFESTS, UsageError("m.yaml:1: no", "say yes"))
    said = json.loads(ask(daemon.serve(f"unix:{tmp_path / 'web.sock'}"), "/status")[1])
    assert (said["project"], said["ready"], said["counts"]) == ("shop", False, {"Failed": 1, "InSync": 1})
    assert [(r["address"], r["sync"], r["message"], r["failures"]) for r in said["resources"]] == [
        ("domain/db", "Failed", "no memory", 2),
        ("domain/web", "InSync", "", 0),
    ]
    assert said["conditions"][0]["reason"] == "ManifestsInvalid"


def test_events_are_read_on_from_a_number_and_waited_for(daemon: Daemon, tmp_path: Path) -> None:
    at = daemon.serve(f"unix:{tmp_path / 'web.sock'}")
    for number in range(5):
        daemon.status.record_event("Applied", f"change {number}")

    def events(query: str) -> Any:
        return json.loads(ask(at, f"/events?{query}")[1])

    first = events("limit=2")
    assert ([e["message"] for e in first["events"]], first["last"]) == (["change 3", "change 4"], 5)
    paged = events("since=1&limit=2")
    assert ([e["message"] for e in paged["events"]], paged["last"]) == (["change 1", "change 2"], 3)
    assert len(events("since=1h")["events"]) == 5
    assert events("since=2999-01-01")["events"] == []
    assert events("since=5") == {"format_version": "1.0", "last": 5, "events": []}
    later = threading.Timer(0.2, lambda: daemon.status.record_event("DriftCorrected", "waited for"))
    later.start()
    assert [e["message"] for e in events("since=5&wait=20")["events"]] == ["waited for"]


def metrics(at: Address) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(ask(at, "/metrics")[1])
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_metrics(daemon: Daemon, tmp_path: Path) -> None:
    at = daemon.serve(f"unix:{tmp_path / 'web.sock'}")
    web, lan = ResourceId("domain", "web"), ResourceId("network", "lan")
    started = datetime.now(UTC)
    daemon.status.update_resources(
        [ResourceStatus(web, Sync.RESTART_PENDING, "cpus"), ResourceStatus(lan, Sync.IN_SYNC)]
    )
    daemon.status.record_event("DriftCorrected", "cpus: 3 -> 2", web)
    daemon.status.record_result(ReconcileResult(started, 0.2, True, 2, 1, 0))
    daemon.status.record_result(ReconcileResult(started, 0.2, False, 1, 0, 1))
    daemon.status.set_condition(ConditionType.MANIFESTS, UsageError("no"))
    age = Gauge("snapshot_newest_age_seconds", "Age.", started, {"policy": "nightly"})
    daemon.status.update(
        pools={"images": Space(100, 60, 40)},
        gauges=(age,),
    )
    daemon.queue.add(web)
    daemon.queue.retry(lan)
    found = metrics(at)

    def value(name: str, **labels: str) -> float:
        return found[f"kvmstate_{name}", frozenset(labels.items())]

    assert value("resources", kind="domain", sync="RestartPending") == 1
    assert value("resources", kind="network", sync="InSync") == 1
    assert value("resources", kind="network", sync="Failed") == 0
    assert value("restarts_pending") == 1
    assert value("drift_detected_total", kind="domain") == value("drift_corrected_total", kind="domain") == 1
    assert value("controller_reconcile_total", result="success") == 1
    assert value("controller_reconcile_total", result="error") == value("controller_reconcile_errors_total") == 1
    assert value("controller_reconcile_time_seconds_count", scope="whole") == 1
    assert value("last_success_timestamp_seconds") == pytest.approx(started.timestamp())
    assert (value("manifests_valid"), value("host_reachable"), value("ready")) == (0, 1, 0)
    assert value("pool_capacity_bytes", pool="images") == 100
    assert value("pool_available_bytes", pool="images") == 40
    assert 0 <= value("snapshot_newest_age_seconds", policy="nightly") < 60
    assert (value("workqueue_depth"), value("workqueue_adds_total"), value("workqueue_retries_total")) == (1, 1, 1)
    # a host may have thousands of machines: their names are no labels
    assert not any(text in ("web", "domain/web") for _, labels in found for _, text in labels)
