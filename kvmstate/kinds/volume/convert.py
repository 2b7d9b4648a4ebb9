"""Images of one format made ones of another, by qemu-img, which opens no other file than the image."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from kvmstate.errors import HostError
from kvmstate.host.volumes import QCOW2_V3
from kvmstate.kind.steps import Progress
from kvmstate.kinds.volume import scratch
from kvmstate.model.stopping import stopping

PROGRAM = "qemu-img"
# For an image that lies about itself: address space, and seconds of the processor's time to tell what it is
_MEMORY, _LOOK = 2 << 30, 30
_PROGRESS = re.compile(rb"\(([\d.]+)/100%\)")
# An image of these formats holds its data as it is: no more of it comes out
_PLAIN = ("vdi", "vhdx", "vpc")


def missing(name: str, format_: str, wanted: str) -> HostError | None:
    """Why an image cannot be converted here, if it cannot."""
    if shutil.which(PROGRAM):
        return None
    return HostError(
        f"{name} is a {format_} image, the volume's format is {wanted}, and there is no {PROGRAM} here to convert it",
        "install it where kvmstate runs (Debian: qemu-utils, Fedora: qemu-img)",
    )


def converted(image: BinaryIO, format_: str, wanted: str, name: str, progress: Progress) -> BinaryIO:
    """The image in another format, as a file without a name. Raises HostError for what is damaged, leads to other
    files, or has no room, and OSError."""
    number = image.fileno()
    source = {"driver": "file", "filename": f"/proc/self/fd/{number}", "locking": "off"}
    # no backing file is opened, whatever the image says; it has been refused before
    words = "json:" + json.dumps({"driver": format_, "backing": None, "file": source})

    def run(*more: str, told: Callable[[float], object] | None = None, seconds: int = resource.RLIM_INFINITY) -> bytes:
        try:
            return _run([PROGRAM, *more], number, told, seconds)
        except HostError as error:
            raise HostError(f"{name}, read as {format_}: {error.message}", error.hint) from None

    info = json.loads(run("info", "--output=json", words, seconds=_LOOK))
    if others := _others(info, source["filename"]):
        raise HostError(
            f"{name} names other files ({', '.join(others)})",
            "make it stand alone: `qemu-img convert -O qcow2 IMAGE NEW`",
        )
    needs = int(json.loads(run("measure", "--output=json", "-O", "qcow2", words, seconds=_LOOK))["required"])
    if format_ in _PLAIN:
        needs = min(needs, os.fstat(number).st_size)
    if needs > scratch.room():
        raise HostError(
            f"{scratch.folder()} has no room for {name} as {wanted}: it needs {needs:,} bytes",
            "free some space there, or set XDG_CACHE_HOME to a larger place",
        )
    scratch.clear()
    path = scratch.path()
    try:
        compat = ("-o", f"compat={QCOW2_V3}") if wanted == "qcow2" else ()
        run("convert", "-p", "-O", wanted, *compat, words, str(path), told=lambda p: progress(int(p * needs), needs))
        return path.open("rb")
    finally:
        with suppress(OSError):
            path.unlink()


def _others(info: dict[str, Any], own: str) -> list[str]:
    """The files that an image consists of besides its own."""
    data = info.get("format-specific", {}).get("data", {})
    named = [info.get("backing-filename"), info.get("full-backing-filename"), data.get("data-file")]
    named += [extent.get("filename") for extent in data.get("extents", ())]
    return sorted({text for text in named if text and text != own})


def _run(words: list[str], number: int, told: Callable[[float], object] | None, seconds: int) -> bytes:
    """What a program prints; `told` how much of its work is done. Raises HostError when it fails, and soon after this
    process is to stop."""
    said, shown = b"", {**os.environ, "LC_ALL": "C"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, pass_fds=[number], env=shown
        ) as process,
    ):
        assert process.stdout
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (seconds, seconds))
        try:
            while True:
                if stopping.is_set():
                    raise HostError("the conversion was interrupted", "apply again")
                if not select.select([process.stdout], [], [], 0.5)[0]:
                    continue
                if not (part := os.read(process.stdout.fileno(), 65536)):
                    break
                if told and (done := _PROGRESS.findall(part)):
                    told(float(done[-1]) / 100)
                elif not told:
                    said += part
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        errors.seek(0)
        last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
    if code:
        # it repeats the words that it was given
        why = re.sub(r"^.*json:\{.*\}'?: ", "", last) or f"ended with {code}"
        raise HostError(f"{Path(words[0]).name} {words[1]}: {why}", "check the source")
    return said
