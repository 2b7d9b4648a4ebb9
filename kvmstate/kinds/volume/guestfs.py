"""An image is built by the tools of libguestfs, which look into it in a machine of their own; here, or on the host.

https://libguestfs.org/virt-sysprep.1.html, https://libguestfs.org/virt-sparsify.1.html
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO

from kvmstate.errors import HostError
from kvmstate.host import Host, ssh
from kvmstate.host.volumes import QCOW2_V3
from kvmstate.kind.build import Build
from kvmstate.kind.steps import Progress
from kvmstate.kinds.volume import scratch
from kvmstate.kinds.volume.spec import VolumeSpec
from kvmstate.model.stopping import stopping

SYSPREP, CUSTOMIZE, SPARSIFY, CONVERT = "virt-sysprep", "virt-customize", "virt-sparsify", "qemu-img"
_INSTALL = "Debian: libguestfs-tools, Fedora: guestfs-tools"
# On another machine: a command that ends when who has started it does, which ends its input
_WATCHED = (
    'exec 3<&0; LC_ALL=C "$@" </dev/null 3<&- & pid=$!; { cat <&3; kill $pid; } >/dev/null 2>&1 & exec 3<&-; wait $pid'
)
# As the tools tell what they do: seconds since their start, and what it is
_TOLD = re.compile(rb"^\[ *[\d.]+\] (.*)$")


def way(host: Host, spec: VolumeSpec) -> list[str]:
    """The ssh command that leads to where a volume's content is built; empty where that is here. The copy of a volume
    is built on the host, where that has the tools; a file, where they are missing here. What is encrypted has to be
    built before. Raises HostError where neither can."""
    assert spec.build
    programs = _programs(spec.build)
    here = [name for name in programs if not shutil.which(name)]
    beyond = ""
    is_there = bool(spec.content and spec.content.volume)
    if ssh.is_ssh(host.address) and (is_there or here) and not spec.encryption:
        there = host.sight.lacking(programs)
        if there == []:
            return ssh.unattended(host.address)
        beyond = f", and no {' and no '.join(there)} on the host" if there else ", and no shell on the host answers"
    if not here:
        return []
    raise HostError(
        f"there is no {' and no '.join(here)} here{beyond}, where the image is to be built",
        f"install it {'on one of them' if beyond else 'where kvmstate runs'} ({_INSTALL}), or take `build` out",
    )


def _programs(build: Build) -> list[str]:
    first = CUSTOMIZE if build.operations == [] else SYSPREP
    return [first, *((SPARSIFY, CONVERT) if build.compress else ())]


def logs() -> Path:
    """The folder of the logs of builds."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "kvmstate" / "builds"


@contextmanager
def _log(name: str) -> Iterator[tuple[Path, IO[bytes]]]:
    path = logs() / f"{name.replace('/', '_')}.log"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("wb") as file:
        os.chmod(path, 0o600)
        yield path, file


def built(chunks: Iterable[bytes | int], build: Build, format_: str, name: str, progress: Progress) -> BinaryIO:
    """The image of these bytes, and lengths of holes, built, as a file without a name. Raises HostError."""
    scratch.clear()
    path, smaller = scratch.path(), scratch.path()
    try:
        scratch.folder()
        with path.open("xb") as file:
            os.chmod(path, 0o600)
            for chunk in chunks:
                if isinstance(chunk, int):
                    file.seek(chunk, os.SEEK_CUR)
                else:
                    file.write(chunk)
            file.truncate()
        with _log(name) as (log, said), tempfile.TemporaryDirectory(prefix="kvmstate-build-") as scripts:
            steps = _Steps(progress, said)
            for each in _words(build, format_, path, Path(scripts), Path(scripts), steps):
                _run(each, steps, log)
            if build.compress and format_ == "qcow2":
                _run(_smaller(path, smaller), steps, log)
                os.replace(smaller, path)
            steps.end()
        return path.open("rb")
    except OSError as error:
        raise HostError(
            f"{error.filename or scratch.folder()}: {error.strerror}", "the image is built there"
        ) from error
    finally:
        for left in (path, smaller):
            with suppress(OSError):
                left.unlink()


