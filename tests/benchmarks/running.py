"""A plan with nothing to do where some of a thousand machines run and each says some forty fields, beside the bare
libvirt calls that read as much, as a ratio with its goal.

    python tests/benchmarks/running.py [--runs N] [--checkout FOLDER] [COUNT]

Of COUNT machines (1,000) fifty run. Starts a throw-away host; the figures are the least of RUNS whole processes (5), in
turns with the bare calls. With --checkout it is the kvmstate of another checkout that is measured. The exit code is 1
when the goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import world

from kvmstate import sandbox

GOAL = 1.5


def main(count: int, runs: int, checkout: str) -> int:
    host = sandbox.start(f"bench-{os.getpid()}")
    if checkout:
        world.ENV["PYTHONPATH"] = str(Path(checkout).resolve())
        # where a checkout is worked in, its own kvmstate comes first
        os.chdir("/")
    try:
        with tempfile.TemporaryDirectory() as name:
            there = world.Running(host.uri, Path(name) / "project", count)
            there.bare("examine")
            there.come()
            # what was started is read once more, and then agrees
            there.kvmstate("plan", "--detailed-exitcode")
            both = [(there.kvmstate("plan", "--detailed-exitcode"), there.bare("read")) for _ in range(runs)]
    finally:
        sandbox.stop(host.name)
    took, bare = (min(each, key=lambda took: took.seconds) for each in zip(*both, strict=True))
    cpu, alone = (min(took.cpu for took in each) for each in zip(*both, strict=True))
    ratio = took.seconds / bare.seconds
    print(f"{count} machines, {min(count, there.running)} of them running; least of {runs}")
    print(f"plan: {took.seconds:.2f} s, {ratio:.2f} times the bare reads ({bare.seconds:.2f} s); goal {GOAL}")
    print(f"processor time: {cpu:.2f} s, {cpu / alone:.2f} times ({alone:.2f} s); {took.memory:.0f} MB")
    return int(ratio > GOAL)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--runs", type=int, default=5, help="processes (default: 5)")
    options.add_argument("--checkout", default="", help="the folder of another checkout")
    options.add_argument("count", metavar="COUNT", type=int, nargs="?", default=1000)
    sys.exit(main(**vars(options.parse_args())))
