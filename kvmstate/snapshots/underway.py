"""A revert that is under way, said in the domain's own metadata before it is stopped: should the run die, the next one
finds out what the domain waits for.

It counts while the domain is off. One that somebody has started since is in use as it is: that revert was given up.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lxml import etree

from kvmstate.errors import HostError
from kvmstate.host import domains
from kvmstate.host.objects import Domain
from kvmstate.xmlbind import document, to_text

_URI = "https://kvmstate.dev/xmlns/revert/1.0"
_PREFIX = "kvmstate-revert"


@dataclass(frozen=True)
class Underway:
    """A revert to `snapshot`; the domain's `state` shall be this one afterwards: running, paused or stopped.

    `configuration`: as it was then, too. `keep` is the name of a snapshot that keeps what was written since.
    """

    snapshot: str
    state: str
    configuration: bool = False
    keep: str = ""

    def cut_off(self, machine: str) -> HostError:
        """What to say to whoever wants to do something else with the domain."""
        words = [machine, self.snapshot, *(["--configuration"] if self.configuration else [])]
        return HostError(
            f"a revert of virtual machine {machine} to snapshot {self.snapshot} was cut off, and has left it off",
            f"`kvmstate snapshot revert {' '.join(words)}` finishes it; `virsh start {machine}` gives it up",
        )

    def write(self, root: etree._Element) -> None:
        """Into the XML of a domain that is to be defined."""
        metadata = root.find("metadata")
        if metadata is None:
            metadata = etree.SubElement(root, "metadata")
        for old in metadata.findall(f"{{{_URI}}}revert"):
            metadata.remove(old)
        etree.SubElement(metadata, f"{{{_URI}}}revert", self._attributes(), nsmap={_PREFIX: _URI})

    def _attributes(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items() if value}


def begin(domain: Domain, revert: Underway) -> None:
    element = etree.Element("revert", revert._attributes())
    domains.set_metadata(domain, to_text(element), _PREFIX, _URI, live=False)


def end(domain: Domain) -> None:
    """Take the mark out of the configuration, and of what has been started with it."""
    live = domains.state(domain) != "stopped"
    for where in (False, True) if live else (False,):
        if domains.metadata(domain, _URI, live=where):
            domains.set_metadata(domain, None, _PREFIX, _URI, live=where)


def read(inactive_xml: str) -> Underway | None:
    """What a domain's configuration says of a revert, whatever the domain's state is."""
    if _URI not in inactive_xml:
        return None
    node = document(inactive_xml).find(f"metadata/{{{_URI}}}revert")
    if node is None:
        return None
    said = node.get
    return Underway(said("snapshot", ""), said("state", "running"), bool(said("configuration")), said("keep", ""))


def found(domain: Domain) -> Underway | None:
    """The revert that was cut off and has left the domain off."""
    return read(domains.xml(domain)) if domains.state(domain) == "stopped" else None
