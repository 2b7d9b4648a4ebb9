"""Git repositories that manifests come from, and servers that they are fetched from: all of it on this machine."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_connection, create_server
from typing import Any

from harness import until

# SHLVL: bash reads ~/.bashrc of who runs the tests for a command that comes by ssh, if it is not in another shell
SSHD = """
HostKey {folder}/host
AuthorizedKeysFile {folder}/id.pub
ListenAddress 127.0.0.1:{port}
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv SHLVL=1
"""


def ssh_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


class Remote:
    """A bare repository, and somebody who pushes to it."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.work = folder / "remote.git", folder / "work"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Åsa Author",
            "GIT_AUTHOR_EMAIL": "asa@example.org",
            "GIT_COMMITTER_NAME": "Carl Committer",
            "GIT_COMMITTER_EMAIL": "carl@example.org",
        }
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.bare], check=True, env=self.env)
        subprocess.run(["git", "init", "-q", "-b", "main", self.work], check=True, env=self.env)

    def git(self, *arguments: str, **env: str) -> str:
        command = ["git", "-C", str(self.work), *arguments]
        return subprocess.run(command, check=True, env=self.env | env, capture_output=True, text=True).stdout.strip()

    def sign_with(self, key: Path | str | None) -> None:
        """An SSH key's file, a GPG key's id, or nothing."""
        self.git("config", "gpg.format", "ssh" if isinstance(key, Path) else "openpgp")
        self.git("config", "user.signingKey", str(key or ""))
        for what in ("commit.gpgSign", "tag.gpgSign"):
            self.git("config", what, "true" if key else "false")

    def commit(self, name: str = "lan.yaml", content: str = "", message: str = "", date: str = "") -> str:
        """The hash of a new commit, which is not pushed yet."""
        (self.work / name).parent.mkdir(parents=True, exist_ok=True)
        (self.work / name).write_text(content or f"# {os.urandom(4).hex()}\n")
        self.git("add", "--all")
        when = {"GIT_COMMITTER_DATE": date} if date else {}
        self.git("commit", "-q", "-m", message or "change", **when)
        return self.git("rev-parse", "HEAD")

    def push(self, what: str = "main") -> None:
        self.git("push", "-q", "--force", str(self.bare), what)

    def publish(self, *content: str) -> str:
        commit = self.commit("lan.yaml", *content)
        self.push()
        return commit

    def many(self, count: int) -> str:
        """So many commits on top, pushed; the hash of the last."""
        lines = []
        for number in range(count):
            lines += ["commit refs/heads/main", "committer C <c@example.org> 1790000000 +0000", "data 1", "x"]
            lines += ["from refs/heads/main^0"] if not number else []
            lines += ["M 644 inline count.yaml", f"data {len(str(number))}", str(number), ""]
        stream = "\n".join(lines).encode()
        command = ["git", "-C", self.work, "fast-import", "--quiet"]
        subprocess.run(command, check=True, env=self.env, input=stream)
        self.git("reset", "-q", "--hard", "main")
        self.push()
        return self.git("rev-parse", "HEAD")


@dataclass
class Web:
    """A server of the repositories in a folder: `git http-backend` behind a little HTTP."""

    folder: Path
    port: int = 0
    token: str = ""
    redirect: str = ""
    asked: list[str] = field(default_factory=list)
    """What requests said of who they are."""
    stall: threading.Event | None = None
    """While it is there, a pack comes half; it is set when that half was sent."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/remote.git"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        said = request.headers.get("Authorization", "")
        self.asked.append(said)
        if self.redirect:
            request.send_response(302)
            request.send_header("Location", self.redirect + request.path.removeprefix("/remote.git"))
            request.end_headers()
            return
        if self.token and base64.b64decode(said.partition(" ")[2]).decode().partition(":")[2] != self.token:
            request.send_response(401)
            request.send_header("WWW-Authenticate", "Basic realm=git")
            request.end_headers()
            return
        head, _, body = self._backend(request).partition(b"\r\n\r\n")
        request.send_response(200)
        for line in head.decode().split("\r\n"):
            request.send_header(*line.split(": ", 1))
        request.end_headers()
        if self.stall and b"PACK" in body:
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            self.stall.set()
            # the client goes away
            request.connection.recv(1)
        else:
            request.wfile.write(body)

    def _backend(self, request: BaseHTTPRequestHandler) -> bytes:
        path, _, query = request.path.partition("?")
        length = int(request.headers.get("Content-Length", 0))
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "REQUEST_METHOD": request.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
        }
        return subprocess.run(
            ["git", "http-backend"], env=env, input=request.rfile.read(length), capture_output=True, check=True
        ).stdout


@contextmanager
def web(folder: Path, **options: Any) -> Iterator[Web]:
    at = Web(folder, **options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            at.answer(self)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        at.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield at
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def sshd(folder: Path) -> Iterator[int]:
    """The port of an ssh server that lets the key `id` in `folder` in; `known_hosts` there knows it."""
    for name in ("host", "id"):
        ssh_key(folder / name)
    with create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(SSHD.format(folder=folder, port=port))
    if not os.getuid():
        # root's sshd wants it, the service makes it
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (folder / "sshd.log").open("w") as log:
        server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        until(lambda: _answers(port), "an answer from sshd", 10)
        yield port
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
