"""A host with storage of several kinds, where volumes hold data, and what may become of it."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt
import yaml
from flaky import Flaky, Fuse, Killed
from harness import await_answer, await_old, clear, resource
from trouble import inside

from kvmstate.app import Session
from kvmstate.apply import open_store
from kvmstate.errors import KvmstateError
from kvmstate.host import Host
from kvmstate.manifest import load
from kvmstate.plan import Options
from kvmstate.sandbox import Sandbox

HERE = "/var/lib/libvirt/behaviours"
MIB = 1 << 20
# mount runs it; who has another password is sent away
NFS = f"""
[ -e {HERE}/denied ] && {{ echo "mount.nfs: access denied by server while mounting $1" >&2; exit 32; }}
exec mount --bind {HERE}/export "$2\""""
POOLS = ("dir", "disk", "nfs")
VOLUMES = tuple(f"v{number}" for number in range(5))
# Those whose manifests may allow whatever they say: what is in them may go
FREE = VOLUMES[3:]
# How large a volume is made, and becomes
SIZES = ("1MiB", "2MiB", "3MiB", "8MiB", "40MiB")


@dataclass
class Declared:
    """A volume as the manifests have it. Of one that is `free` its lifecycle may allow whatever it says."""

    free: bool
    pool: str
    format: str
    capacity: str
    content: str | None = None
    lifecycle: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def document(self, name: str) -> dict[str, Any]:
        content = {"content": {"file": self.content}} if self.content else {}
        said = {"pool": self.pool, "format": self.format, "capacity": self.capacity}
        return resource("Volume", name, self.lifecycle, **said, **content, **self.more)


