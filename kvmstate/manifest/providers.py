"""Where the values of secrets are: as the command line says, and never a file of the project.

A provider is named by a word and a place: `file:/etc/kvmstate/ceph`, `env:CEPH_KEY`, `sops:prod.yaml#ceph.key`,
`age:ceph.age#/root/key.txt`, `pass:kvm/ceph`, `systemd-creds:/etc/credstore.encrypted/ceph`, `credential:ceph`. What it
takes a program to read is read by that program, without a shell, within a time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvmstate.errors import ManifestErrors, UsageError
from kvmstate.manifest.values import read_mapping
from kvmstate.model.files import open_regular
from kvmstate.model.printable import harmless

# libvirt's own limit for a value
MAX_BYTES = 65_536
# Seconds that a program may take
TIMEOUT = 30.0
# Of what a program says on stderr
_SAID = 500
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORM = "NAME=PROVIDER:PLACE, such as ceph-key=file:/etc/kvmstate/ceph-key"


class NotGiven(Exception):
    """A provider does not give the value; says why."""


@dataclass(frozen=True)
class Place:
    """One provider's place: `word` is the provider's, relative paths start at `folder`."""

    word: str
    place: str
    folder: Path

    def read(self) -> bytes:
        """The value. Raises NotGiven."""
        found = _READERS[self.word](self)
        if len(found) > MAX_BYTES:
            raise NotGiven(f"it has more than {MAX_BYTES:,} bytes, which is libvirt's limit")
        return found

    def path(self, text: str) -> str:
        return os.path.join(self.folder, os.path.expanduser(text))


@dataclass(frozen=True)
class Providers:
    """By the names that manifests say. Each is read once in a run, when something asks for it."""

    places: Mapping[str, Place] = field(default_factory=dict)
    _known: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def read(self, name: str) -> bytes:
        """The value of this name. Raises NotGiven."""
        if name not in self._known:
            self._known[name] = self.places[name].read()
        return self._known[name]


def providers(texts: Sequence[str], files: Sequence[Path], roots: Sequence[Path]) -> Providers:
    """Those of `--secret NAME=PROVIDER:PLACE`, and of the files of `--secrets`, which are YAML: NAME: PROVIDER:PLACE.
    The later counts, and what is said on the command line itself. Raises UsageError, also for a file in one of the
    `roots`: what a repository has names no program and no variable of this machine."""
    places: dict[str, Place] = {}
    for file in files:
        _check_outside(file, roots)
        node, problems = read_mapping(file, str(file))
        if problems:
            raise ManifestErrors(problems)
        for name, text in node.data().items():
            if not isinstance(text, str):
                raise UsageError(f"{file}: {name}: expected PROVIDER:PLACE", f"each line is {_FORM.replace('=', ': ')}")
            places[name] = _place(name, text, file.parent, f"{file}: {name}")
    for text in texts:
        name, equals, place = text.partition("=")
        if not equals:
            raise UsageError(f"--secret {name}: expected {_FORM}")
        places[name] = _place(name, place, Path("."), f"--secret {name}")
    return Providers(places)


def _check_outside(file: Path, roots: Sequence[Path]) -> None:
    for path in {os.path.abspath(file), os.path.realpath(file)}:
        for root in map(os.path.realpath, roots):
            if os.path.commonpath((path, root)) == root:
                raise UsageError(
                    f"--secrets {file}: it lies in {root}, with the manifests",
                    "keep it elsewhere: who writes manifests must not choose what is read on this machine",
                )


def _place(name: str, text: str, folder: Path, where: str) -> Place:
    word, colon, place = text.partition(":")
    if not _NAME.fullmatch(str(name)):
        raise UsageError(f"{where}: a name has letters, digits, and between them . _ -")
    if not colon or not place or word not in _READERS:
        raise UsageError(f"{where}: expected PROVIDER:PLACE", f"providers are {', '.join(_READERS)}")
    if place.startswith("-"):
        raise UsageError(f"{where}: {word} would take a place that begins with - for an option", "write ./ before it")
    return Place(word, place, folder)


def _file(at: Place) -> bytes:
    return _read(at.path(at.place))


def _credential(at: Place) -> bytes:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise NotGiven("there is no $CREDENTIALS_DIRECTORY: systemd sets it for services with LoadCredential=")
    if "/" in at.place or at.place.startswith("."):
        raise NotGiven("the name of a credential has no slash")
    return _read(os.path.join(folder, at.place))


def _read(path: str) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(MAX_BYTES + 2)
    except OSError as error:
        raise NotGiven(f"{path}: {error.strerror}") from None


def _environment(at: Place) -> bytes:
    value = os.environb.get(os.fsencode(at.place))
    if value is None:
        raise NotGiven(f"the environment has no {at.place}")
    return value


def _sops(at: Place) -> bytes:
    path, _, keys = at.place.partition("#")
    extract = ["--extract", "".join(f'["{key}"]' for key in keys.split("."))] if keys else []
    return _run(["sops", "--decrypt", *extract, at.path(path)])


def _age(at: Place) -> bytes:
    path, _, identity = at.place.partition("#")
    if not identity:
        raise NotGiven("expected age:FILE#IDENTITY, the file with the key")
    return _run(["age", "--decrypt", "--identity", at.path(identity), at.path(path)])


def _pass(at: Place) -> bytes:
    # the password is the first line, as for `pass -c`
    return _run(["pass", "show", at.place]).partition(b"\n")[0]


def _systemd_creds(at: Place) -> bytes:
    return _run(["systemd-creds", "decrypt", at.path(at.place), "-"])


def _run(command: list[str]) -> bytes:
    """What the program prints. Raises NotGiven."""
    program = command[0]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # it may start others, which end with it
            start_new_session=True,
        )
    except OSError as error:
        raise NotGiven(f"{program} cannot be run: {error.strerror}") from None
    with process:
        try:
            out, said = process.communicate(timeout=TIMEOUT)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise NotGiven(f"{program} has not ended within {TIMEOUT:g} s") from None
            raise
    if process.returncode:
        told = harmless(said.decode(errors="replace").strip())[-_SAID:]
        raise NotGiven(f"{program} failed ({process.returncode}): {told or 'it says nothing'}")
    return out


_READERS: Mapping[str, Callable[[Place], bytes]] = {
    "file": _file,
    "env": _environment,
    "sops": _sops,
    "age": _age,
    "pass": _pass,
    "systemd-creds": _systemd_creds,
    "credential": _credential,
}
