"""What snapshots cost beside libvirt's own calls for them.

    python tests/benchmarks/snapshots.py [RUNS]

A throw-away host runs a guest that writes all the time (see script/guest-init) and has a second disk for merges. All
figures are medians of RUNS (default 9), ours and the bare ones in turns; ratios above LIMIT end it with exit code 1.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from kvmstate import sandbox
from kvmstate.host import Host
from kvmstate.snapshots import create, merge

ROOT = Path(__file__).parents[2]
LIMIT = 1.2
GIB = 1 << 30
MACHINE = """
<domain type='qemu'>
  <name>vm</name>
  <memory unit='MiB'>128</memory>
  <os>
    <type>hvm</type>
    <kernel>{guest}/vmlinuz</kernel>
    <initrd>{guest}/initrd</initrd>
    <cmdline>console=ttyS0 quiet kvmstate.write=1</cmdline>
  </os>
  <devices>
    <disk type='file'>
      <driver name='qemu' type='qcow2'/><source file='{folder}/vda.qcow2'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file'>
      <driver name='qemu' type='qcow2'/><source file='{folder}/sdb.qcow2'/><target dev='sdb' bus='sata'/>
    </disk>
    <serial type='unix'><source mode='bind' path='{folder}/serial'/></serial>
  </devices>
