"""Users of containers: https://libvirt.org/formatdomain.html#container-boot"""

from kvmstate.xmlbind import Section, xml, xml_list


class IdMap(Section):
    """Numbers of users or groups, and what they are on the host."""

    start: int = xml("@start", required=True, ge=0, doc="The first in the container.")
    target: int = xml("@target", required=True, ge=0, doc="What that is on the host.")
    count: int = xml("@count", required=True, ge=0)


class IdMaps(Section):
    """Whose files these are, inside and outside of a container."""

    uids: list[IdMap] = xml_list("uid")
    gids: list[IdMap] = xml_list("gid")
