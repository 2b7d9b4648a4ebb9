"""A thousand machines: what creating them, and planning when nothing is to be done, cost beside the bare libvirt calls.

    python tests/benchmarks/thousand.py [--ssh] [COUNT]

Starts a throw-away host, applies COUNT volumes and COUNT machines (defined, not started), and prints the ratios; with
--ssh the host is reached over ssh by all, the bare calls too. All figures are of one run on one machine; each is the
median of RUNS whole processes, but for the creations.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kvmstate import sandbox

sys.path.insert(0, str(Path(__file__).parents[1]))
from ssh_server import OverSsh, Server

RUNS = 5
HEAD = """
apiVersion: kvmstate/v1
kind: StoragePool
metadata: {name: images}
spec: {type: dir, target: {path: /var/lib/libvirt/thousand}}
---
apiVersion: kvmstate/v1
kind: Network
metadata: {name: lan}
spec:
  active: false
  ips: [{address: 192.168.170.1/24}]
"""
VOLUME = """
apiVersion: kvmstate/v1
kind: Volume
metadata: {{name: vm-{n:04}.raw}}
lifecycle: {{deletion: delete}}
spec: {{pool: images, format: raw, capacity: 1MiB}}
"""
MACHINE = """
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata:
  name: vm-{n:04}
  labels: {{tier: web}}
spec:
  state: stopped
  cpus: 1
  memory: {memory}MiB
  disks:
    - {{name: root, volume: images/vm-{n:04}.raw}}
  interfaces:
    - {{network: lan}}
  serials:
    - {{port: 0}}
  guestAgent: true
"""
# What the work needs at least: one connection, one thread, the XML of everything.
READ = """
import libvirt, sys
connection = libvirt.open(sys.argv[1])
for domain in connection.listAllDomains():
    domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
for network in connection.listAllNetworks():
    network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
for pool in connection.listAllStoragePools():
    pool.XMLDesc(0)
    for volume in pool.listAllVolumes():
        volume.XMLDesc(0)
"""
# A new host examines its QEMU when it is first asked about it, and keeps what it found: neither the one nor the other.
EXAMINE = """
import libvirt, sys
libvirt.open(sys.argv[1]).getCapabilities()
"""
DEFINE = """
import libvirt, sys
from pathlib import Path
connection = libvirt.open(sys.argv[1])
for file in sorted(Path(sys.argv[2]).iterdir()):
    connection.defineXML(file.read_text())
"""


def main(count: int, ssh: bool) -> None:
    host = sandbox.start(f"bench-{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            if ssh:
                uri = Server(host, Path(folder)).uri()
                host = OverSsh(host.name, host.directory, host.pid, host.started, uri)
            measure(host, Path(folder), count)
    finally:
        sandbox.stop(host.name)


def measure(host: sandbox.Sandbox, folder: Path, count: int) -> None:
    manifests = folder / "manifests"
    manifests.mkdir()
    (manifests / "kvmstate.yaml").write_text("project: thousand\n")
    (manifests / "head.yaml").write_text(HEAD)
    (manifests / "volumes.yaml").write_text("---".join(VOLUME.format(n=n) for n in range(count)))

    def kvmstate(*words: str, want: int = 0) -> None:
        program = [
            sys.executable,
            "-c",
            "from kvmstate.cli import main; main()",
            *words,
            str(manifests),
            "-c",
            host.uri,
        ]
        # an installed package has its bytecode
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        done = subprocess.run(program, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == want, done.stdout[-2000:] + done.stderr[-2000:]

    def bare(script: str, *words: str) -> None:
        subprocess.run([sys.executable, "-c", script, host.uri, *words], check=True)

    bare(EXAMINE)
    kvmstate("apply", "--auto-approve")
    for n in range(count):
        (manifests / f"vm-{n:04}.yaml").write_text(MACHINE.format(n=n, memory=128))
    created = timed(lambda: kvmstate("apply", "--auto-approve"))
    read = median(lambda: bare(READ))
    noop = median(lambda: kvmstate("plan", "--detailed-exitcode"))
    (manifests / f"vm-{count // 2:04}.yaml").write_text(MACHINE.format(n=count // 2, memory=256))
    changed = median(lambda: kvmstate("plan", "--detailed-exitcode", want=2))
    defined = timed(lambda: redefine(host, folder / "xml", bare))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024

    print(f"{count} machines, {count} volumes, 1 network, 1 pool{', over ssh' if isinstance(host, OverSsh) else ''}")
    row("bare: connect and read all XML, one thread", read)
    row("plan, nothing to do", noop, noop / read, 3, "of the bare reads")
    row("plan, one machine changed", changed, changed / noop, 1.2, "of the plan with nothing to do")
    row("bare: define the machines in a loop", defined)
    row("apply, creating the machines", created, created / defined, 1.5, "of the bare defines")
    print(f"{'largest process':<46} {peak:8.0f} MB            (at most 250)")


def redefine(host: sandbox.Sandbox, folder: Path, bare: Callable[..., None]) -> None:
    """The same machines once more, from libvirt's own XML of them."""
    import libvirt

    folder.mkdir()
    connection = libvirt.open(host.uri)
    for domain in connection.listAllDomains():
        (folder / domain.name()).write_text(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        domain.undefine()
    begun.append(time.perf_counter())
    bare(DEFINE, str(folder))


begun: list[float] = []


def timed(call: Callable[[], None]) -> float:
    begun[:] = [time.perf_counter()]
    call()
    return time.perf_counter() - begun[-1]


def median(call: Callable[[], None]) -> float:
    return statistics.median(timed(call) for _ in range(RUNS))


def row(what: str, seconds: float, ratio: float | None = None, most: float = 0, of: str = "") -> None:
    tail = f"{ratio:6.2f} times   (at most {most:g}) {of}" if ratio is not None else ""
    print(f"{what:<46} {seconds:8.2f} s  {tail}")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--ssh", action="store_true", help="reach the host over ssh")
    options.add_argument("count", metavar="COUNT", type=int, nargs="?", default=1000)
    main(**vars(options.parse_args()))
