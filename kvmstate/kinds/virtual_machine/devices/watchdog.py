"""The watchdog: https://libvirt.org/formatdomain.html#watchdog-device"""

from typing import Literal

from lxml import etree

from kvmstate.kinds.virtual_machine.devices.base import Device, drop
from kvmstate.xmlbind import xml


class Watchdog(Device):
    """A timer that the guest keeps resetting: when it no longer does, something is done about it."""

    tag = "watchdog"
    # itco is a part of q35's chipset, which libvirt adds by itself
    only = {"model": ("i6300esb", "ib700", "diag288")}

    model: Literal["i6300esb", "ib700", "diag288"] = xml(
        "@model", default="i6300esb", doc="The device that the guest sees."
    )
    action: Literal["reset", "shutdown", "poweroff", "pause", "none", "dump", "inject-nmi"] = xml(
        "@action", default="reset", doc="What is done to the machine when the guest does not answer."
    )

    @classmethod
    def settle(cls, root: etree._Element) -> None:
        """The others are on no bus where they would have an address, and libvirt wants one action of all of them."""
        for watchdog in root.findall("devices/watchdog"):
            if watchdog.get("model") in ("ib700", "diag288"):
                for place in watchdog.findall("address"):
                    drop(place)
            if watchdog.get("model") != "itco":
                for chipset in root.findall("devices/watchdog[@model='itco']"):
                    chipset.set("action", watchdog.get("action", "reset"))

    @classmethod
    def left(cls, root: etree._Element) -> None:
        """The chipset's has libvirt's own action again."""
        for chipset in root.findall("devices/watchdog[@model='itco']"):
            chipset.set("action", "reset")
