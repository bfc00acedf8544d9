"""Logs: events and fields to standard error, for a person or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog


def _without_metrics(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Embedded metrics are for programs only."""
    if "_aws" in event:
        raise structlog.DropEvent
    return event


LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def start_logging(level: str, log_format: str) -> None:
    """Set the level (``debug``, ``info``, ``warn``, ``error``) and format (``console``, ``json``)."""
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        renderer,
    ]
    if log_format == "json":
        processors.insert(-1, structlog.processors.format_exc_info)
    else:
        processors.insert(0, _without_metrics)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
