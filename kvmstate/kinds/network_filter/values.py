"""What attributes of a rule may be: a value, or a variable in place of one. Each in the spelling that libvirt shows."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from kvmstate.xmlbind import Scalar

VARIABLE = r"\$[a-zA-Z0-9_]+(?:\[ *@?[0-9]+ *\])?"
TEXT = {"type": "string"}
# A decimal number is one; others keep their base, as libvirt does
NUMBER = Scalar(lambda text: int(text) if text.isdecimal() else text, str)
STATES = ("NEW", "ESTABLISHED", "RELATED", "INVALID")
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
ETHERTYPES = {"arp": 0x806, "rarp": 0x8035, "ipv4": 0x800, "ipv6": 0x86DD, "vlan": 0x8100}
PROTOCOLS = {"tcp": 6, "udp": 17, "udplite": 136, "esp": 50, "ah": 51, "icmp": 1, "igmp": 2, "sctp": 132, "icmpv6": 58}
OPCODES = {
    **{"Request": 1, "Reply": 2, "Request_Reverse": 3, "Reply_Reverse": 4, "DRARP_Request": 5, "DRARP_Reply": 6},
    **{"DRARP_Error": 7, "InARP_Request": 8, "ARP_NAK": 9},
}


def is_variable(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(VARIABLE, value) is not None


def same_number(want: object, seen: object) -> bool:
    """`0x16` is 22."""
    return known(want) == known(seen)


def known(value: object) -> object:
    """Equal for values that mean the same."""
    number = None if isinstance(value, bool) else _int(value)
    return value if number is None else number


def _int(value: object) -> int | None:
    try:
        return int(str(value), 0)
    except ValueError:
        return None


def _either(
    check: Callable[[Any], object], *choices: Mapping[str, object], **said: object
) -> tuple[BeforeValidator, WithJsonSchema]:
    """What `check` makes of a value, or a variable as it is."""
    schema = {"anyOf": [*choices, {"type": "string", "pattern": f"^{VARIABLE}$"}], **said}
    return BeforeValidator(lambda value: value if is_variable(value) else check(value)), WithJsonSchema(schema)


def _number(most: int, least: int = 0, names: Mapping[str, int] = {}) -> Any:
    """A number, whose name is its better spelling where it has one."""
    said = f"{', '.join(names)}, a" if names else "a"
    by_name, by_number = {name.lower(): name for name in names}, {number: name for name, number in names.items()}

    def check(value: object) -> object:
        if isinstance(value, str) and value.lower() in by_name:
            return by_name[value.lower()]
        number = None if isinstance(value, bool) else _int(value)
        if number is None or not least <= number <= most:
            raise ValueError(f"expected {said} number from {least} to {most}, or a variable such as $PORT")
        is_hex = isinstance(value, str) and not value.isdecimal()
        return by_number.get(number, value if is_hex else number)

    named = [{"enum": [*names]}] if names else []
    whole = {"type": "integer", "minimum": least, "maximum": most}
    return Annotated[int | str, *_either(check, *named, whole, {"type": "string", "pattern": "^0x"})]


def _address(version: int, example: str) -> Any:
    def check(value: object) -> str:
        try:
            found = ipaddress.ip_address(str(value))
        except ValueError:
            found = None
        if found is None or found.version != version:
            raise ValueError(f"expected an IPv{version} address such as {example}, or a variable such as $IP")
        # as libvirt spells it: Python has ::ffff:a00:1 for ::ffff:10.0.0.1
        return socket.inet_ntop(socket.AF_INET if version == 4 else socket.AF_INET6, found.packed)

    return Annotated[str, *_either(check, TEXT, examples=[example])]


def _mask(version: int) -> Any:
    most = 32 if version == 4 else 128

    def check(value: object) -> int:
        try:
            if isinstance(value, str) and not value.isdecimal():
                bits = int(ipaddress.ip_address(value))
                prefix = bits.bit_count()
                valid = bits == ((1 << prefix) - 1) << (most - prefix)
            else:
                prefix = int(value)  # type: ignore[call-overload]
                valid = not isinstance(value, bool) and 0 <= prefix <= most
        except (ValueError, TypeError):
            valid = False
        if not valid:
            raise ValueError(f"expected the length of a prefix, from 0 to {most}, or a mask")
        return prefix

    return Annotated[int | str, *_either(check, {"type": "integer", "minimum": 0, "maximum": most}, TEXT)]


def _mac(value: object) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}", str(value)):
        raise ValueError("expected a MAC address such as 52:54:00:12:34:56, or a variable such as $MAC")
    return ":".join(part.zfill(2) for part in str(value).lower().split(":"))


def _words(known: tuple[str, ...], text: str, alone: tuple[str, ...], example: str) -> str:
    """Words between commas, in libvirt's order."""
    said = {word.strip().upper() for word in text.split(",")}
    if said & {*alone} and len(said) == 1:
        return said.pop()
    if not said <= {*known}:
        raise ValueError(f"expected {', '.join(known)} with commas between, or {' or '.join(alone)}, as in {example}")
    return ",".join(word for word in known if word in said)


def _states(value: object) -> str:
    return _words(STATES, str(value), ("NONE",), "NEW,ESTABLISHED")


def _tcp_flags(value: object) -> str:
    mask, slash, flags = str(value).partition("/")
    if not slash:
        raise ValueError(
            "expected those that are looked at, a slash, and those of them that are set, as in SYN,ACK/SYN"
        )
    return "/".join(_words(TCP_FLAGS, part, ("ALL", "NONE"), "SYN,ACK/SYN") for part in (mask, flags))


def _set_flags(value: object) -> str:
    flags = str(value).lower()
    if not re.fullmatch("(src|dst)(,(src|dst)){0,5}", flags):
        raise ValueError("expected src or dst, or up to six of them with commas between")
    return flags


Uint8, Uint16, Uint32, SixBits = _number(0xFF), _number(0xFFFF), _number(0xFFFFFFFF), _number(0x3F)
VlanId = _number(0xFFF)
EtherType = _number(0xFFFF, 0x600, ETHERTYPES)
Protocol = _number(0xFF, 0, PROTOCOLS)
Opcode = _number(0xFFFF, 0, OPCODES)
Ipv4, Ipv6 = _address(4, "10.0.0.1"), _address(6, "fd00::1")
Variable = Annotated[str, Field(pattern=f"^{VARIABLE}$")]
Mask4, Mask6 = _mask(4), _mask(6)
MacAddress = Annotated[str, *_either(_mac, TEXT, examples=["52:54:00:12:34:56"])]
States = Annotated[str, *_either(_states, TEXT, examples=["NEW,ESTABLISHED"])]
TcpFlags = Annotated[str, *_either(_tcp_flags, TEXT, examples=["SYN,ACK/SYN"])]
IpSet = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.:+ -]{1,31}$")]
IpSetFlags = Annotated[str, BeforeValidator(_set_flags)]
