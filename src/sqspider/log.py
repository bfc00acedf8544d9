"""Logs: events and fields to standard error, for a person or as JSON.

A traceback shows where, never with what: local variables hold keys and passwords. What a text says
of a URL is written without its user name and password.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TextIO, cast

import structlog

from sqspider.redact import redact

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def start_logging(level: str, log_format: str) -> None:
    """Set the level (``debug``, ``info``, ``warn``, ``error``) and format (``console``, ``json``)."""
    render: list[structlog.typing.Processor]
    if log_format == "json":
        render = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        render = [
            _without_metrics,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,  # the default one shows local variables
            ),
        ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *render,
            _redacted,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )


class _StandardError:
    """Standard error as it is when a line is written: while a progress line is redrawn there, whoever redraws it
    stands in for it, and puts other lines above."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def adopt_standard_logging() -> None:
    """Write what libraries log (asyncio: "exception was never retrieved") as we write our own.

    For programs of ours only: a program that imports us decides that itself.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[_Adopted()], force=True)


class _Adopted(logging.Handler):
    """Hands on what comes from the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        say = log.error if record.levelno >= logging.ERROR else log.warning
        # asyncio's further lines show objects, and all that is in them.
        say(record.getMessage().partition("\n")[0], logger=record.name, exc_info=record.exc_info)


def _without_metrics(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Embedded metrics are for programs only."""
    if "_aws" in event:
        raise structlog.DropEvent
    return event


def _redacted(_logger: Any, _name: str, line: Any) -> str:
    return redact(line)
