"""Sleep states: https://libvirt.org/formatdomain.html#power-management"""

from kvmstate.xmlbind import Section, xml


class Power(Section):
    """Whether the guest may sleep."""

    suspend_to_mem: bool | None = xml("suspend-to-mem/@enabled", doc="Whether the guest may sleep (S3).")
    suspend_to_disk: bool | None = xml("suspend-to-disk/@enabled", doc="Whether the guest may hibernate (S4).")
