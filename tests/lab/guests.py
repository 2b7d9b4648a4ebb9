"""Guests in the lab that do what a test tells them (kvmstate.shell=1 in script/guest-init), and what they measure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness import QUICK, resource, until
from lab_host import Lab

FOLDER = "/srv/lab/guests"
# The virtualization of the lab's emulated CPU ends in a panic of its kernel. Emulated once more, a guest with little
# time would do nothing but count the ticks of its timer: its clock runs with what it has executed.
EMULATED = {"type": "qemu", "qemu": {"arguments": ["-icount", "shift=5"]}}
# A line to a guest's second serial port, and its answer
ASK = """
import socket, sys
port = socket.socket(socket.AF_UNIX)
port.connect(sys.argv[1])
port.settimeout(float(sys.argv[3]))
port.sendall(sys.argv[2].encode() + b"\\n")
said = b""
while not (b"guest: done " in said and said.endswith(b"\\n")):
    said += port.recv(4096)
sys.stdout.write(said.decode().replace("\\r", ""))
"""
# A server that sends, or receives, as fast as it can, and tells how many bytes a second it was: the first seconds, in
# which what is between may fill up, do not count
SERVER = """
import socket, sys, time
way, family, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
listening = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
# what is sent is soon at its guest
listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
listening.bind(("", 0))
listening.listen()
listening.settimeout(60)
print(listening.getsockname()[1], flush=True)
peer, _ = listening.accept()
peer.settimeout(60)
data, count, since, end = bytes(16384), 0, time.monotonic() + 2, None
while True:
    done = peer.send(data) if way == "in" else len(peer.recv(65536))
    now = time.monotonic()
    if now >= since:
        end = end or now
        count += done
        if now >= end + seconds or not done:
            break
print(int(count / (now - end)), flush=True)
"""


@dataclass(frozen=True)
class Shell:
    """A running guest of the lab."""

    lab: Lab
    name: str

    @staticmethod
    def machine(name: str, interfaces: Iterable[dict[str, Any]]) -> dict[str, Any]:
        kernel = {"path": f"{FOLDER}/vmlinuz", "initrd": f"{FOLDER}/initrd", "cmdline": f"{QUICK} kvmstate.shell=1"}
        serials = [
            {"port": 0, "log": f"/var/log/libvirt/qemu/{name}-console.log"},
            {"port": 1, "type": "unix", "source": {"path": f"/var/lib/libvirt/qemu/{name}.shell", "mode": "bind"}},
        ]
        stop = {"stop": {"timeout": "1s", "onTimeout": "destroy"}}
        spec: dict[str, Any] = {"memory": "128MiB", "kernel": kernel, "serials": serials, **EMULATED}
        return resource("VirtualMachine", name, stop, **spec, interfaces=[*interfaces])

    def ready(self) -> None:
        log = f"/var/log/libvirt/qemu/{self.name}-console.log"
        said = f"grep -c 'guest: listens' {log}"
        until(lambda: self.lab.run(said, False) == "1", lambda: self.lab.run(f"tail -n 5 {log}", False), 900)

    def run(self, command: str, check: bool = True, seconds: int = 120) -> str:
        """What it says. With `check` a command that fails is an error of the test."""
        words = ["python3", f"{FOLDER}/ask", f"/var/lib/libvirt/qemu/{self.name}.shell", command, str(seconds)]
        said = self.lab.run(shlex.join(words), timeout=seconds + 60)
        output, _, code = said.rpartition("guest: done ")
        assert code == "0" or not check, f"{self.name}: {command}: {said}"
        return output.strip()

    def takes(self, device: str, *addresses: str) -> None:
        """Bring a device up with addresses; those of IPv6 hold at once."""
        each = "".join(f"; ip addr add {address} dev {device}" for address in addresses)
        self.run(f"echo 0 >/proc/sys/net/ipv6/conf/{device}/accept_dad; ip link set {device} up{each}")

    def reaches(self, *addresses: str) -> dict[str, bool]:
        """Which of them answer to at least one of three packets, all of them asked at once."""
        asked = " ".join(f"{{ ping -c 3 -W 5 {each} >/dev/null 2>&1 && echo {each}; }} &" for each in addresses)
        answered = self.run(f"{asked} wait").split()
        return {each: each in answered for each in addresses}

    def carries(self, way: str, server: str, seconds: int = 6) -> float:
        """How many KiB a second go over TCP from an address of the lab to the guest (`in`), or from it (`out`)."""
        family, log = 6 if ":" in server else 4, f"{FOLDER}/{self.name}.served"
        self.lab.run(f"nohup python3 {FOLDER}/serve {way} {family} {seconds} >{log} 2>&1 </dev/null & :")
        port = until(lambda: self.lab.run(f"head -n 1 {log}", False), "a server", 60)
        # nc itself copies a KiB at a time, which takes longer than all else
        copy = "of=/dev/null" if way == "in" else "if=/dev/zero"
        self.run(f"nc {server} {port} -e dd bs=64k {copy}", False)
        found: str = until(lambda: self.lab.run(f"sed -n 2p {log}", False), lambda: self.lab.run(f"cat {log}"), 60)
        assert re.fullmatch(r"\d+", found), found
        return int(found) / 1024


def prepared(lab: Lab, vmlinuz: bytes, initrd: bytes) -> None:
    """What guests boot, and what tests ask them by."""
    lab.run(f"mkdir -p {FOLDER}; rm -f /var/log/libvirt/qemu/*-console.log")
    for name, content in (("vmlinuz", vmlinuz), ("initrd", initrd), ("ask", ASK.encode()), ("serve", SERVER.encode())):
        lab.put(f"{FOLDER}/{name}", content)


def tell(found: dict[str, Any]) -> None:
    """Figures for people, shown by `pytest -s`."""
    print(json.dumps(found))
