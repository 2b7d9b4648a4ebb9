"""What people look for and kvmstate does not do, or calls otherwise: the command that does it."""

from __future__ import annotations

_URI = "virsh -c URI"
# What kvmstate leaves to other programs: what it is for, and the command
OTHERS = {
    "backup": (
        "copy a running guest's disks",
        f"{_URI} backup-begin NAME; `kvmstate snapshot create` takes a snapshot",
    ),
    "dumpxml": ("see libvirt's XML", f"{_URI} dumpxml NAME"),
}
_KVMSTATE = {
    "top": "kvmstate vm top",
    "console": "kvmstate vm console NAME",
    "ssh": "kvmstate vm ssh NAME",
    "display": "kvmstate vm display NAME",
    "exec": "kvmstate vm exec NAME -- COMMAND",
    "screenshot": "kvmstate vm screenshot NAME",
    "start": "kvmstate vm start NAME; `state: running` in its manifest keeps it running",
    "stop": "kvmstate vm shutdown NAME; `state: stopped` in its manifest keeps it off",
    "kill": "kvmstate vm poweroff NAME",
    "restart": "kvmstate vm reboot NAME; --apply-pending takes on what waits for a restart",
    "pause": "kvmstate vm pause NAME",
    "save": "kvmstate vm save NAME",
    "migrate": "kvmstate vm migrate NAME URI",
    "create": "declare it in a manifest; then kvmstate apply",
    "edit": "edit its manifest; then kvmstate apply",
    "delete": "take it out of the manifests; then kvmstate apply --prune",
    "list": "kvmstate status",
    "show": "kvmstate status",
    "diff": "kvmstate plan",
    "lint": "kvmstate validate",
    "refresh": "kvmstate drift",
    "logs": "kvmstate events",
    "install": "a Volume with `content`, and a VirtualMachine that uses it; then kvmstate apply",
    "snapshots": "kvmstate snapshot list",
    "version": "kvmstate --version",
    "help": "kvmstate --help",
}
_ALSO = {
    "connect": "console",
    "attach": "console",
    "login": "ssh",
    "viewer": "display",
    "vnc": "display",
    "boot": "start",
    "poweron": "start",
    "shutdown": "stop",
    "poweroff": "kill",
    "reset": "restart",
    "reboot": "restart",
    "freeze": "pause",
    "managedsave": "save",
    "move": "migrate",
    "define": "create",
    "up": "create",
    "remove": "delete",
    "rm": "delete",
    "undefine": "delete",
    "down": "destroy",
    "ls": "list",
    "ps": "list",
    "get": "list",
    "describe": "show",
    "info": "show",
    "check": "lint",
    "fmt": "lint",
    "sync": "create",
    "log": "logs",
    "dump": "dumpxml",
    "xml": "dumpxml",
}
ELSEWHERE = {name: f"to {does}: {command}" for name, (does, command) in OTHERS.items()}
ELSEWHERE |= _KVMSTATE
ELSEWHERE |= {name: ELSEWHERE.get(other, f"kvmstate {other}") for name, other in _ALSO.items()}
