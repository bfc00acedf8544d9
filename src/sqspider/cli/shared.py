"""What every command shares: where the frontier is and how to log, as options before its name or after it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import click

from sqspider.cli.sections import section
from sqspider.environment import frontier_address, load_environment

QUIETLY: Final = "warn"  # the level of a command that answers something


class Shared:
    """The frontier's address and how to log."""

    def __init__(self, address: str | None = None, log_format: str = "console", log_level: str | None = None) -> None:
        self.address = address  # as it was given
        self.log_format = log_format
        self.log_level = log_level

    @property
    def frontier(self) -> str:
        """The address of the frontier to use. Raises ``click.UsageError`` if it cannot be told."""
        try:
            return frontier_address(self.address, load_environment())
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def start_logging(self, default_level: str) -> None:
        """Log from here on; ``default_level`` counts unless a level was given."""
        from sqspider.log import adopt_standard_logging, start_logging

        start_logging(self.log_level or default_level, self.log_format)
        adopt_standard_logging()

    def arguments(self) -> list[str]:
        """The same as flags, for a process of our own."""
        level = ["--log-level", self.log_level or QUIETLY]
        return ["--frontier", self.frontier, "--log-format", self.log_format, *level]


def _note(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Keep what was given; the options after a command are read later, and win."""
    shared = context.ensure_object(Shared)
    if value is not None:
        setattr(shared, str(parameter.name), value)


shared_options = section(
    "Options of every command, before its name or after it",
    click.option(
        "--frontier", "address", metavar="ADDRESS", expose_value=False, callback=_note,
        help="Where queue and records are: sqlite:PATH, or aws: for the queue QUEUE_URL and the table TABLE_NAME of "
        "the environment.  [env: SQSPIDER_FRONTIER; default: aws: where those are set, else sqlite:sqspider.db]",
    ),
    click.option(
        "--log-format", type=click.Choice(["console", "json"]), expose_value=False, callback=_note,
        help="How logs are written.  [default: console]",
    ),
    click.option(
        "--log-level", type=click.Choice(["debug", "info", "warn", "error"]), expose_value=False, callback=_note,
        help="What is logged at least.  [default: info for consume, else warn]",
    ),
)  # fmt: skip

_pass = click.make_pass_decorator(Shared, ensure=True)


def pass_shared(command: Callable[..., Any]) -> Any:
    """Give a command what all share, as its first argument, and the options for it.

    It logs from here on, to standard error: whatever it opens may have something to say, and that is no part of its
    answer. A command that wants another level says so itself.
    """

    @functools.wraps(command)
    def logging(shared: Shared, /, *arguments: Any, **options: Any) -> Any:
        shared.start_logging(QUIETLY)
        return command(shared, *arguments, **options)

    return shared_options(_pass(logging))
