"""Labels of single files: https://libvirt.org/formatdomain.html#security-label"""

from kvmstate.xmlbind import Section, xml


class Label(Section):
    """Under which label a file is, whatever the machine's is."""

    model: str = xml("@model", required=True, pattern=r"^[A-Za-z0-9_]+$", doc="selinux, apparmor or dac.")
    relabel: bool | None = xml("@relabel", lasting=True, doc="Whether libvirt labels it. Default: true.")
    label: str | None = xml("label", doc="Which. Default: the machine's.")
