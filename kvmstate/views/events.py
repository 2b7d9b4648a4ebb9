"""What a daemon has done and seen, a line each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from kvmstate.model.printable import harmless, one_line


def line(event: dict[str, Any]) -> str:
    """In local time; `!` marks what is a warning."""
    at = datetime.fromisoformat(event["time"]).astimezone()
    warning = event["type"] == "Warning"
    about = f"{event['resource']}: " if event["resource"] else ""
    # of several lines each below the other, as of manifests in which several things are wrong
    said = harmless(f"{about}{event['message']}").replace("\n", "\n    ")
    if event["revision"]:
        said += f"  [{one_line(event['revision'][:12])}]"
    if event["hint"] and warning:
        said += f"\n    hint: {one_line(event['hint'])}"
    head = f"{at:%Y-%m-%d %H:%M:%S} {'!' if warning else ' '} {one_line(event['reason']):<16}"
    return f"{click.style(head, fg='yellow') if warning else head}  {said}"
