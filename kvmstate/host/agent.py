"""What a guest tells by its agent: https://qemu-project.gitlab.io/qemu/interop/qemu-ga-ref.html"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from kvmstate.errors import HostError
from kvmstate.host.faults import faults
from kvmstate.host.objects import Domain
from kvmstate.xmlbind.document import document

# Seconds: of one question; between two looks at a program that runs
_ANSWER = 5
_PERIOD = 0.2


def is_connected(text: str) -> bool:
    """Whether it has opened its channel, as the XML of a running machine tells without a question."""
    channels = document(text).iterfind("devices/channel/target")
    return any(c.get("name") == "org.qemu.guest_agent.0" and c.get("state") == "connected" for c in channels)


def answers(domain: Domain) -> bool:
    """Ask whether it answers. Raises HostError when it does not: it is not there, or not running. A question of
    libvirt's own, such as for the time, has no end where an agent hangs."""
    ask(domain, "guest-ping", {})
    return True


def addresses(domain: Domain) -> list[str]:
    """All IP addresses that the guest has. Raises HostError where it does not tell them."""
    return [str(entry["ip-address"]) for _, entries in interfaces(domain) for entry in entries]


def interfaces(domain: Domain) -> list[tuple[str, list[dict[str, Any]]]]:
    """The MAC address of each interface in the guest, and its IP addresses as the agent tells them. Raises
    HostError."""
    found = ask(domain, "guest-network-get-interfaces", {})
    return [(str(each.get("hardware-address", "")), list(each.get("ip-addresses", ()))) for each in found]


def run(domain: Domain, program: str, *arguments: str, seconds: float = 10) -> tuple[int, str]:
    """Run a program in the guest: its exit code, and what it says. Raises HostError, also when it takes longer."""
    asked = {"path": program, "arg": list(arguments), "capture-output": True}
    number = ask(domain, "guest-exec", asked)["pid"]
    deadline = time.monotonic() + seconds
    while not (found := ask(domain, "guest-exec-status", {"pid": number}))["exited"]:
        if time.monotonic() > deadline:
            raise HostError(f"{program} in {domain.name} takes longer than {seconds:g} s")
        time.sleep(_PERIOD)
    return int(found.get("exitcode", -1)), base64.b64decode(found.get("out-data", "")).decode(errors="replace")


def ask(domain: Domain, command: str, arguments: dict[str, object], seconds: int = _ANSWER) -> Any:
    """Ask the agent, and wait so long for its answer. Raises HostError."""
    import libvirt_qemu  # type: ignore[import-untyped]  # few runs ask a guest

    asked = json.dumps({"execute": command, "arguments": arguments})
    with faults():
        return json.loads(libvirt_qemu.qemuAgentCommand(domain.raw, asked, seconds, 0))["return"]
