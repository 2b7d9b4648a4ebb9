"""What filling a volume with an image of 1 GiB costs where client and host are one machine beside `cp --sparse=always`
and `sync`, on XFS beside `cp --reflink=always`, and beside `virsh vol-upload --sparse` where libvirt's stream is the
way: in turns. With --ssh that alone, with the host reached over ssh by both.

Of kvmstate it is what fills the volume, in an apply: all of it from when the volume has been made until it is whole. Of
virsh over ssh it is all but what it takes to connect.

python tests/benchmarks/uploads.py [--runs N] [--size MIB] [--ssh]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from ssh_server import Server
from world import ENV, PROGRAM, Took, run

from kvmstate import sandbox

MIB = 1 << 20
# MB at most
MEMORY = 150
POOLS = """
apiVersion: kvmstate/v1
kind: StoragePool
metadata: {{name: images}}
spec: {{type: dir, target: {{path: /var/lib/libvirt/uploads}}}}
---
apiVersion: kvmstate/v1
kind: StoragePool
metadata: {{name: shared}}
spec: {{type: fs, source: {{device: {device}, format: xfs}}, target: {{path: /var/lib/libvirt/shared}}}}
"""
VOLUME = """---
apiVersion: kvmstate/v1
kind: Volume
metadata: {{name: image.raw}}
lifecycle: {{deletion: delete}}
spec: {{pool: {pool}, format: raw, {what}}}
"""
# of so many MiB, how many in a row are data, from each tenth on
IMAGES = {"a tenth of it data": 0.1, "dense": 1.0}
# writes down what filling takes
TIMED = """
import contextlib, os, sys, time
from kvmstate.host import direct
opened = direct.opened
@contextlib.contextmanager
def timed(*words):
    began = time.perf_counter()
    with opened(*words) as file:
        yield file
    with open(os.environ["TOOK"], "w") as out:
        out.write(str(time.perf_counter() - began))
