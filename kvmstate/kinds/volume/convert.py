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


def check_whole(image: BinaryIO, name: str) -> None:
    """Check that a qcow2 image has all the clusters that its tables name, which its header does not tell. Raises
    HostError for one that was cut off or is damaged; nothing without qemu-img."""
    if not shutil.which(PROGRAM):
        return
    # of leaked clusters (3) nothing is lost
    check = ["check", "--output=json", words(image, "qcow2")]
    try:
        wrong = json.loads(run(check, (image.fileno(),), None, _LOOK, (0, 2, 3))).get("corruptions", 0)
    except HostError as error:
        raise HostError(f"{name}: {error.message}", error.hint) from None
    if wrong:
        raise HostError(
            f"{name} is damaged, or only a part of it: `qemu-img check` finds {wrong:,} errors in it",
            "get it once more, with its checksum",
        )


def words(image: BinaryIO, format_: str) -> str:
    """How qemu-img opens it: without a backing file, whatever the image says, which has been refused before."""
    source = {"driver": "file", "filename": f"/proc/self/fd/{image.fileno()}", "locking": "off"}
    return "json:" + json.dumps({"driver": format_, "backing": None, "file": source})


def converted(image: BinaryIO, format_: str, wanted: str, name: str, progress: Progress) -> BinaryIO:
    """The image in another format, as a file without a name. Raises HostError for what is damaged, leads to other
    files, or has no room, and OSError."""
    number = image.fileno()
    source = words(image, format_)
    if format_ == "qcow2":
        # what is not there would be read as zeros
        check_whole(image, name)

    def look(*more: str, told: Callable[[float], object] | None = None, seconds: int = resource.RLIM_INFINITY) -> bytes:
        try:
            return run([*more], (number,), told, seconds)
        except HostError as error:
            raise HostError(f"{name}, read as {format_}: {error.message}", error.hint) from None

    info = json.loads(look("info", "--output=json", source, seconds=_LOOK))
    if others := _others(info, f"/proc/self/fd/{number}"):
        raise HostError(
            f"{name} names other files ({', '.join(others)})",
            "make it stand alone: `qemu-img convert -O qcow2 IMAGE NEW`",
        )
    needs = int(json.loads(look("measure", "--output=json", "-O", "qcow2", source, seconds=_LOOK))["required"])
    if format_ in _PLAIN:
        needs = min(needs, os.fstat(number).st_size)
    path = scratch.path_for(needs, f"{name} as {wanted}")
    try:
        compat = ("-o", f"compat={QCOW2_V3}") if wanted == "qcow2" else ()
        look("convert", "-p", "-O", wanted, *compat, source, str(path), told=lambda p: progress(int(p * needs), needs))
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


def run(
    words: list[str],
    numbers: tuple[int, ...],
    told: Callable[[float], object] | None = None,
    seconds: int = resource.RLIM_INFINITY,
    good: tuple[int, ...] = (0,),
) -> bytes:
    """What qemu-img prints, which has these files open; `told` how much of its work is done. Raises HostError when it
    ends with another code than these `good` ones, and soon after this process is to stop."""
    said, shown = b"", {**os.environ, "LC_ALL": "C"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [PROGRAM, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=numbers,
            env=shown,
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
    if code not in good:
        # it repeats the words that it was given
        why = re.sub(r"^.*json:\{.*\}'?: ", "", last) or f"ended with {code}"
        raise HostError(f"{PROGRAM} {words[0]}: {why}", "check the source")
    return said
