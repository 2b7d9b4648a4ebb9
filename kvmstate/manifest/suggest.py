"""Did you mean: the nearest of the known words, by spelling and by what other tools call them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache

from kvmstate.kinds import ALL_KINDS

# More than any kind has fields; and how many are shown of so many
_MANY, _SOME = 150, 20
# What other tools say, to what is said here; only taken when it is a known word at that place.
_SYNONYMS = {
    "vcpu": ("cpus",),
    "vcpus": ("cpus",),
    "cores": ("cpus",),
    "cpu": ("cpus",),
    "ram": ("memory",),
    "mem": ("memory",),
    "nics": ("interfaces",),
    "nic": ("interfaces",),
    "networks": ("interfaces",),
    "networkinterfaces": ("interfaces",),
    "size": ("capacity",),
    "drives": ("disks",),
    "volumes": ("disks",),
    "storage": ("disks",),
    "macaddress": ("mac",),
    "hwaddr": ("mac",),
    "source": ("network", "volume"),
    "image": ("content", "volume"),
    "backingstore": ("backing",),
    "base": ("backing",),
    "baseimage": ("backing",),
    "storagepool": ("pool",),
    "path": ("file", "target"),
    "addresses": ("ips",),
    "subnet": ("ips",),
    "cidr": ("address",),
    "power": ("state",),
    "running": ("state",),
    "boot": ("bootOrder", "kernel"),
    "qemuagent": ("guestAgent",),
    "agent": ("guestAgent",),
    "vnc": ("graphics",),
    "display": ("graphics",),
    "console": ("serials",),
    "ondelete": ("deletion",),
    "protect": ("preventDestroy",),
    "uri": ("connection",),
    "connect": ("connection",),
    "name": ("project",),
    "env": ("environments",),
    "vars": ("values",),
    "variables": ("values",),
    "enabled": ("running",),
    "on": ("running",),
    "off": ("stopped",),
    "started": ("running",),
    "shutoff": ("stopped",),
    "suspended": ("paused",),
    "uefi": ("efi",),
    "directory": ("dir",),
    "img": ("raw",),
}


@cache
def _synonyms() -> Mapping[str, tuple[str, ...]]:
    return {**_SYNONYMS, **{word: (kind.name,) for kind in ALL_KINDS for word in kind.also}}


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or an empty string."""
    choices = list(known)
    plain = {_plain(choice): choice for choice in choices}
    said = _plain(word[:100])
    if said in plain:
        return plain[said]
    for synonym in _synonyms().get(said, ()):
        if synonym in choices:
            return synonym
    for other in (said + "s", said.removesuffix("s")):
        if other in plain:
            return plain[other]
    close = difflib.get_close_matches(said, plain, n=1, cutoff=0.65)
    if close:
        return plain[close[0]]
    others = {word: choice for word, meant in _synonyms().items() for choice in meant if choice in choices}
    close = difflib.get_close_matches(said, others, n=1, cutoff=0.8)
    return others[close[0]] if close else ""


def hint(word: object, known: Iterable[str], what: str) -> str:
    """`did you mean X?`, or what is known; some of it where that fills a screen, as with all addresses of a project."""
    choices = sorted(known) if what else list(known)
    guess = nearest(str(word), choices)
    if guess:
        return f"did you mean {guess}?"
    shown = choices if len(choices) <= _MANY else [*choices[:_SOME], f"and {len(choices) - _SOME} more"]
    return f"{what}: {', '.join(shown)}" if what and choices else ""


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())
