"""Whether QEMU's user can reach a file of this machine. Only for local hosts: elsewhere there is nothing to look at."""

from __future__ import annotations

import os
import pwd
import re
import stat
from errno import EACCES
from pathlib import Path

from kvmstate.errors import HostError
from kvmstate.host.connection import Host
from kvmstate.xmlbind.document import document

_MODELS = ("apparmor", "selinux")


def explained(error: HostError, host: Host) -> HostError:
    """An error about permissions says what stands in the way, where that can be seen from here."""
    # QEMU says it in English only, libvirt in the daemon's language, with its quotes
    words = ".*Permission denied" if error.errno != EACCES else ""
    denied = re.search(rf"['\"«»„“](/[^'\"«»„“”]+)['\"«»“”]{words}", error.message, re.DOTALL)
    user = qemu_user(host) if denied and host.is_local else None
    if not denied or not user:
        return error
    path = Path(denied[1])
    if reason := obstacle(path, *user) or unreadable(path, *user):
        error.hint = reason
    elif model := security_model(host):
        error.hint = (
            f"owner and modes are right, so most likely {model} denies it: see `journalctl -k | grep -i denied`; "
            "images belong in a storage pool's folder, such as /var/lib/libvirt/images"
        )
    return error


def qemu_user(host: Host) -> tuple[int, int] | None:
    """The user and group that QEMU runs as, by number; None where the driver does not say."""
    for model in document(host.capabilities).iterfind("host/secmodel"):
        if model.findtext("model") == "dac" and (label := model.findtext("baselabel")):
            uid, gid = (int(part.lstrip("+")) for part in label.split(":"))
            return uid, gid
    return None


def security_model(host: Host) -> str:
    """apparmor or selinux where libvirt confines guests with it, else nothing."""
    models = {model.text for model in document(host.capabilities).iterfind("host/secmodel/model")}
    return next((model for model in _MODELS if model in models), "")


def obstacle(path: Path, uid: int, gid: int) -> str:
    """The first folder on the way to `path` that this user may not go through, as a sentence; '' when there is none.

    Folders with access control lists are taken as passable: what a list says is more than modes tell.
    """
    for folder in reversed(path.parents):
        try:
            passable = _has_acl(folder) or _allows(folder, uid, gid, 0o1)
        except OSError:
            return ""
        if not passable:
            return (
                f"QEMU's user {_name(uid)} may not go through the folder {_shown(folder)}: "
                f"`chmod o+x {folder}`, or `setfacl -m u:{_name(uid)}:x {folder}`"
            )
    return ""


def unreadable(path: Path, uid: int, gid: int) -> str:
    """Why this user may not read the file itself, as a sentence; '' when it may."""
    try:
        if _has_acl(path) or _allows(path, uid, gid, 0o4):
            return ""
    except OSError:
        return ""
    return f"QEMU's user {_name(uid)} may not read the file {_shown(path)}: `chown {_name(uid)} {path}`"


def _allows(path: Path, uid: int, gid: int, bit: int) -> bool:
    found = path.stat()
    if uid == 0:
        return True
    if found.st_uid == uid:
        return bool(found.st_mode >> 6 & bit)
    return bool(found.st_mode >> (3 if found.st_gid in _groups(uid, gid) else 0) & bit)


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]


def _has_acl(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _shown(path: Path) -> str:
    found = path.stat()
    return f"{path} (owner {_name(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):04o})"
