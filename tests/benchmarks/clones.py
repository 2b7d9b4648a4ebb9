"""A hundred clones of a template, with a seed for cloud-init each: what they add to a plan that has nothing to do,
beside what they add to the bare libvirt calls that read everything. It is processor time: that of whole processes, and
of libvirt's daemons meanwhile.

    python tests/benchmarks/clones.py [--runs N] [COUNT]

Starts a throw-away host. Each figure is the least of RUNS (3), before there are clones and with them; and what of it
Python and imports are, which is the same however many there are. The exit code is 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from world import BARE, PROGRAM, cpu, run

from kvmstate import sandbox

GOAL = 2.5
# What such a plan loads
IMPORTS = "import kvmstate.cli.plan, kvmstate.app, kvmstate.manifest.load, kvmstate.views.plan"
IMPORTS += "".join(f", kvmstate.kinds.{kind}.ops" for kind in ("storage_pool", "virtual_machine", "volume"))
IMPORTS += ", kvmstate.kinds.template.spec, kvmstate.kinds.virtual_machine.first_boot"
HEAD = """
apiVersion: kvmstate/v1
kind: StoragePool
metadata: {name: images}
spec: {type: dir, target: {path: /var/lib/libvirt/clones}}
---
apiVersion: kvmstate/v1
kind: Template
metadata: {name: tiny}
spec:
  pool: images
  source: {file: image.raw}
  defaults:
    memory: 128MiB
    interfaces: [{name: lan, bridge: br0}]
    serials: [{port: 0}]
    cloudInit:
      sshAuthorizedKeys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1 you@example.org]
      packages: [nginx]
"""
CLONE = """---
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {{name: clone-{n:04}}}
spec: {{template: tiny, state: stopped}}
"""


def daemons(host: sandbox.Sandbox) -> float:
    """Processor time, in seconds, of what runs on the host."""
    children = Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()
    return sum(cpu(int(pid)) for pid in children)


def main(count: int, runs: int) -> int:
    host = sandbox.start(f"clones-{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "kvmstate.yaml").write_text("project: clones\n")
            (folder / "image.raw").write_bytes(os.urandom(1 << 20))
            (folder / "template.yaml").write_text(HEAD)

            def took(words: list[str]) -> float:
                before = daemons(host)
                return run(words).cpu + daemons(host) - before

            def kvmstate(*words: str) -> float:
                return took([*PROGRAM, *words, str(folder), "-c", host.uri])

            def measured() -> tuple[float, float]:
                read = [sys.executable, str(BARE), host.uri, "read", str(count)]
                both = [(kvmstate("plan", "--detailed-exitcode"), took(read)) for _ in range(runs)]
                plans, bare = zip(*both, strict=True)
                return min(plans), min(bare)

            kvmstate("apply", "--auto-approve")
            plan, bare = measured()
            (folder / "clones.yaml").write_text("".join(CLONE.format(n=n) for n in range(count)))
            made = kvmstate("apply", "--auto-approve")
            with_clones, bare_with_clones = measured()
            imports, bare_imports = (
                min(run([sys.executable, "-c", words]).cpu for _ in range(runs))
                for words in (IMPORTS, "import libvirt")
            )
    finally:
        sandbox.stop(host.name)
    times = (with_clones - plan) / (bare_with_clones - bare)
    print(f"{count} clones, made in {made:.2f} s of processor time; least of {runs}")
    print(f"plan: {plan:.2f} s, with the clones {with_clones:.2f} s; bare {bare:.3f} s, {bare_with_clones:.3f} s")
    print(f"of which Python and imports: {imports:.2f} s; bare {bare_imports:.3f} s")
    print(f"as a whole {with_clones / bare_with_clones:.2f} times; what the clones add {times:.2f} times, goal {GOAL}")
    return int(times > GOAL)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--runs", type=int, default=3, help="how often (default: 3)")
    options.add_argument("count", metavar="COUNT", type=int, nargs="?", default=100)
    sys.exit(main(**vars(options.parse_args())))
