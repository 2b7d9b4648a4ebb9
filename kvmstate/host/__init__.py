"""The only door to libvirt: connections, the verbs that kinds use, streams, and errors made readable.

Everything here raises HostError (or NotFound, ConnectionFailed); no libvirtError leaves this package.
"""

from kvmstate.host.connection import Host, open_host
from kvmstate.host.faults import faults

__all__ = ["Host", "faults", "open_host"]