</domain>
"""
POOL = "<pool type='dir'><name>images</name><target><path>{folder}</path></target></pool>"
BARE = """<domainsnapshot><name>{name}</name><disks>
<disk name='{disk}' snapshot='external'><source file='{path}'/></disk><disk name='{other}' snapshot='no'/>
</disks>{memory}</domainsnapshot>"""


class Writes:
    """When the guest told of each block that it has written."""

    def __init__(self, path: Path) -> None:
        self.times: list[float] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._socket.makefile("rb"):
            if b"guest: wrote " in line:
                self.times.append(time.perf_counter())

    def begin(self) -> None:
        """Wait for the first ones."""
        while len(self.times) < 2:
            time.sleep(0.01)

    def longest_gap(self, since: float, until: float) -> float:
        """Of those between two writes that a span of time has a part in."""
        while not self.times or self.times[-1] <= until:
            time.sleep(0.01)
        pairs = zip(self.times, self.times[1:], strict=False)
        return max(after - before for before, after in pairs if after > since and before < until)


class Stops:
    """How long QEMU had stopped the guest, by its own clock."""

    def __init__(self, connection: Any, domain: Any) -> None:
        self._at: dict[str, list[float]] = {"STOP": [], "RESUME": []}
        self._change = threading.Condition()
        for event in self._at:
            libvirt_qemu.qemuMonitorEventRegister(connection, domain, event, self._seen, None, 0)

    def _seen(self, _: Any, __: Any, event: str, seconds: int, micros: int, *rest: Any) -> None:
        with self._change:
            self._at[event].append(seconds + micros / 1e6)
            self._change.notify_all()

    def take(self, some: bool) -> float:
        """In all, since it was asked last; with `some` it waits for them."""
        stops, resumes = self._at.values()
        with self._change:
            assert self._change.wait_for(lambda: len(stops) == len(resumes) and (stops or not some), timeout=10)
            took = sum(resumes) - sum(stops)
            stops.clear()
            resumes.clear()
        return took


class Bench:
    def __init__(self, uri: str, folder: Path) -> None:
        self.folder = folder
        self.connection = libvirt.open(uri)
        self.host = Host(self.connection, uri)
        for name in ("vda", "sdb"):
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / f"{name}.qcow2", "2G"], check=True)
        self.pool = self.connection.storagePoolDefineXML(POOL.format(folder=folder))
        self.pool.create()
        self.domain = self.connection.defineXML(MACHINE.format(folder=folder, guest=ROOT / ".cache" / "guest"))
        self.jobs: list[int] = []
        self._job = threading.Condition()
        event = libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2
        self.connection.domainEventRegisterAny(None, event, self._job_changed, None)
        self.domain.create()
        self.writes = Writes(folder / "serial")
        self.stops = Stops(self.connection, self.domain)
        self.writes.begin()

    def _job_changed(self, _: Any, __: Any, ___: str, ____: int, status: int, *rest: Any) -> None:
        with self._job:
            self.jobs.append(status)
            self._job.notify_all()

    # each of these gives the seconds of what is measured, and leaves no snapshot

    def bare(self, disk: str, memory: bool = False) -> tuple[float, float]:
        """When libvirt began to take a snapshot called bare, and when it had."""
        path = self.folder / f"{disk}.bare"
        kept = f"<memory snapshot='external' file='{self.folder}/bare.memory'/>" if memory else ""
        text = BARE.format(name="bare", disk=disk, other={"vda": "sdb", "sdb": "vda"}[disk], path=path, memory=kept)
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_LIVE if memory else libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
        return timed(lambda: self.domain.snapshotCreateXML(text, flags))

    def ours(self, disk: str, memory: bool = False) -> tuple[float, float]:
        wish = create.Wish("ours", disks=[disk], memory=memory)
        return timed(lambda: create.create(self.host, "vm", wish))

    def bare_merge(self, disk: str) -> tuple[float, float]:
        def work() -> None:
            self.jobs.clear()
            flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
            self.domain.blockCommit(disk, str(self.folder / f"{disk}.qcow2"), None, 0, flags)
            self.await_job(libvirt.VIR_DOMAIN_BLOCK_JOB_READY)
            self.domain.blockJobAbort(disk, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            self.await_job(libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED)
            snapshot = self.domain.snapshotLookupByName("bare")
            snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
            for path in self.folder.glob("*bare*"):
                path.unlink()

        return timed(work)

    def our_merge(self, disk: str) -> tuple[float, float]:
        return timed(lambda: merge.delete(self.host, "vm", "ours"))

    def await_job(self, status: int) -> None:
        with self._job:
            assert self._job.wait_for(lambda: status in self.jobs, timeout=600)

    def fill(self) -> None:
        """A GiB of data for the second disk."""
        for at in range(0, 1024, 256):
            said = libvirt_qemu.qemuMonitorCommand(
                self.domain,
                f'qemu-io -d sata0-0-1 "write -P {at // 256 + 1} {at}M 256M"',
                libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP,
            )
            assert said == "", said

    def measure(self, runs: int) -> bool:
        whole: dict[str, list[float]] = {"bare": [], "ours": []}
        gaps: dict[str, list[float]] = {"bare": [], "ours": []}
        stopped: dict[str, list[float]] = {"bare": [], "ours": []}
        merged: dict[str, list[float]] = {"bare": [], "ours": []}
        whose = {"bare": (self.bare, self.bare_merge), "ours": (self.ours, self.our_merge)}
        for _ in range(runs):
            for name, (take, drop) in whose.items():
                begin, end = take("vda")
                whole[name].append(end - begin)
                gaps[name].append(self.writes.longest_gap(begin, end))
                assert self.stops.take(some=False) == 0, "the guest was stopped"
                drop("vda")
                self.stops.take(some=False)
        for _ in range(runs):
            for name, (take, drop) in whose.items():
                take("vda", True)
                stopped[name].append(self.stops.take(some=True))
                drop("vda")
                self.stops.take(some=False)
        for _ in range((runs + 1) // 2):
            for name, (take, drop) in whose.items():
                take("sdb")
                self.fill()
                begin, end = drop("sdb")
                merged[name].append(end - begin)
        print(f"{'medians, in ms':56} {'libvirt':>9} {'kvmstate':>9} {'ratio':>7}")
        rows = [
            row("snapshot of a disk, the whole call", whole),
            row("  longest time between two writes of the guest", gaps),
            row("snapshot with memory: the guest is stopped for", stopped),
            row("merge of 1 GiB under a running guest", merged),
        ]
        return all(rows)


def row(what: str, of: dict[str, list[float]]) -> bool:
    bare, ours = (statistics.median(times) * 1000 for times in of.values())
    print(f"{what:56} {bare:9.1f} {ours:9.1f} {ours / bare:7.2f}{'' if ours / bare <= LIMIT else f'  above {LIMIT}'}")
    return ours / bare <= LIMIT


def timed(call: Callable[[], object]) -> tuple[float, float]:
    begin = time.perf_counter()
    call()
    return begin, time.perf_counter()


def events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    subprocess.run([ROOT / "script" / "guest"], check=True, stdout=subprocess.DEVNULL)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=events, daemon=True).start()
    tree = os.environ.get("KVMSTATE_SANDBOX_TREE")
    host = sandbox.start(f"bench-{os.getpid()}", Path(tree) if tree else None)
    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            return 0 if Bench(host.uri, Path(folder)).measure(runs) else 1
    finally:
        sandbox.stop(host.name)


if __name__ == "__main__":
    sys.exit(main())
