"""What `kvmstate run` costs when nothing happens: a thousand machines, defined and not started.

    python tests/benchmarks/idle.py [COUNT] [MINUTES]

Calls to libvirt are counted on the way, between the daemon and libvirtd; processor time and memory are the kernel's
figures of the daemon's process. Then a thousand passes, to see whether its memory grows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import libvirt
from world import HEAD, MACHINE, VOLUME

sys.path.insert(0, str(Path(__file__).parents[1]))
from counting import Counting

from kvmstate import sandbox

PROGRAM = [sys.executable, "-c", "from kvmstate.cli import main; main()"]
ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}


def main(count: int, minutes: float) -> None:
    host = sandbox.start(f"idle-{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure(host.uri, Path(folder), count, minutes)
    finally:
        sandbox.stop(host.name)


def measure(uri: str, folder: Path, count: int, minutes: float) -> None:
    manifests = folder / "manifests"
    manifests.mkdir()
    (manifests / "kvmstate.yaml").write_text("project: idle\n")
    (manifests / "head.yaml").write_text(HEAD)
    (manifests / "volumes.yaml").write_text("---".join(VOLUME.format(n=n) for n in range(count)))
    for n in range(count):
        (manifests / f"vm-{n:04}.yaml").write_text(MACHINE.format(n=n, memory=128))
    words = ["apply", "--auto-approve", str(manifests), "-c", uri]
    subprocess.run([*PROGRAM, *words], check=True, capture_output=True, env=ENV)
    counting = Counting(folder / "socket", uri.partition("socket=")[2])
    log = folder / "log"
    with log.open("w") as file:
        words = ["run", str(manifests), "-c", f"qemu+unix:///system?socket={folder}/socket", "--log-format", "json"]
        daemon = subprocess.Popen([*PROGRAM, *words, "--listen", f"unix:{folder}/http"], stderr=file, env=ENV)
    try:
        while '"Ready"' not in log.read_text():
            time.sleep(0.1)
        time.sleep(10)
        quiet(daemon.pid, counting, minutes)
        passes(daemon.pid, counting, uri, 1000)
        daemon.terminate()
        daemon.wait(60)
    finally:
        daemon.kill()


def quiet(pid: int, counting: Counting, minutes: float) -> None:
    before, used, begun = counting.calls.copy(), processor(pid), time.monotonic()
    time.sleep(60 * minutes)
    taken = time.monotonic() - begun
    told = counting.calls - before
    looks = sum(told.values()) - told["keepalive"]
    print(f"{minutes:g} minutes in which nothing happens: {told['keepalive']} keepalives, {looks} calls {dict(told)}")
    print(f"processor {100 * (processor(pid) - used) / taken:.3f} %, memory {memory(pid):.0f} MB")


def passes(pid: int, counting: Counting, uri: str, count: int) -> None:
    """Each over one machine whose metadata somebody touches, and some over everything."""
    domain = libvirt.open(uri).listAllDomains()[0]
    for number in range(count + 1):
        if number % 200 == 0:
            print(f"memory after {number} passes: {memory(pid):.1f} MB", flush=True)
        if number % 20 == 0:
            os.kill(pid, signal.SIGHUP)
        before = counting.calls.total()
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, f"<a n='{number}'/>", "bench", "urn:bench", 0)
        deadline = time.monotonic() + 5
        while counting.calls.total() == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)


def processor(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Resident, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, float(sys.argv[2]) if len(sys.argv) > 2 else 10)
