"""An installation that is under way, said in the domain's own metadata until it has ended: who looks next knows.

The domain is defined as it shall be in the end, and started with the XML of its installer, which says that it is that.
libvirt goes back to what is defined when the installer powers off or reboots.
"""

from __future__ import annotations

import enum

from lxml import etree

from kvmstate.host import domains
from kvmstate.host.objects import Domain
from kvmstate.xmlbind import document, to_text

_URI = "https://kvmstate.dev/xmlns/install/1.0"
_PREFIX = "kvmstate-install"


class Stage(enum.Enum):
    """What a domain's metadata says of its installer."""

    TO_START = "to-start"
    STARTED = "started"
    CUT_OFF = "cut-off"
    # said by the running domain alone
    RUNS = "runs"


def write(root: etree._Element, stage: Stage) -> None:
    """Say it in the XML of a domain that is to be defined or started."""
    metadata = root.find("metadata")
    if metadata is None:
        metadata = etree.SubElement(root, "metadata")
    take_out(root)
    etree.SubElement(metadata, f"{{{_URI}}}install", {"stage": stage.value}, nsmap={_PREFIX: _URI})


def take_out(root: etree._Element) -> None:
    """Have the XML of a domain say nothing of its installer."""
    for metadata in root.findall("metadata"):
        for mark in metadata.findall(f"{{{_URI}}}install"):
            metadata.remove(mark)


def read(xml: str) -> Stage | None:
    """What XML of a domain says of its installer."""
    if _URI not in xml:
        return None
    mark = document(xml).find(f"metadata/{{{_URI}}}install")
    if mark is None:
        return None
    said = mark.get("stage", "")
    # of what another version has written, nobody knows more than that it began
    return Stage(said) if said in {stage.value for stage in Stage} else Stage.STARTED


def runs(active_xml: str | None) -> bool:
    """Whether what runs is an installer."""
    return bool(active_xml) and read(active_xml or "") is Stage.RUNS


def note(domain: Domain, stage: Stage) -> None:
    """Say it in what is defined."""
    domains.set_metadata(domain, to_text(etree.Element("install", {"stage": stage.value})), _PREFIX, _URI, live=False)


def end(domain: Domain) -> None:
    """It is installed, or is not to be installed any more."""
    if domains.metadata(domain, _URI, live=False):
        domains.set_metadata(domain, None, _PREFIX, _URI, live=False)
