"""The hooks by which libvirt has ports opened again: https://libvirt.org/hooks.html"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import ClassVar

from kvmstate.service.files import File

# libvirt waits for it, and does not start what it fails for
_BODY = """# libvirt runs this when a @KIND@ starts or stops: ports of the host that lead to machines open and close.
case "$2" in
  started) set -- --come "@WORD@/$1" ;;
  stopped | release) set -- --gone "@WORD@/$1" ;;
  updated | reconnect) set -- ;;
  *) exit 0 ;;
esac
if grep -qs port-forwards /etc/libvirt/qemu/networks/*.xml || nft list table ip kvmstate_forwards >/dev/null 2>&1; then
  @KVMSTATE@ host forwards "$@" >/dev/null || logger -t kvmstate "ports are not forwarded: kvmstate host forwards"
fi
exit 0
"""


@dataclass(frozen=True)
class Hook(File):
    """A script that libvirt runs."""

    lead: ClassVar[str] = "#!/bin/sh\n"
    mode: ClassVar[int] = 0o755


def hooks(program: Path, root: Path) -> list[Hook]:
    """Those for networks, and for machines."""
    found = []
    for kind, word, what in (("network", "network", "network"), ("qemu", "machine", "machine")):
        body = _BODY.replace("@KIND@", what).replace("@WORD@", word).replace("@KVMSTATE@", quote(str(program)))
        found.append(Hook(root / "etc/libvirt/hooks" / f"{kind}.d" / "kvmstate", body))
    return found
