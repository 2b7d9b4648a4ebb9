"""Checks of what starts and stops a host's machines with it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from kvmstate.doctor.finding import Finding, note, ok, warning
from kvmstate.guests.order import guests
from kvmstate.host import Host
from kvmstate.host.connection import default_uri

UNIT = "kvmstate-guests.service"
# Of libvirt's daemons, from 11.2 on: https://libvirt.org/manpages/virtqemud.html
DAEMON_CONF = Path("/etc/libvirt/qemu.conf")
_BY_DAEMON = re.compile(r"^\s*auto_shutdown_(?:try_save|try_shutdown|poweroff)\s*=\s*\"(?!none\")", re.MULTILINE)


def guests_of_the_host(host: Host) -> Iterator[Finding]:
    """Whether somebody does what machines say of the host's boot and shutdown, and nobody else does it as well."""
    found = guests(host)
    twice = [guest for guest in found if guest.boot and guest.seen.domain.autostart]
    for guest in twice:
        yield warning(
            f"domain {guest.name} has hostBoot, and libvirt starts it at once as well",
            f"`virsh autostart --disable {guest.name}`, or let its manifest say autostart: false",
        )
    if not found:
        return
    enabled = _enabled(host)
    if enabled is None:
        yield note(f"{len(found)} machines have hostBoot or onHostShutdown: whether {UNIT} runs is not seen from here")
    elif not enabled:
        yield warning(
            f"{len(found)} machines have hostBoot or onHostShutdown, and nobody acts on it: {UNIT} is not enabled",
            "`kvmstate service guests install --enable`",
        )
    elif not twice:
        yield ok(f"{UNIT} starts and stops {len(found)} machines with the host")
    if enabled is not None and _by_daemon():
        yield warning(
            f"libvirt's daemon stops machines when the host shuts down ({DAEMON_CONF}: auto_shutdown_...), before "
            f"{UNIT} and in no order",
            "set its auto_shutdown_try_save, auto_shutdown_try_shutdown and auto_shutdown_poweroff to none",
        )


def _enabled(host: Host) -> bool | None:
    """Whether systemd runs the unit; None for another machine, and for a daemon that systemd did not start."""
    uri = host.uri or default_uri()
    if not host.is_local or "socket" in parse_qs(urlsplit(uri).query) or not shutil.which("systemctl"):
        return None
    done = subprocess.run(["systemctl", "is-enabled", UNIT], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "enabled"


def _by_daemon() -> bool:
    with suppress(OSError):
        return bool(_BY_DAEMON.search(DAEMON_CONF.read_text(encoding="utf-8", errors="replace")))
    return False


CHECKS = (guests_of_the_host,)
