"""A private, throw-away libvirt host in namespaces of its own: for demos, tests and CI.

    host = sandbox.start("demo")         # up in about 2 s, as root or as an ordinary user
    sandbox.execute(host, ["virsh", "list", "--all"])
    sandbox.stop("demo")
    sandbox.run(["pytest", "tests/real"])   # a host for one command, gone with it

The host has its own network (nothing of it leaves the machine), its own libvirt configuration, logs and
storage, its own UUID, and no /dev/kvm: guests are emulated. Everything it keeps is in one folder,
`/var/tmp/kvmstate-sandbox-UID/NAME`: a short path, because unix sockets have a limit of 108 characters,
and on a disk, because volumes can be large. `/tmp`, the home folder and the rest of the machine's files are
at their usual places.

With `tree=`, the root folder of another Debian, programs and settings (`/usr`, `/etc`, `/var`) are those
of the tree and all other folders (and `/var/tmp`) the machine's. This needs root.

An ordinary user needs the package uidmap, a range of subordinate ids, and a /dev/net/tun that is open to all
(as udev makes it): without the last, guests with network cards do not start.

This package stands alone: it knows nothing of the rest of kvmstate but its errors, and does not import
libvirt.
"""

from __future__ import annotations

from kvmstate.errors import SandboxError
from kvmstate.sandbox.folder import Sandbox, find, running
from kvmstate.sandbox.lifecycle import has_cgroups, start, stop
from kvmstate.sandbox.process import execute, run

__all__ = ["Sandbox", "SandboxError", "execute", "find", "has_cgroups", "run", "running", "start", "stop"]
