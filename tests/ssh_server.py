"""A throw-away host that is reached over ssh."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kvmstate import sandbox
from kvmstate.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
MAIN = "from kvmstate.cli import main; main()"
# SHLVL: bash reads ~/.bashrc of who runs the tests for a command that comes by ssh, if it is not in another shell
SSHD = """
HostKey {0}/host
AuthorizedKeysFile {0}/id.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv SHLVL=1
"""


class Server:
    """An ssh server on the throw-away host. It has no network to be reached by: ssh starts it as its proxy command."""

    def __init__(self, host: Sandbox, folder: Path) -> None:
        self.folder = folder
        for name in ("host", "id", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        sandbox.execute(host, ["mkdir", "-p", "/run/sshd"])
        (folder / "sshd_config").write_text(SSHD.format(folder))
        self.knows("host")
        proxy = [sys.executable, "-c", MAIN, "sandbox", "exec", "-n", host.name, "--"]
        command = shlex.join([*proxy, "/usr/sbin/sshd", "-i", "-f", f"{folder}/sshd_config"])
        (folder / "ssh").write_text(
            f"#!/bin/sh\nexport PYTHONPATH={ROOT}\nexec ssh -F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes "
            f'-o UserKnownHostsFile={folder}/known_hosts -o {shlex.quote(f"ProxyCommand={command}")} "$@"\n'
        )
        (folder / "ssh").chmod(0o755)

    def knows(self, key: str) -> None:
        """The client takes this for the server's key."""
        (self.folder / "known_hosts").write_text(f"sandbox {(self.folder / f'{key}.pub').read_text()}")

    def uri(self, key: str = "id", command: str = "ssh") -> str:
        folder = self.folder
        return f"qemu+ssh://root@sandbox/system?keyfile={folder}/{key}&command={folder}/{command}&no_tty=1"


@dataclass(frozen=True)
class OverSsh(Sandbox):
    """The same host, which everybody who asks for its URI reaches over ssh."""

    reached: str = ""

    @property
    def uri(self) -> str:
        return self.reached
