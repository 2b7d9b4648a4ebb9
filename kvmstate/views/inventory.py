"""Guests and their addresses, for programs that log in to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Guest:
    """A machine, the labels of its manifest, and its addresses; those that nobody knows yet have none."""

    name: str
    labels: Mapping[str, str]
    addresses: Sequence[str]


def ansible(guests: Sequence[Guest], user: str = "") -> dict[str, object]:
    """Ansible's inventory, as its YAML plugin reads it: a group for each label and its value."""
    login = {"ansible_user": user} if user else {}
    hosts = {guest.name: {"ansible_host": guest.addresses[0], **login} for guest in guests if guest.addresses}
    groups: dict[str, dict[str, object]] = {}
    for guest in guests:
        for label, value in guest.labels.items() if guest.name in hosts else ():
            members = groups.setdefault(_group(f"{label}_{value}"), {"hosts": {}})
            members["hosts"][guest.name] = {}  # type: ignore[index]
    return {"all": {"hosts": hosts, **({"children": dict(sorted(groups.items()))} if groups else {})}}


def _group(text: str) -> str:
    """Groups have names as Python's variables do."""
    return re.sub(r"\W", "_", text, flags=re.ASCII)


def ssh_config(guests: Sequence[Guest], user: str = "") -> str:
    """A file for `Include` in ~/.ssh/config."""
    login = f"\n  User {user}" if user else ""
    return "\n".join(
        f"Host {guest.name}\n  HostName {guest.addresses[0]}{login}" for guest in guests if guest.addresses
    )
