"""What a host needs of the machine, and what to tell a person when it is not there."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from kvmstate.errors import SandboxError

# an ordinary user's PATH often lacks the sbin folders
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# program -> packages of Debian and Fedora
PROGRAMS = {
    "libvirtd": ("libvirt-daemon-system", "libvirt-daemon"),
    "virtlogd": ("libvirt-daemon-system", "libvirt-daemon-log"),
    f"qemu-system-{platform.machine()}": ("qemu-system-x86", "qemu-kvm"),
    "qemu-img": ("qemu-utils", "qemu-img"),
    "dnsmasq": ("dnsmasq-base", "dnsmasq"),
    "iptables": ("iptables", "iptables-nft"),
    "ip": ("iproute2", "iproute"),
    "unshare": ("util-linux", "util-linux"),
    "nsenter": ("util-linux", "util-linux"),
}
ROOTLESS = {"newuidmap": ("uidmap", "shadow-utils")}


def check(tree: Path | None) -> None:
    """Refuse what cannot work, with all that is missing at once."""
    if tree is not None:
        _check_tree(tree)
    programs = dict(PROGRAMS) | (ROOTLESS if os.geteuid() else {})
    outside = {"ip", "unshare", "nsenter"} if tree is not None else set(programs)
    missing = [name for name in programs if name in outside and not shutil.which(name, path=PATH)]
    if missing:
        raise SandboxError(f"a sandbox needs {', '.join(missing)}", install_hint(missing))
    if os.geteuid():
        _check_user_namespaces()


def install_hint(missing: list[str]) -> str:
    known = PROGRAMS | ROOTLESS
    debian = " ".join(sorted({known[name][0] for name in missing}))
    fedora = " ".join(sorted({known[name][1] for name in missing}))
    return f"install them: apt install {debian} (Debian, Ubuntu) or dnf install {fedora} (Fedora)"


def _check_user_namespaces() -> None:
    """Where they are forbidden, unshare --map-auto does not fail but waits for ever (util-linux 2.38)."""
    try:
        mapped = ["unshare", "--user", "--map-root-user", "--map-auto", "true"]
        for argv in (["unshare", "--user", "true"], mapped):
            subprocess.run(argv, check=True, capture_output=True, text=True, timeout=10)
    except subprocess.CalledProcessError as error:
        said = str(error.stderr).strip()
        raise SandboxError(f"an ordinary user cannot start a sandbox here: {said}", _hint(said)) from error
    except subprocess.TimeoutExpired as error:
        raise SandboxError(
            "an ordinary user cannot start a sandbox here: unshare does not end", _hint("uid_map")
        ) from error


def _check_tree(tree: Path) -> None:
    if os.geteuid():
        raise SandboxError(
            "a sandbox with the libvirt of another tree needs root",
            "run it with sudo, or leave the tree out",
        )
    if not (tree / "usr/sbin/libvirtd").exists():
        raise SandboxError(f"there is no libvirt in {tree}", "make a tree with script/tree")


# what the log says -> what to do about it
_HINTS = {
    "no line matching user": "give the user subordinate ids: sudo usermod --add-subuids 100000-165535 "
    "--add-subgids 100000-165535 $USER",
    "newuidmap": "see that newuidmap and newgidmap are setuid root (package uidmap or shadow-utils) and "
    "that the user has ranges in /etc/subuid and /etc/subgid",
    "uid_map": "ordinary users may not make user namespaces here; on Ubuntu: sudo sysctl "
    "kernel.apparmor_restrict_unprivileged_userns=0",
    "unshare failed": "namespaces are forbidden here: not in a chroot; a container needs to be "
    "privileged, and an ordinary user needs user namespaces (sysctl user.max_user_namespaces)",
    "permission denied": "the sandbox lacks a right: a container needs to be privileged; on Ubuntu an "
    "ordinary user needs sysctl kernel.apparmor_restrict_unprivileged_userns=0",
}


def explain(directory: Path, name: str, what: str) -> SandboxError:
    """The error of a host that did not come up, with the end of its log."""
    try:
        log = (directory / "log" / "host.log").read_text(errors="replace").strip()
    except OSError:
        log = ""
    lines = "".join(f"\n  {line}" for line in log.splitlines()[-12:])
    return SandboxError(f"the sandbox {name!r} did not start: {what}{lines}", _hint(log))


def _hint(said: str) -> str:
    return next((hint for sign, hint in _HINTS.items() if sign in said.lower()), "")
