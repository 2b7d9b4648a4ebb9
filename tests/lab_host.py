"""A host of script/lab, as tests reach it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from kvmstate.host import ssh


@dataclass(frozen=True)
class Lab:
    """The host that a URI of script/lab leads to."""

    uri: str

    def run(self, command: str, check: bool = True, timeout: float = 120) -> str:
        """What a shell command says in the lab, as root; of one that fails also its errors. With `check` that fails
        the test."""
        done = subprocess.run(
            [*ssh.words(self.uri), f"LC_ALL=C; {command}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        said = (done.stdout + (done.stderr if done.returncode else "")).strip()
        assert done.returncode == 0 or not check, f"{command}: {said}"
        return said

    def blank(self, *devices: str) -> None:
        """Have zeros where kvmstate looks for what is on a device: tools that take something off leave more there."""
        zeros = "dd if=/dev/zero bs=1M count=1 conv=fsync of="
        for device in devices:
            last = f"$(($(blockdev --getsize64 {device}) / {1 << 20} - 1))"
            self.run(f"{zeros}{device} && {zeros}{device} seek={last}")
            # udev looks at what was written to, which is busy meanwhile
            self.run(f"udevadm settle && blockdev --rereadpt {device} && udevadm settle")

    def put(self, path: str, content: bytes) -> None:
        """Write a file in the lab."""
        subprocess.run([*ssh.words(self.uri), f"cat >{path}"], input=content, check=True, timeout=120)
