"""Logs: events and fields to standard error, for a person or as JSON.

A traceback shows where, never with what: local variables hold keys and passwords. What a text says
of a URL is written without its user name and password.

structlog is imported with the first line that is written: most crawls write none, and it costs more to import than a
page to crawl. From then on it decides what is written; before, the level that :func:`start_logging` was given. Where
nobody says how to log, warnings are written for a person: structlog's own way would be standard output, where answers
go. A program that we are part of says it by configuring structlog.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO, cast

from sqspider.redact import redact

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


class _Start(NamedTuple):
    """How logging begins."""

    level: int
    log_format: str


_start: _Start | None = _Start(logging.WARNING, "console")  # what structlog is to be told as soon as it is there
_is_alone = False  # this process runs no code but ours, and what that uses


class Logger:
    """Writes events by structlog. A line below the level costs a comparison, and imports nothing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._structlog: Any = None

    def debug(self, event: str, **fields: Any) -> None:
        """For who looks for a fault."""
        if _is_written(logging.DEBUG):
            self._writer.debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """For who watches: one line per URL at the most."""
        if _is_written(logging.INFO):
            self._writer.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something is not as it should be; the crawl goes on."""
        if _is_written(logging.WARNING):
            self._writer.warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed that will not mend itself."""
        if _is_written(logging.ERROR):
            self._writer.error(event, **fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with the traceback of the exception that is being handled."""
        if _is_written(logging.ERROR):
            self._writer.exception(event, **fields)

    @property
    def _writer(self) -> Any:
        structlog = _load_structlog()
        if self._structlog is None:
            self._structlog = structlog.stdlib.get_logger(self._name)
        return self._structlog


def get_logger(name: str) -> Logger:
    """The logger of a module."""
    return Logger(name)


def start_logging(level: str, log_format: str) -> None:
    """Set the level (``debug``, ``info``, ``warn``, ``error``) and format (``console``, ``json``)."""
    global _start
    _start = _Start(LEVELS[level], log_format)
    if "structlog" in sys.modules:
        _configure(_start)
        _start = None


def bind(**fields: Any) -> None:
    """Write these fields with every line of this context."""
    _load_structlog().contextvars.bind_contextvars(**fields)


def adopt_standard_logging() -> None:
    """Write what libraries log (asyncio: "exception was never retrieved") as we write our own.

    For programs of ours only: a program that imports us decides that itself.
    """
    global _is_alone
    _is_alone = True
    logging.basicConfig(level=logging.WARNING, handlers=[_Adopted()], force=True)


class _Adopted(logging.Handler):
    """Hands on what comes from the standard library's logging."""

    def __init__(self) -> None:
        super().__init__()
        self._log = get_logger(__name__)

    def emit(self, record: logging.LogRecord) -> None:
        say = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        # asyncio's further lines show objects, and all that is in them.
        say(record.getMessage().partition("\n")[0], logger=record.name, exc_info=record.exc_info)


def _is_written(level: int) -> bool:
    """Whether a line of this level may be written. Where structlog is loaded, by whomever, its own filter says so."""
    return "structlog" in sys.modules or _start is None or level >= _start.level


def _load_structlog() -> ModuleType:
    """structlog, imported and configured."""
    global _start
    if "structlog" not in sys.modules and _is_alone:
        with _rich_hidden():
            import structlog
    else:
        import structlog
    if _start is not None:
        start, _start = _start, None
        if not structlog.is_configured():  # else by the program that we are part of, after we had begun
            _configure(start)
    return structlog


@contextmanager
def _rich_hidden() -> Iterator[None]:
    """structlog would import rich, for tracebacks that show local variables: three times as long as it takes itself."""
    hidden = sys.modules.get("rich")
    sys.modules["rich"] = cast("ModuleType", None)  # importing it raises ImportError, as if it were not installed
    try:
        yield
    finally:
        if hidden is None:
            del sys.modules["rich"]
        else:
            sys.modules["rich"] = hidden


def _configure(start: _Start) -> None:
    import structlog

    render: list[Processor]
    if start.log_format == "json":
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
        wrapper_class=structlog.make_filtering_bound_logger(start.level),
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


def _without_metrics(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Embedded metrics are for programs only."""
    if "_aws" in event:
        from structlog import DropEvent

        raise DropEvent
    return event


def _redacted(_logger: Any, _name: str, line: Any) -> str:
    return redact(line)