direct.opened = timed
"""
# as if the host were another machine
STREAM = "direct._seen = lambda *_: iter(())\n"


class Way(NamedTuple):
    """How the image comes into the pool, and what does it without kvmstate."""

    name: str
    goal: float
    pool: str
    image: Path
    before_main: str
    bare: list[str]
    before: list[str]
    after: list[str]
    # what it does besides, by itself
    besides: list[str]
    uri: str


def image(path: Path, size: int, filled: float) -> None:
    part = size * MIB // 10
    with path.open("wb") as file:
        for number in range(10):
            file.seek(number * part)
            # a process that is started counts what this one held at once
            for _ in range(int(part * filled) // MIB):
                file.write(os.urandom(MIB))
        file.truncate(size * MIB)


@contextmanager
def xfs(folder: Path, size: int) -> Iterator[tuple[str, Path]]:
    """A loop device with a file system that shares blocks, and where it is mounted here."""
    file, here = folder / "xfs.img", folder / "xfs"
    here.mkdir()
    file.touch()
    os.truncate(file, (4 * size + 512) * MIB)
    subprocess.run(["mkfs.xfs", "-q", file], check=True)
    device = subprocess.check_output(["losetup", "--find", "--show", file], text=True).strip()
    subprocess.run(["mount", device, here], check=True)
    try:
        yield device, here
    finally:
        subprocess.run(["umount", here], check=True)
        subprocess.run(["losetup", "--detach", device], check=True)


def main(size: int, runs: int, ssh: bool) -> int:
    host = sandbox.start(f"uploads-{os.getpid()}")
    missed = 0
    try:
        # not where files are kept in memory
        with tempfile.TemporaryDirectory(dir="/var/tmp") as name, xfs(Path(name), size) as (device, shared):
            folder = Path(name)
            (folder / "kvmstate.yaml").write_text(f"project: uploads\nconnection: {host.uri}\nmanifests: [all.yaml]\n")
            uri = Server(host, folder).uri() if ssh else host.uri
            head = (f"{size} MiB", "way", "s", "bare", "times", "MB", "goal")
            print(f"load {os.getloadavg()[0]:.1f}\n{{:20}}{{:26}}{{:>8}}{{:>8}}{{:>7}}{{:>6}}{{:>7}}".format(*head))
            for words, filled in IMAGES.items():
                for way in ways(host, uri, folder, size, shared):
                    image(way.image, size, filled)
                    took, memory, bare = measured(way, folder, size, runs, POOLS.format(device=device))
                    spent, known = min(took), min(t.seconds for t in bare)
                    # what is there in the time that a process takes to start is as quick as can be
                    bad = spent > max(way.goal * known, 0.05) or memory > MEMORY
                    missed += bad
                    print(
                        f"{words:20}{way.name:26}{spent:8.2f}{known:8.2f}{spent / known:7.2f}{memory:6.0f}{way.goal:7g}"
                        f"{'  missed' if bad else ''}",
                        flush=True,
                    )
    finally:
        sandbox.stop(host.name)
    return missed


def ways(host: sandbox.Sandbox, uri: str, folder: Path, size: int, shared: Path) -> list[Way]:
    virsh, usual = ["virsh", "-q", "-c", uri], folder / "image"
    made = [*virsh, "vol-create-as", "images", "other.raw", f"{size}MiB", "--allocation", "0", "--format", "raw"]
    gone = [*virsh, "vol-delete", "other.raw", "--pool", "images"]
    sent = [*virsh, "vol-upload", "other.raw", str(usual), "--pool", "images", "--sparse"]
    if uri != host.uri:
        return [Way("virsh vol-upload, by ssh", 1.1, "images", usual, TIMED, sent, made, gone, [*virsh, "uri"], uri)]
    # on the disk, too, as it has to be when kvmstate says that it is whole
    synced = ["sh", "-c", 'cp "$1" "$2" "$3" && sync --data "$3"', "cp"]
    cp = [*synced, "--sparse=always", str(usual), str(host.directory / "lib" / "uploads" / "other.raw")]
    clone = [*synced, "--reflink=always", str(shared / "image"), str(shared / "other.raw")]
    return [
        Way("cp --sparse=always; sync", 1.2, "images", usual, TIMED, cp, [], ["rm", cp[-1]], [], uri),
        Way("cp --reflink=always; sync", 1.2, "shared", shared / "image", TIMED, clone, [], ["rm", clone[-1]], [], uri),
        Way("virsh vol-upload", 1.1, "images", usual, TIMED + STREAM, sent, made, gone, [], uri),
    ]


def measured(way: Way, folder: Path, size: int, runs: int, pools: str) -> tuple[list[float], float, list[Took]]:
    """Seconds and MB of kvmstate, and what the bare program took."""
    took, memory, bare = [], 0.0, []
    program = [PROGRAM[0], "-c", f"{way.before_main}{PROGRAM[2]}"]
    apply = [*program, "apply", "-c", way.uri, "--auto-approve", "--prune", "--allow-path", str(way.image.parent)]
    apply.append(str(folder))
    ENV["TOOK"] = str(folder / "took")
    volume = VOLUME.format(pool=way.pool, what=f"content: {{file: {way.image}}}")
    for _ in range(runs):
        (folder / "all.yaml").write_text(pools)
        run(apply)
        os.sync()
        (folder / "all.yaml").write_text(pools + volume)
        memory = max(memory, run(apply).memory)
        took.append(float((folder / "took").read_text()))
        if way.before:
            run(way.before)
        os.sync()
        besides = run(way.besides).seconds if way.besides else 0.0
        each = run(way.bare)
        bare.append(replace(each, seconds=each.seconds - besides))
        run(way.after)
    (folder / "all.yaml").write_text(pools)
    run(apply)
    return took, memory, bare


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--size", type=int, default=1024, metavar="MIB")
    options.add_argument("--ssh", action="store_true", help="reach the host over ssh")
    sys.exit(bool(main(**vars(options.parse_args()))))
