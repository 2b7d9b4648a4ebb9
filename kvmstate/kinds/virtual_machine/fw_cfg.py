"""Ignition's config on the firmware's configuration device: https://www.qemu.org/docs/master/specs/fw_cfg.html

libvirt has an element for such texts (<sysinfo type='fwcfg'>), writes it to QEMU's command line as XML, and doubles no
comma: a text of JSON does not start (9.0). A file there is one that AppArmor and SELinux keep QEMU from reading.
So it is an argument of QEMU's, which libvirt passes on as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lxml import etree

from kvmstate.model.reference import Lookup
from kvmstate.xmlbind.path import NAMESPACES

_OPTION = "-fw_cfg"
_NAMED = "name=opt/com.coreos/config,string="
_QEMU = NAMESPACES["qemu"]
_LINE, _ARGUMENT = f"{{{_QEMU}}}commandline", f"{{{_QEMU}}}arg"


def read(root: etree._Element, lookup: Lookup) -> str | None:
    for _, text in _found(root):
        return text.get("value", "").removeprefix(_NAMED).replace(",,", ",")
    return None


def write(root: etree._Element, value: str | None, lookup: Lookup) -> None:
    for pair in [*_found(root)]:
        for node in pair:
            if (line := node.getparent()) is not None:
                line.remove(node)
    if value is None:
        return
    line = root.find(_LINE)
    if line is None:
        line = etree.SubElement(root, _LINE, nsmap={"qemu": _QEMU})
    for argument in (_OPTION, _NAMED + value.replace(",", ",,")):
        etree.SubElement(line, _ARGUMENT, value=argument)


def _found(root: etree._Element) -> Iterator[tuple[etree._Element, etree._Element]]:
    for line in root.iterfind(_LINE):
        arguments = line.findall(_ARGUMENT)
        for option, text in pairwise(arguments):
            if option.get("value") == _OPTION and text.get("value", "").startswith(_NAMED):
                yield option, text
