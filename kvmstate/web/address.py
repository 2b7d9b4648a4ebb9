"""Where the daemon listens, and where clients look for it."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvmstate.errors import UsageError

SYSTEM = Path("/run/kvmstate")


@dataclass(frozen=True)
class Address:
    """A socket's path, or an IP address and port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    @property
    def is_private(self) -> bool:
        """Whether only this machine reaches it."""
        return self.path is not None or ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """`unix:PATH`, `127.0.0.1:PORT` or `[::1]:PORT`. Raises UsageError."""
    if text.startswith("unix:") and text != "unix:":
        return Address(Path(os.path.abspath(text.removeprefix("unix:"))))
    match = re.fullmatch(r"(?:\[([^]]+)\]|([^:]+)):([0-9]{1,5})", text)
    host = (match[1] or match[2]).replace("localhost", "127.0.0.1") if match else ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        match = None
    if not match or int(match[3]) > 65535:
        raise UsageError(
            f"{text!r} is not an address to listen on",
            "such as unix:/run/kvmstate/web.sock, 127.0.0.1:9477 or [::1]:9477",
        )
    return Address(host=host, port=int(match[3]))


def default(project: str, env: Mapping[str, str] = os.environ) -> Address:
    """Where a project's daemon listens unless it is told otherwise: in the folder that systemd made for it, else in the
    user's own."""
    return Address(_folders(env)[0] / f"{project}.sock")


def find(project: str, env: Mapping[str, str] = os.environ) -> Address:
    """Where a project's daemon seems to listen: the user's own before the system's."""
    folders = [*_folders(env), SYSTEM, *sorted(SYSTEM.glob("*/"))]
    found = (folder / f"{project}.sock" for folder in folders)
    return Address(next((path for path in found if path.is_socket()), folders[0] / f"{project}.sock"))


def _folders(env: Mapping[str, str]) -> list[Path]:
    given = env.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if given:
        return [Path(given)]
    if runtime := env.get("XDG_RUNTIME_DIR"):
        return [Path(runtime) / "kvmstate"]
    if os.geteuid() == 0:
        return [SYSTEM]
    return [Path(env.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "kvmstate"]
