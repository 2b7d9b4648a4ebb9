"""What disks may say that most do not: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms"""

from typing import Any, Literal

from lxml import etree

from kvmstate.kind.secrets import Named, secret_reference
from kvmstate.kinds.virtual_machine.devices.base import parent_of
from kvmstate.model.effect import Effect, Given
from kvmstate.model.reference import Lookup
from kvmstate.xmlbind import Element, Section, Sensitive, xml, xml_list
from kvmstate.xmlbind.codecs import same_path


def _read_protocol(node: etree._Element, lookup: Lookup) -> str | None:
    return node.get("protocol") if parent_of(node).get("type") == "network" else None


def _write_protocol(node: etree._Element, value: str | None, lookup: Lookup) -> None:
    node.attrib.pop("protocol", "")
    if value is not None:
        parent_of(node).set("type", "network")
        for name in ("file", "dev", "dir", "pool", "volume"):
            node.attrib.pop(name, "")
        node.set("protocol", value)


class NetworkHost(Section):
    """Where the server is."""

    name: str | None = xml("@name")
    port: int | None = xml("@port", ge=1, le=65535, lasting=True)
    transport: Literal["tcp", "unix", "rdma"] | None = xml("@transport", lasting=True)
    socket: str | None = xml("@socket", pattern="^/", doc="Of transport unix.")


class Auth(Named):
    """Who asks."""

    username: str = xml("@username", required=True)
    type: Literal["ceph", "iscsi"] = xml("secret/@type", required=True)
    secret: str | None = secret_reference()
    usage: str | None = xml("secret/@usage", doc="Or of libvirt's secret.")
    uuid: str | None = xml("secret/@uuid", pattern="^[0-9a-f-]{36}$", doc="Or its UUID.")


class Cookie(Section):
    """What a server is told with each request."""

    name: str = xml("@name", required=True, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
    value: str = xml(".", required=True, sensitive=Sensitive())


class NetworkSource(Section):
    """An image that a server has."""

    protocol: Literal[
        "nbd", "rbd", "iscsi", "gluster", "http", "https", "ftp", "ftps", "tftp", "ssh", "nfs", "sheepdog", "vxhs"
    ] = xml(".", Element(_read_protocol, _write_protocol), required=True)
    name: str | None = xml("@name", doc="What it is called there, such as POOL/IMAGE of rbd.")
    tls: bool | None = xml("@tls")
    tls_hostname: str | None = xml("@tlsHostname")
    query: str | None = xml("@query", doc="Of http and https.")
    hosts: list[NetworkHost] = xml_list("host")
    snapshot: str | None = xml("snapshot/@name", doc="Of rbd.")
    config: str | None = xml("config/@file", pattern="^/", doc="Of rbd.")
    auth: Auth | None = xml("auth")
    initiator: str | None = xml("initiator/iqn/@name", doc="Of iscsi.")
    verify: bool | None = xml("ssl/@verify", doc="Of https and ftps: the server's certificate.")
    readahead: int | None = xml("readahead/@size", ge=1, doc="In bytes.")
    timeout: int | None = xml("timeout/@seconds", ge=1)
    cookies: list[Cookie] = xml_list("cookies/cookie", key="name", doc="Of http, https, ftp and ftps.")
    known_hosts: str | None = xml("knownHosts/@path", pattern="^/", doc="Of ssh.")
    agent_socket: str | None = xml("identity/@agentsock", same=same_path, pattern="^/", doc="Of ssh: its agent's.")
    keyfile: str | None = xml("identity/@keyfile", pattern="^/", doc="Of ssh.")
    username: str | None = xml("identity/@username", doc="Of ssh.")
    user: str | None = xml("identity/@user", doc="Of nfs.")
    group: str | None = xml("identity/@group", doc="Of nfs.")


def _limit(name: str, doc: str = "") -> Any:
    return xml(name, effect=Effect.LIVE, ge=1, doc=doc)


def _length(name: str) -> Any:
    return xml(name, same=_same_length, effect=Effect.LIVE, ge=1, doc="In seconds. Default: 1.")


def _same_length(want: int | None, seen: int | None) -> bool:
    return (want or 1) == (seen or 1)


class Iotune(Section):
    """Limits; those of all replace those of reads and writes."""

    total_bytes_sec: int | None = _limit("total_bytes_sec")
    read_bytes_sec: int | None = _limit("read_bytes_sec")
    write_bytes_sec: int | None = _limit("write_bytes_sec")
    total_iops_sec: int | None = _limit("total_iops_sec")
    read_iops_sec: int | None = _limit("read_iops_sec")
    write_iops_sec: int | None = _limit("write_iops_sec")
    total_bytes_sec_max: int | None = _limit("total_bytes_sec_max", "For a while.")
    read_bytes_sec_max: int | None = _limit("read_bytes_sec_max")
    write_bytes_sec_max: int | None = _limit("write_bytes_sec_max")
    total_iops_sec_max: int | None = _limit("total_iops_sec_max")
    read_iops_sec_max: int | None = _limit("read_iops_sec_max")
    write_iops_sec_max: int | None = _limit("write_iops_sec_max")
    total_bytes_sec_max_length: int | None = _length("total_bytes_sec_max_length")
    read_bytes_sec_max_length: int | None = _length("read_bytes_sec_max_length")
    write_bytes_sec_max_length: int | None = _length("write_bytes_sec_max_length")
    total_iops_sec_max_length: int | None = _length("total_iops_sec_max_length")
    read_iops_sec_max_length: int | None = _length("read_iops_sec_max_length")
    write_iops_sec_max_length: int | None = _length("write_iops_sec_max_length")
    size_iops_sec: int | None = _limit("size_iops_sec", "Bytes that count as one operation.")
    group: str | None = xml(
        "group_name",
        effect=Given(Effect.LIVE, unset=Effect.RESTART),
        pattern=r"^[A-Za-z0-9_.-]+$",
        doc="Disks of one group share their limits.",
    )


class Geometry(Section):
    """As old guests want to know it."""

    cyls: int = xml("@cyls", required=True, ge=1)
    heads: int = xml("@heads", required=True, ge=1)
    secs: int = xml("@secs", required=True, ge=1)
    trans: Literal["auto", "none", "lba"] | None = xml("@trans", lasting=True)


class DiskEncryption(Named):
    """How the image is encrypted."""

    made_with = {"secret/@type": "passphrase"}

    format: Literal["luks", "luks2", "luks-any", "qcow", "default"] = xml("@format", required=True)
    engine: Literal["qemu", "librbd"] | None = xml("@engine", lasting=True)
    secret: str | None = secret_reference()
    usage: str | None = xml("secret/@usage", doc="Or of libvirt's secret.")
    uuid: str | None = xml("secret/@uuid", pattern="^[0-9a-f-]{36}$", doc="Or its UUID.")
