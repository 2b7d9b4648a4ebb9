"""Addresses: MAC and IP, in the one spelling that libvirt writes."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema


def _mac(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", value):
        raise ValueError("expected a MAC address such as 52:54:00:12:34:56")
    if int(value[:2], 16) & 1:
        raise ValueError("this is a multicast MAC address; the first byte must be even, as in 52:54:00:12:34:56")
    return value.lower()


def _ip(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("expected an IP address such as 192.168.150.1 or fd00::1") from None


def _interface(value: Any) -> str:
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        interface = None
    if interface is None or "/" not in str(value):
        raise ValueError("expected an address with its prefix length, such as 192.168.150.1/24 or fd00::1/64")
    return interface.with_prefixlen


Mac = Annotated[
    str,
    AfterValidator(_mac),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$",
            "examples": ["52:54:00:12:34:56"],
        }
    ),
]
IpAddress = Annotated[str, BeforeValidator(_ip), WithJsonSchema({"type": "string", "examples": ["192.168.150.1"]})]
IpInterface = Annotated[
    str, BeforeValidator(_interface), WithJsonSchema({"type": "string", "examples": ["192.168.150.1/24"]})
]