class Storage:
    """One sequence. `device` is a loop device of 50 MB, `precious` one with data that nobody knows."""

    def __init__(self, host: Sandbox, folder: Path, device: str, precious: str, seed: int) -> None:
        self.host, self.folder, self.device, self.precious = host, folder, device, precious
        self.random = random.Random(seed)
        self.connection = libvirt.open(host.uri)
        self.done: list[str] = []
        self.declared: dict[str, Declared] = {}
        self.pools: dict[str, dict[str, Any]] = {name: {} for name in POOLS}
        self.build = "never"
        # what is in each volume that no manifest ever allows to lose, by its name: how much, and its digest
        self.held: dict[str, tuple[int, str]] = {}
        self.strangers: dict[str, bytes] = {}

    # What there is

    def begin(self) -> None:
        clear(self.host)
        inside(self.host, f"mkdir -p {HERE}/export {HERE}/nfs")
        for number in (1, 2):
            (self.folder / f"image{number}").write_bytes(self.random.randbytes(MIB))
        subprocess.run(["mkfs.ext4", "-q", "-F", self.device], check=True)
        Path(self.precious).write_bytes(b"precious" * (2 * MIB // 8))
        self.digest = _digest(Path(self.precious).read_bytes())
        for name in (*VOLUMES[:2], FREE[0]):
            self.declares(name)
        self.applies(Fuse(), prune=False)
        for pool in POOLS:
            self.strangers[pool] = self.random.randbytes(MIB // 4)
            self.file(pool, "theirs").write_bytes(self.strangers[pool])
        self.writes()

    def end(self) -> None:
        self.connection.close()

    def file(self, pool: str, name: str) -> Path:
        """Where it is, also below a mount of the host's."""
        return Path(f"/proc/{self.host.pid}/root{HERE}/{pool}/{name}")

    def documents(self) -> list[dict[str, Any]]:
        specs = {
            "dir": {"type": "dir"},
            "disk": {"type": "fs", "source": {"device": self.device, "format": "ext4"}},
            "nfs": {"type": "netfs", "source": {"host": "192.0.2.1", "dir": "/export", "format": "nfs"}},
        }
        target = {name: {"target": {"path": f"{HERE}/{name}"}} for name in POOLS}
        found = [
            resource("StoragePool", name, more.get("lifecycle"), **specs[name], **target[name], **more.get("spec", {}))
            for name, more in self.pools.items()
        ]
        source = {"device": self.precious, "format": "ext4"}
        built = {"type": "fs", "source": source, "target": {"path": f"{HERE}/built"}, "build": self.build}
        found.append(resource("StoragePool", "built", **built))
        return found + [said.document(name) for name, said in self.declared.items() if said.pool in self.pools]

    # What is done

    def applies(self, fuse: Fuse, prune: bool) -> None:
        """Errors of kvmstate's are what may come of it; all else is a failure of the test."""
        path = self.folder / "manifests.yaml"
        path.write_text(yaml.safe_dump_all(self.documents(), sort_keys=False))
        options = Options(prune=prune, max_deletes=20, max_delete_share=100)
        host = Host(Flaky(self.connection, fuse), self.host.uri)
        try:
            session = Session(host, open_store(host, "stored"), load([path]).resources)
            session.apply(session.plan(options), options, lambda event: None, parallelism=4)
        except (KvmstateError, Killed) as error:
            self.done.append(f"  {type(error).__name__}: {error}")
        finally:
            host.uses.close()

    def declares(self, name: str) -> None:
        chosen = self.random
        self.declared[name] = Declared(
            name in FREE,
            chosen.choice([*self.pools] or ["dir"]),
            chosen.choice(("raw", "qcow2")),
            chosen.choice(SIZES[:3]),
            chosen.choice((None, "image1", "image2")),
        )
        said = self.declared[name]
        if said.content and said.format == "qcow2":
            # it would be converted, which takes a while
            said.content = None
        self.grants(said)

    def grants(self, said: Declared) -> None:
        chosen = self.random
        if said.free:
            said.lifecycle = chosen.choice(
                ({"deletion": "delete"}, {"replace": "allow"}, {"deletion": "delete", "replace": "allow"})
            )
            said.more = chosen.choice(({}, {"allowShrink": True}))
        else:
            said.lifecycle = chosen.choice(({}, {"deletion": "orphan"}, {"preventDestroy": True}))

    def edits(self) -> None:
        chosen = self.random
        there = [*self.declared]
        what = chosen.choice(("declare", "drop", "grow", "size", "move", "format", "content", "grant", "pool", "build"))
        name = chosen.choice(there) if there else ""
        said = self.declared.get(name)
        if what == "declare" or said is None:
            name = chosen.choice(VOLUMES)
            self.declares(name)
        elif what == "drop":
            del self.declared[name]
        elif what in ("grow", "size"):
            said.capacity = chosen.choice(SIZES[2:] if what == "grow" else SIZES)
        elif what == "move":
            said.pool = chosen.choice(POOLS)
        elif what == "format":
            said.format = "raw" if said.format == "qcow2" else "qcow2"
        elif what == "content":
            said.content = chosen.choice((None, "image1", "image2"))
        elif what == "grant":
            self.grants(said)
        elif what == "pool":
            name = chosen.choice(POOLS)
            if name not in self.pools:
                self.pools[name] = {}
            elif chosen.random() < 0.3:
                del self.pools[name]
            else:
                self.pools[name] = {"spec": {"active": chosen.random() < 0.6}}
                self.pools[name]["lifecycle"] = chosen.choice(({}, {"replace": "allow"}, {"storage": "delete"}))
        elif what == "build":
            self.build = chosen.choice(("never", "mkdir", "ifEmpty", "overwrite"))
        self.done.append(f"{what} {name} {said}")

    def restarts(self) -> None:
        name = self.random.choice(POOLS)
        with suppress(libvirt.libvirtError):
            pool = self.connection.storagePoolLookupByName(name)
            if pool.isActive():
                pool.destroy()
            if self.random.random() < 0.7:
                pool.create()
        self.done.append(f"restart pool {name}")

    def turns_away(self) -> None:
        """The server takes the password no more, or again."""
        inside(self.host, f"if [ -e {HERE}/denied ]; then rm {HERE}/denied; else touch {HERE}/denied; fi")
        self.done.append("credentials")

    def fills(self) -> None:
        """Nothing fits on the 50 MB any more, or all does again."""
        full = self.file("disk", "full")
        if full.exists():
            full.unlink()
        elif self.mounted("disk"):
            with suppress(OSError), full.open("wb") as file:
                while True:
                    file.write(bytes(MIB))
        self.done.append("full disk")

    def kills_libvirtd(self) -> None:
        os.kill(await_old(self.host), signal.SIGKILL)
        await_answer(self.host)
        self.connection = libvirt.open(self.host.uri)
        self.done.append("kill libvirtd")

    def step(self) -> None:
        chosen = self.random
        others: tuple[Callable[[], None], ...] = (self.restarts, self.turns_away, self.fills)
        for _ in range(chosen.randint(1, 3)):
            self.edits()
        if chosen.random() < 0.4:
            chosen.choice(others)()
        fuse = Fuse(chosen.randint(1, 40), chosen.random() < 0.5) if chosen.random() < 0.35 else Fuse()
        prune = chosen.random() < 0.5
        self.done.append(f"apply {'--prune' if prune else ''} {fuse.left or ''}")
        self.applies(fuse, prune)
        if chosen.random() < 0.02:
            self.kills_libvirtd()
        self.check()
        self.writes()

    def settle(self) -> None:
        """Whoever has been in the way is no more."""
        inside(self.host, f"rm -f {HERE}/denied")
        self.file("disk", "full").unlink(missing_ok=True)
        self.build = "never"
        self.pools = {name: {} for name in POOLS}
        self.applies(Fuse(), prune=False)
        for name in POOLS:
            pool = self.connection.storagePoolLookupByName(name)
            if not pool.isActive():
                pool.create()
        self.check(all_of_it=True)

    # What holds

    def mounted(self, pool: str) -> bool:
        mounts = Path(f"/proc/{self.host.pid}/mounts").read_text(encoding="utf-8")
        return pool == "dir" or any(line.split()[1] == f"{HERE}/{pool}" for line in mounts.splitlines())

    def writes(self) -> None:
        """Guests write into what is whole and not theirs to lose."""
        host = Host(self.connection, self.host.uri)
        entries = open_store(host, "stored").inventory.entries
        whole = {id_.name for id_, entry in entries.items() if id_.kind == "volume" and not entry.incomplete}
        host.uses.close()
        for name, said in self.declared.items():
            path = self.file(said.pool, name)
            if said.free or name in self.held or f"{said.pool}/{name}" not in whole or not path.exists():
                continue
            data = self.random.randbytes(65536)
            if _is_qcow2(path):
                (self.folder / "data").write_bytes(data)
                write = f"write -q -s {self.folder / 'data'} 0 65536"
                done = subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, path], capture_output=True, check=False)
                if done.returncode:
                    continue
            else:
                try:
                    with path.open("r+b") as file:
                        file.write(data)
                except OSError:
                    continue
            self.held[name] = len(data), _digest(data)

    def holds(self, path: Path, length: int) -> str:
        if not path.exists():
            return ""
        if _is_qcow2(path):
            words = ["qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"bs={length}", "count=1", f"if={path}"]
            subprocess.run([*words, f"of={self.folder / 'seen'}"], check=True, capture_output=True)
            return _digest((self.folder / "seen").read_bytes()[:length])
        with path.open("rb") as file:
            return _digest(file.read(length))

    def check(self, all_of_it: bool = False) -> None:
        """What is on a pool that is not there now is looked at when it is again."""
        away = [pool for pool in POOLS if not self.mounted(pool)]
        assert not (all_of_it and away), (away, *self.done)
        for name, (length, digest) in self.held.items():
            found = [pool for pool in POOLS if self.holds(self.file(pool, name), length) == digest]
            assert found or away, (f"the data of {name} is lost", *self.done)
        for pool, data in self.strangers.items():
            assert pool in away or self.file(pool, "theirs").read_bytes() == data, (f"a file in {pool}", *self.done)
        assert _digest(Path(self.precious).read_bytes()) == self.digest, ("what nobody knows is lost", *self.done)


def _is_qcow2(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"QFI\xfb"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
