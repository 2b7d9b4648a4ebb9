"""What an upload of an image of 1 GiB costs beside `virsh vol-upload --sparse`: whole processes, in turns.

python tests/benchmarks/uploads.py [--runs N] [--size MIB]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from world import PROGRAM, Took, run

from kvmstate import sandbox

GOAL = 1.1
MIB = 1 << 20
POOL = """
apiVersion: kvmstate/v1
kind: StoragePool
metadata: {name: images}
spec: {type: dir, target: {path: /var/lib/libvirt/uploads}}
"""
VOLUME = """---
apiVersion: kvmstate/v1
kind: Volume
metadata: {{name: image.raw}}
lifecycle: {{deletion: delete}}
spec: {{pool: images, format: raw, content: {{file: {file}}}}}
"""
# of so many MiB, how many in a row are data, from each tenth on
IMAGES = {"sparse, a tenth of it data": 0.1, "dense": 1.0}


def image(path: Path, size: int, filled: float) -> None:
    part = size * MIB // 10
    with path.open("wb") as file:
        for number in range(10):
            file.seek(number * part)
            file.write(os.urandom(int(part * filled)))
        file.truncate(size * MIB)


def main(size: int, runs: int) -> int:
    host = sandbox.start(f"uploads-{os.getpid()}")
    missed = 0
    try:
        # not where files are kept in memory
        with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
            folder = Path(name)
            (folder / "kvmstate.yaml").write_text(f"project: uploads\nconnection: {host.uri}\n")
            head = (f"upload of {size} MiB", "s", "virsh", "times", "cpu", "virsh", "goal")
            print("{:36}{:>8}{:>8}{:>7}{:>8}{:>8}{:>7}".format(*head))
            for words, filled in IMAGES.items():
                image(folder / "image", size, filled)
                took, bare = measured(host.uri, folder, size, runs)
                times = min(t.seconds for t in took) / min(t.seconds for t in bare)
                missed += times > GOAL
                figures = [min(t.seconds for t in each) for each in (took, bare)]
                cpu = [min(t.cpu for t in each) for each in (took, bare)]
                print(
                    f"{words:36}{figures[0]:8.2f}{figures[1]:8.2f}{times:7.2f}{cpu[0]:8.2f}{cpu[1]:8.2f}{GOAL:7g}"
                    f"{'  missed' if times > GOAL else ''}"
                )
    finally:
        sandbox.stop(host.name)
    return missed


def measured(uri: str, folder: Path, size: int, runs: int) -> tuple[list[Took], list[Took]]:
    took, bare = [], []
    virsh = ["virsh", "-q", "-c", uri]
    for _ in range(runs):
        (folder / "all.yaml").write_text(POOL)
        run([*PROGRAM, "apply", "--auto-approve", "--prune", str(folder)])
        (folder / "all.yaml").write_text(POOL + VOLUME.format(file=folder / "image"))
        took.append(run([*PROGRAM, "apply", "--auto-approve", str(folder)]))
        run([*virsh, "vol-create-as", "images", "other.raw", f"{size}MiB", "--allocation", "0", "--format", "raw"])
        bare.append(run([*virsh, "vol-upload", "other.raw", str(folder / "image"), "--pool", "images", "--sparse"]))
        run([*virsh, "vol-delete", "other.raw", "--pool", "images"])
    return took, bare


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--size", type=int, default=1024, metavar="MIB")
    sys.exit(bool(main(**vars(options.parse_args()))))
