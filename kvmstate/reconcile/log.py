"""What happens, as log lines on stderr: JSON for journald and its like, or readable on a console."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from kvmstate.model.printable import one_line
from kvmstate.reconcile.board import Board, Happening


def log_to_stderr(board: Board, as_json: bool) -> None:
    shared: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    last = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logger = structlog.get_logger()

    def told(event: Happening) -> None:
        said = {
            "reason": event.reason,
            "resource": event.resource,
            "hint": one_line(event.hint),
            "revision": event.revision,
        }
        write = logger.warning if event.warning else logger.info
        write(one_line(event.message) or event.reason, **{name: text for name, text in said.items() if text})

    board.subscribe(told)
