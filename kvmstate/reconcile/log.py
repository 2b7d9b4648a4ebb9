"""What happens, as log lines on stderr: JSON for journald and its like, or readable on a console."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

import structlog

from kvmstate.model.printable import harmless, one_line
from kvmstate.reconcile.status_store import Event, StatusStore

# sd-daemon(3): journald takes it off, and knows how bad a line is: `journalctl --priority=warning`
PRIORITY = {"warning": "<4>", "info": "<6>"}


def log_to_stderr(status: StatusStore, as_json: bool) -> None:
    shared: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    draw: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    if as_json:
        draw = structlog.processors.JSONRenderer()
    priority = PRIORITY if is_journald(sys.stderr) else {}

    def last(logger: object, name: str, event: Any) -> str:
        return f"{priority.get(event['level'], '')}{draw(logger, name, event)}"

    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logger = structlog.get_logger()
    # JSON spells line breaks out itself
    plain = harmless if as_json else one_line

    def told(event: Event) -> None:
        said = {
            "reason": event.reason,
            "resource": event.resource,
            "hint": plain(event.hint),
            "revision": event.revision,
        }
        write = logger.warning if event.warning else logger.info
        write(plain(event.message) or event.reason, **{name: text for name, text in said.items() if text})

    status.subscribe(told)


def is_journald(stream: TextIO) -> bool:
    """Whether journald reads it, and no file or pipe that it was led to; see $JOURNAL_STREAM in systemd.exec(5)."""
    try:
        at = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{at.st_dev}:{at.st_ino}"
