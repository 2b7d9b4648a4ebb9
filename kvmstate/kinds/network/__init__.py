"""What networks say: https://libvirt.org/formatnetwork.html

Few networks have most of it: a part is loaded with the first that has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmstate.kinds.network.dns import Dns as Dns
    from kvmstate.kinds.network.dns import Domain as Domain
    from kvmstate.kinds.network.forward import Forward as Forward
    from kvmstate.kinds.network.forwards import Forwarded as Forwarded
    from kvmstate.kinds.network.leases import Dhcp as Dhcp
    from kvmstate.kinds.network.ports import Bandwidth as Bandwidth
    from kvmstate.kinds.network.ports import PortGroup as PortGroup
    from kvmstate.kinds.network.ports import VirtualPort as VirtualPort
    from kvmstate.kinds.network.ports import Vlan as Vlan
else:
    from kvmstate.xmlbind import later

    for _module, _names in {
        "dns": ("Dns", "Domain"),
        "forward": ("Forward",),
        "forwards": ("Forwarded",),
        "leases": ("Dhcp",),
        "ports": ("Bandwidth", "PortGroup", "VirtualPort", "Vlan"),
    }.items():
        for _name in _names:
            globals()[_name] = later(f"{__name__}.{_module}", _name)
