"""What the files of the service say: one template unit for all projects, the user it runs as, and for each project a
drop-in with what is its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmstate.service.files import File

_HERE = Path(__file__).parent
UNITS = Path("etc/systemd/system")
USERS = Path("etc/sysusers.d/kvmstate.conf")
TEMPLATE = "kvmstate@.service"
GUESTS = "kvmstate-guests.service"
DROP_IN = "10-project.conf"
# The version of systemd that knows Type=notify-reload
NOTIFY_RELOAD = 253
# What ProtectHome= hides
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_PLAIN = re.compile(r"[A-Za-z0-9_@:,./=+-]+")


@dataclass(frozen=True)
class Secret:
    """A file that only its owner reads. systemd reads it as root and hands it over as a credential `name`."""

    name: str
    path: Path


Argument = str | Path | Secret


@dataclass(frozen=True)
class Service:
    """A project's service: `program` is kvmstate's command, `arguments` what `kvmstate run` is given, `systemd` the
    version that it is for, `secrets` what it is handed over beside those of its arguments."""

    project: str
    program: Path
    arguments: Sequence[Argument] = ()
    user: str = ""
    root: Path = Path("/")
    systemd: int = 0
    secrets: Sequence[Secret] = ()

    @property
    def unit(self) -> str:
        return f"kvmstate@{self.project}.service"

    @property
    def template(self) -> File:
        text = (_HERE / TEMPLATE).read_text(encoding="utf-8")
        # `systemctl reload` waits until it is done
        kind = "notify-reload" if self.systemd >= NOTIFY_RELOAD else "notify"
        text = text.replace("@KVMSTATE@", quoted(str(self.program))).replace("@TYPE@", kind)
        return File(self.root / UNITS / TEMPLATE, text)

    @property
    def users(self) -> File:
        return File(self.root / USERS, (_HERE / "sysusers.conf").read_text(encoding="utf-8"))

    @property
    def drop_in(self) -> File:
        return File(self.root / UNITS / f"{self.unit}.d" / DROP_IN, self._own())

    @property
    def files(self) -> tuple[File, File, File]:
        return self.users, self.template, self.drop_in

    def _own(self) -> str:
        lines = ["[Service]"]
        if self.user:
            lines.append(f"User={self.user}")
        if self.arguments:
            words = [quoted(str(self.program)), "run", *map(_word, self.arguments)]
            lines += ["ExecStart=", f"ExecStart={' '.join(words)}"]
        secrets = [*self.secrets, *(argument for argument in self.arguments if isinstance(argument, Secret))]
        lines += [f"LoadCredential={secret.name}:{_specifiers(str(secret.path))}" for secret in secrets]
        paths = [argument for argument in self.arguments if isinstance(argument, Path)]
        if any(map(_is_at_home, [*paths, self.program])):
            lines += ["# what it reads is there", "ProtectHome=read-only"]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Guests:
    """The service that starts and stops machines with the host that `uri` names, by `program`."""

    program: Path
    uri: str = "qemu:///system"
    user: str = ""
    root: Path = Path("/")

    @property
    def unit(self) -> str:
        return GUESTS

    @property
    def file(self) -> File:
        text = (_HERE / GUESTS).read_text(encoding="utf-8")
        for place, said in {
            "@KVMSTATE@": quoted(str(self.program)),
            "@USER@": self.user or "root",
            "@URI@": quoted(f"LIBVIRT_DEFAULT_URI={self.uri}"),
            "@HOMES@": "read-only" if _is_at_home(self.program) else "yes",
        }.items():
            text = text.replace(place, said)
        return File(self.root / UNITS / GUESTS, text)


def _is_at_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in HOMES)


def quoted(word: str) -> str:
    """One word of a command line in a unit, see "Quoting" in systemd.syntax(7)."""
    text = _specifiers(word).replace("$", "$$")
    if _PLAIN.fullmatch(text.replace("%%", "").replace("$$", "")):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def _word(argument: Argument) -> str:
    return f"%d/{argument.name}" if isinstance(argument, Secret) else quoted(str(argument))


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
