"""What is on, off, or the hypervisor's choice."""

from __future__ import annotations

from typing import Any

from kvmstate.xmlbind import xml
from kvmstate.xmlbind.codecs import ON_OFF


def switch(path: str, doc: str = "") -> Any:
    """A feature that is on or off, and the hypervisor's choice where it is neither."""
    return xml(f"{path}/@state", ON_OFF, doc=doc)
