"""How long a guest stands still that moves between two hosts: `kvmstate vm migrate` beside `virsh migrate`.

    python tests/benchmarks/migrations.py [RUNS]

Both move the same machine there and back, in turns. What libvirt tells of each move, and the longest time in which the
guest, which counts on its console, said nothing. The goal: no more than 1.2 times as long, by the medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import libvirt
from harness import Guest, Project, kvmstate, resource, until

from kvmstate import sandbox

ROOT = Path(__file__).parents[2]
GOAL = 1.2


class Silence(threading.Thread):
    """The longest time in which a file did not grow."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self._path, self._ended = path, threading.Event()
        self.start()

    def run(self) -> None:
        size, since = self._path.stat().st_size, time.monotonic()
        while not self._ended.wait(0.002):
            now, grown = time.monotonic(), self._path.stat().st_size
            if grown != size:
                self.longest, size, since = max(self.longest, now - since), grown, now

    def end(self) -> float:
        self._ended.set()
        self.join()
        return self.longest


def main(runs: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="kvmstate-move-", dir="/var/tmp"))
    subprocess.run([ROOT / "script" / "guest"], check=True, stdout=subprocess.DEVNULL)
    hosts = [sandbox.start(f"move-{letter}") for letter in "ab"]
    try:
        return measure(runs, folder, hosts)
    finally:
        for host in hosts:
            sandbox.stop(host.name)
        subprocess.run(["rm", "-r", folder], check=True)


def measure(runs: int, folder: Path, hosts: list[sandbox.Sandbox]) -> int:
    kernel = ROOT / ".cache" / "guest"
    guest = Guest({"path": str(kernel / "vmlinuz"), "initrd": str(kernel / "initrd")}, folder / "log")
    (folder / "shared").mkdir()
    pool = resource("StoragePool", "shared", type="dir", target={"path": str(folder / "shared")})
    serials = [{"port": 0, "log": str(guest.log), "logAppend": True}]
    disk = {"name": "root", "create": {"pool": "shared", "capacity": "256MiB", "format": "qcow2"}}
    shop = Project(hosts[0], folder / "shop")
    Project(hosts[1], folder / "base", "base").converge(pool)
    shop.converge(pool, guest.machine("web", options="kvmstate.write=1", serials=serials, disks=[disk]))
    until(lambda: "guest: wrote 5" in guest.said(), "it counts")
    way, told, silent = f"unix://{folder}/m", {"virsh": [], "kvmstate": []}, {"virsh": [], "kvmstate": []}  # type: ignore[var-annotated]
    for turn in range(runs):
        for name in ("virsh", "kvmstate"):
            for here, there in (hosts, hosts[::-1]):
                time.sleep(0.5)
                silence = Silence(guest.log)
                if name == "virsh":
                    words = ["migrate", "--live", "--p2p", "--unsafe", "--persistent", "--undefinesource", "web"]
                    subprocess.run(["virsh", "-q", "-c", here.uri, *words, there.uri, "--migrateuri", way], check=True)
                else:
                    done = kvmstate(
                        *("vm", "migrate", "web", there.uri, "-c", here.uri, "-C", str(folder / "shop")),
                        f"--migrate-uri={way}",
                    )
                    assert done.code == 0, done
                connection = libvirt.open(there.uri)
                last = connection.lookupByName("web").jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
                connection.close()
                said = guest.said()
                until(lambda said=said: guest.said() != said, "it goes on")
                told[name].append(last["downtime"])
                silent[name].append(silence.end() * 1000)
                print(f"{turn} {name}: {told[name][-1]} ms, silent for {silent[name][-1]:.0f} ms", flush=True)
    numbers = [int(line.split()[2]) for line in guest.said().split("\n")[:-1] if line.startswith("guest: wrote ")]
    assert numbers == list(range(1, len(numbers) + 1)), "it has missed a count"
    missed = False
    for what, found in (("libvirt's downtime", told), ("silence", silent)):
        bare, own = (statistics.median(found[name]) for name in ("virsh", "kvmstate"))
        missed |= own > GOAL * bare
        print(f"{what}: virsh {bare:.0f} ms, kvmstate {own:.0f} ms, {own / bare:.2f} times (goal: {GOAL})")
    print(f"counted to {len(numbers)}, without a gap")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(int((sys.argv[1:] or ["5"])[0])))
