"""The command line in processes of their own that are quick to start: forked from one that has imported all of
kvmstate, which is most of what a short command costs."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

ROOT = Path(__file__).parents[1]
_servers: list[socket.socket] = []


def execute(
    *args: str, cwd: Path, env: dict[str, str], stdin: bytes = b"", timeout: float = 300, memory: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run `kvmstate` with these arguments and this environment, in no more than `memory` bytes of address space where
    that is given. Raises subprocess.TimeoutExpired."""
    server = _servers[0] if _servers else _start()
    umask = os.umask(0)
    os.umask(umask)
    request = {"args": args, "cwd": str(cwd), "env": env, "umask": umask, "memory": memory}
    with TemporaryFile() as asked, TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        asked.write(json.dumps(request).encode("utf-8", "surrogateescape"))
        given.write(stdin)
        for file in (asked, given):
            file.flush()
            file.seek(0)
        try:
            socket.send_fds(server, [b"."], [file.fileno() for file in (given, out, err, asked)])
            server.settimeout(60)
            pid = int(server.recv(100))
            server.settimeout(timeout)
            try:
                status = int(server.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(args, timeout) from None
        except BaseException:
            # whatever it says now would be taken for the answer to the next one
            _servers.clear()
            server.close()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(args, os.waitstatus_to_exitcode(status), out.read(), err.read())


def _start() -> socket.socket:
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    program = [sys.executable, __file__, str(there.fileno())]
    subprocess.Popen(program, cwd="/", env={**os.environ, "PYTHONPATH": str(ROOT)}, pass_fds=[there.fileno()])
    there.close()
    _servers.append(here)
    return here


def _serve(requests: socket.socket) -> None:
    """Fork for each request until there are no more; what was forked returns, as the process that was asked for."""
    while True:
        data, fds, _, _ = socket.recv_fds(requests, 1, 4)
        if not data:
            raise SystemExit
        if not (pid := os.fork()):
            requests.close()
            _become(fds)
            return
        for fd in fds:
            os.close(fd)
        requests.send(str(pid).encode())
        requests.send(str(os.waitpid(pid, 0)[1]).encode())


def _become(fds: list[int]) -> None:
    with os.fdopen(fds[3], "rb") as file:
        request: dict[str, Any] = json.loads(file.read().decode("utf-8", "surrogateescape"))
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["-c", *request["args"]]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if request["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))


if __name__ == "__main__":
    del sys.path[0]
    import kvmstate

    for module in pkgutil.walk_packages(kvmstate.__path__, "kvmstate."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from kvmstate.cli import main

    main()