def build_there(way: list[str], path: str, build: Build, format_: str, name: str, progress: Progress) -> None:
    """Have the image at this path of the host built, where it is. Raises HostError."""
    with _log(name) as (log, said), tempfile.TemporaryDirectory(prefix="kvmstate-build-") as scripts:
        # the same one each time: what a build that was killed has left goes with the next
        folder, image = Path(f"/var/tmp/kvmstate-{hashlib.sha256(path.encode()).hexdigest()[:16]}"), Path(path)
        steps, smaller = _Steps(progress, said), folder / "smaller"
        words = [*_words(build, format_, image, Path(scripts), folder, steps)]
        if build.compress and format_ == "qcow2":
            # into the same file: another one would be another volume
            words += [_smaller(image, smaller), ["cp", "--", str(smaller), path]]
        packed = BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(scripts, ".")
        unpack = f"umask 077 && rm -rf {folder} && mkdir {folder} && tar -C {folder} --no-same-owner -x"
        sent = subprocess.run([*way, unpack], input=packed.getvalue(), capture_output=True, check=False)
        try:
            if sent.returncode:
                why = sent.stderr.decode(errors="replace").strip()
                raise HostError(
                    f"nothing can be written to /var/tmp on the host: {why}", "log in once with ssh by hand"
                )
            for each in words:
                _run(each, steps, log, way)
            steps.end()
        finally:
            subprocess.run([*way, f"rm -rf {folder}"], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _words(build: Build, format_: str, image: Path, scripts: Path, there: Path, steps: _Steps) -> Iterator[list[str]]:
    lines = build.commands(scripts, there)
    steps.expect(8 + len(lines))
    more = []
    if lines:
        commands = scripts / "commands"
        commands.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        more = ["--commands-from-file", str(there / commands.name)]
    where = ["--format", format_, "-a", str(image)]
    if build.operations == []:
        if more:
            yield [CUSTOMIZE, *where, *more]
    else:
        chosen = ["--operations", ",".join(["customize", *build.operations])] if build.operations else []
        yield [SYSPREP, *where, *chosen, *more]
    if build.compress:
        yield [SPARSIFY, "--in-place", "--format", format_, str(image)]


def _smaller(image: Path, into: Path) -> list[str]:
    of = ["-f", "qcow2", "-O", "qcow2", "-o", f"compat={QCOW2_V3}"]
    return [CONVERT, "convert", "-c", *of, str(image), str(into)]


class _Steps:
    """How far it is: of so many steps, which are guessed."""

    def __init__(self, progress: Progress, log: IO[bytes]) -> None:
        self._progress, self._all, self._done, self._log = progress, 1, 0, log

    def expect(self, all_: int) -> None:
        self._all = all_

    def told(self, line: bytes) -> None:
        self._log.write(line + b"\n")
        self._log.flush()
        if _TOLD.match(line):
            self._done += 1
            self._progress(min(self._done, self._all - 1), self._all)

    def end(self) -> None:
        self._progress(self._all, self._all)


def _run(words: list[str], steps: _Steps, log: Path, way: list[str] | None = None) -> None:
    """Here, or where `way` leads. Raises HostError when it fails, and soon after this process is to stop."""
    steps.told(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {words[0]}".encode())
    whole = [*way, shlex.join(["sh", "-c", _WATCHED, "sh", *words])] if way else words
    shown, stdin = {**os.environ, "LC_ALL": "C"}, subprocess.PIPE if way else subprocess.DEVNULL
    with subprocess.Popen(whole, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=shown) as process:
        last = b""
        try:
            for line in _lines(process):
                steps.told(line)
                last = last if b": error: " in last else line
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        why = last.decode(errors="replace").strip() or f"ended with {process.returncode}"
        why = why.removeprefix(f"{words[0]}: error: ")
        raise HostError(f"{words[0]}: {why}", f"its log is {log}")


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert process.stdout
    rest = b""
    while True:
        if stopping.is_set():
            raise HostError("the build was interrupted", "apply again")
        if not select.select([process.stdout], [], [], 0.5)[0]:
            continue
        if not (part := os.read(process.stdout.fileno(), 65536)):
            break
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
    if rest:
        yield rest
