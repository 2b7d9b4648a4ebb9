"""An image is built by the tools of libguestfs, which look into it in a machine of their own.

https://libguestfs.org/virt-sysprep.1.html, https://libguestfs.org/virt-sparsify.1.html
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from kvmstate.errors import HostError
from kvmstate.host.volumes import QCOW2_V3
from kvmstate.kind.build import Build
from kvmstate.kind.steps import Progress
from kvmstate.kinds.volume import scratch
from kvmstate.model.stopping import stopping

SYSPREP, CUSTOMIZE, SPARSIFY, CONVERT = "virt-sysprep", "virt-customize", "virt-sparsify", "qemu-img"
_INSTALL = "Debian: libguestfs-tools, Fedora: guestfs-tools"
# As the tools tell what they do: seconds since their start, and what it is
_TOLD = re.compile(rb"^\[ *[\d.]+\] (.*)$")


def missing(build: Build) -> HostError | None:
    """Why nothing can be built here, if nothing can."""
    lacking = [name for name in _programs(build) if not shutil.which(name)]
    if not lacking:
        return None
    return HostError(
        f"there is no {' and no '.join(lacking)} here, where the image is to be built",
        f"install it where kvmstate runs ({_INSTALL}), or take `build` out",
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
            words = _words(build, format_, path, Path(scripts))
            steps = _Steps(progress, 8 + len(build.commands(Path(scripts))), said)
            for each in words:
                _run(each, steps, log)
            if build.compress and format_ == "qcow2":
                convert = [CONVERT, "convert", "-c", "-O", format_, "-o", f"compat={QCOW2_V3}"]
                _run([*convert, "-f", format_, str(path), str(smaller)], steps, log)
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


def _words(build: Build, format_: str, image: Path, scripts: Path) -> Iterator[list[str]]:
    lines = build.commands(scripts)
    more = []
    if lines:
        commands = scripts / "commands"
        commands.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        more = ["--commands-from-file", str(commands)]
    where = ["--format", format_, "-a", str(image)]
    if build.operations == []:
        if more:
            yield [CUSTOMIZE, *where, *more]
    else:
        chosen = ["--operations", ",".join(["customize", *build.operations])] if build.operations else []
        yield [SYSPREP, *where, *chosen, *more]
    if build.compress:
        yield [SPARSIFY, "--in-place", "--format", format_, str(image)]


class _Steps:
    """How far it is: of so many steps, which are guessed."""

    def __init__(self, progress: Progress, all_: int, log: IO[bytes]) -> None:
        self._progress, self._all, self._done, self._log = progress, all_, 0, log

    def told(self, line: bytes) -> None:
        self._log.write(line + b"\n")
        self._log.flush()
        if _TOLD.match(line):
            self._done += 1
            self._progress(min(self._done, self._all - 1), self._all)

    def end(self) -> None:
        self._progress(self._all, self._all)


def _run(words: list[str], steps: _Steps, log: Path) -> None:
    """Raises HostError when it fails, and soon after this process is to stop."""
    steps.told(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {words[0]}".encode())
    shown = {**os.environ, "LC_ALL": "C"}
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=shown
    ) as process:
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
