"""How soon `kvmstate run` corrects what somebody changed by hand, beside the bare calls that fix it; and how soon a
saved manifest is applied, beside the apply itself.

    python tests/benchmarks/daemon.py [COUNT]

Each change is made COUNT times (100) on a throw-away host. Seen from outside: the time runs from the return of the call
that spoils until libvirt's events tell that it is fixed. The bare calls are timed in the same run, by the same events.
"""

from __future__ import annotations

import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt

from kvmstate import sandbox
from kvmstate.host.events import Events, Heard

MANIFEST = """
apiVersion: kvmstate/v1
kind: Network
metadata: {name: lan}
spec: {ips: [{address: 192.168.180.1/24}]}
---
apiVersion: kvmstate/v1
kind: VirtualMachine
metadata: {name: vm}
spec:
  state: running
  memory: {memory}MiB
  maxMemory: 64MiB
"""
# ms over the bare calls, of what an event tells: half of all within the first, none past the second
MEDIAN, WORST = 25, 80
ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-c", "from kvmstate.cli import main; main()"]
ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}


class Told:
    """What libvirt tells, with the time when it came."""

    def __init__(self, uri: str) -> None:
        self._heard: queue.Queue[tuple[float, Heard]] = queue.Queue()
        self._events = Events(uri, lambda heard: self._heard.put((time.perf_counter(), heard)), lambda: None)

    def forget(self) -> None:
        time.sleep(0.3)
        while not self._heard.empty():
            self._heard.get()

    def wait(self, address: str, what: str) -> float:
        """When this happened."""
        while True:
            at, heard = self._heard.get(timeout=60)
            if str(heard.id) == address and heard.what == what:
                return at


