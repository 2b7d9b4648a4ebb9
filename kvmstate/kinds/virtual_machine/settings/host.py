"""What becomes of it when its host boots and shuts down. libvirt knows no order for either: it is kept in the domain's
metadata, so that it is there without any manifest, and carried out by `kvmstate host`; see `kvmstate.guests`."""

from typing import ClassVar

from kvmstate.kinds.virtual_machine.settings.names import MachineName
from kvmstate.model.effect import Effect
from kvmstate.model.quantity import Duration
from kvmstate.xmlbind import Section, xml, xml_list


class BootCheck(Section):
    """What has to be seen of it before those that come after it are started."""

    address: bool | None = xml("@address", effect=Effect.LIVE, doc="It has an IP address.")
    guest_agent: bool | None = xml("@guestAgent", effect=Effect.LIVE, doc="The guest agent answers.")
    timeout: Duration | None = xml(
        "@timeout", effect=Effect.LIVE, gt=0, doc="They are started then all the same. Default: 1m."
    )


class HostBoot(Section):
    """`kvmstate host boot` starts it when the host boots, instead of libvirt, which knows no order."""

    bare: ClassVar[bool] = True
    after: list[MachineName] = xml_list(
        "host-boot:after/@domain",
        effect=Effect.LIVE,
        ref="domain",
        doc="Machines that are started before it, where they are started at all.",
        examples=[["router"]],
    )
    delay: Duration | None = xml("@delay", effect=Effect.LIVE, doc="How long it waits after them. Default: not at all.")
    wait_for: BootCheck | None = xml(
        "host-boot:waitFor",
        effect=Effect.LIVE,
        doc="What those that come after it wait for. Default: until it is started.",
    )