def main(count: int) -> int:
    host = sandbox.start(f"daemon-{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            return measure(host.uri, Path(folder), count)
    finally:
        sandbox.stop(host.name)


def measure(uri: str, folder: Path, count: int) -> int:
    """The number of goals that are missed."""
    (folder / "kvmstate.yaml").write_text(f"project: bench\nconnection: {uri}\n")
    manifest = folder / "all.yaml"
    manifest.write_text(MANIFEST.replace("{memory}", "32"))
    subprocess.run([*PROGRAM, "apply", "--auto-approve", str(folder)], check=True, capture_output=True, env=ENV)
    connection = libvirt.open(uri)
    told = Told(uri)
    domain, network = connection.lookupByName("vm"), connection.networkLookupByName("lan")
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    lan = network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    # what spoils, what fixes it with bare calls, and the event that tells that it is fixed
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any], str, str]] = {
        "destroy": (domain.destroy, domain.create, "domain/vm", "started"),
        "suspend": (domain.suspend, domain.resume, "domain/vm", "resumed"),
        "undefine": (domain.undefine, lambda: connection.defineXML(xml), "domain/vm", "defined"),
        "net-destroy": (network.destroy, network.create, "network/lan", "started"),
        "net-undefine": (network.undefine, lambda: connection.networkDefineXML(lan), "network/lan", "defined"),
    }
    bare: dict[str, list[float]] = {}
    for name, (spoil, fix, address, what) in cases.items():
        for _ in range(count):
            spoil()
            told.forget()
            begun = time.perf_counter()
            fix()
            bare.setdefault(name, []).append(told.wait(address, what) - begun)
    head = (f"{count} times each, in ms", "bare", "median", "worst", "median over", "worst over", "goals")
    print("{:24}{:>12}{:>10}{:>10}{:>14}{:>12}{:>10}".format(*head))
    missed = 0
    with daemon(folder):
        for name, (spoil, _, address, what) in cases.items():
            times = []
            for _ in range(count):
                told.forget()
                spoil()
                begun = time.perf_counter()
                times.append(told.wait(address, what) - begun)
            missed += row(name, times, statistics.median(bare[name]), goals=True)
    balloon(uri, folder, manifest, count // 4)
    saved(folder, manifest, count // 5, told)
    return missed


def balloon(uri: str, folder: Path, manifest: Path, count: int) -> None:
    """`virsh setmem` of a guest that gives memory back, and takes it again."""
    here = ROOT / ".cache" / "guest"
    subprocess.run([ROOT / "script" / "guest"], check=True, stdout=subprocess.DEVNULL)
    kernel = f"kernel: {{path: {here}/vmlinuz, initrd: {here}/initrd, cmdline: console=ttyS0 quiet}}"
    manifest.write_text(
        MANIFEST.replace("maxMemory: 64MiB", f"maxMemory: 128MiB\n  {kernel}").replace("{memory}", "128")
    )
    connection = libvirt.open(uri)
    connection.lookupByName("vm").destroy()
    subprocess.run([*PROGRAM, "apply", "--auto-approve", str(folder)], check=True, capture_output=True, env=ENV)
    domain = connection.lookupByName("vm")
    size, times, bare = 128 * 1024, [], []

    def until(holds: Callable[[int], bool]) -> float:
        deadline = time.perf_counter() + 60
        while not holds(domain.info()[2]):
            assert time.perf_counter() < deadline
            time.sleep(0.002)
        return time.perf_counter()

    # until its driver is there, the guest gives nothing back
    domain.setMemory(size - 8192)
    until(lambda kib: kib == size - 8192)
    for _ in range(count):
        begun = time.perf_counter()
        domain.setMemory(size)
        bare.append(until(lambda kib: kib == size) - begun)
        domain.setMemory(size - 8192)
        until(lambda kib: kib == size - 8192)
    with daemon(folder):
        for _ in range(count):
            # QEMU tells of a balloon at most once a second
            time.sleep(1.2)
            domain.setMemory(size - 8192)
            begun = until(lambda kib: kib < size)
            times.append(until(lambda kib: kib == size) - begun)
    row("setmem", times, statistics.median(bare))


def saved(folder: Path, manifest: Path, count: int, told: Told) -> None:
    """A new memory in the manifest: one definition."""
    alone, times = [], []
    for number in range(count):
        manifest.write_text(MANIFEST.replace("{memory}", str(33 + number % 2)))
        told.forget()
        begun = time.perf_counter()
        subprocess.run([*PROGRAM, "apply", "--auto-approve", str(folder)], check=True, capture_output=True, env=ENV)
        alone.append(time.perf_counter() - begun)
    with daemon(folder):
        for number in range(count):
            told.forget()
            begun = time.perf_counter()
            manifest.write_text(MANIFEST.replace("{memory}", str(35 + number % 2)))
            times.append(told.wait("domain/vm", "defined") - begun)
    row("save a manifest", times, statistics.median(alone))


@contextmanager
def daemon(folder: Path) -> Iterator[None]:
    log = folder.with_suffix(".log")
    with log.open("w") as file:
        words = [*PROGRAM, "run", str(folder), "--log-format", "json"]
        process = subprocess.Popen(words, stderr=file, env=ENV)
    try:
        while '"Ready"' not in log.read_text():
            time.sleep(0.1)
        yield
        process.terminate()
        process.wait(30)
    except BaseException:
        print(log.read_text(), file=sys.stderr)
        raise
    finally:
        process.kill()
        log.unlink()


def row(name: str, times: list[float], bare: float, goals: bool = False) -> bool:
    median, worst = statistics.median(times), max(times)
    figures = [bare, median, worst, median - bare, worst - bare]
    told = "".join(f"{1000 * f:{w}.0f}" for f, w in zip(figures, (12, 10, 10, 14, 12), strict=True))
    missed = goals and (1000 * figures[3] > MEDIAN or 1000 * figures[4] > WORST)
    print(f"{name:<24}{told}{f'{MEDIAN} / {WORST}' if goals else '':>10}{'  missed' if missed else ''}")
    return missed


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)))
