"""Ties the commands together: common options, exit statuses, errors in one line.

Commands are imported when they are used: ``--help`` and ``--version`` load no HTTP client.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import traceback
from difflib import get_close_matches
from typing import Any, Final

import click

from sqspider.cli.sections import Group, section
from sqspider.cli.terminal import take_every_text
from sqspider.environment import environment, frontier_address
from sqspider.version import VERSION

GOOD: Final = 0
NOT_ALL_GOOD: Final = 1  # something did not succeed
USAGE: Final = 2
NO_FRONTIER: Final = 3  # the frontier cannot be reached
INTERRUPTED: Final = 130  # stopped before its end: what a shell shows for a command that SIGINT ended

# name: (module, what --help says of it)
_COMMANDS: Final = {
    "crawl": ("sqspider.cli.work", "Crawl from URLs until nothing is left."),
    "enqueue": ("sqspider.cli.enqueue", "Put URLs into the queue."),
    "consume": ("sqspider.cli.work", "Take messages from the queue and fetch what is won."),
    "status": ("sqspider.cli.look", "Show how many records and messages there are of each kind."),
    "metrics": ("sqspider.cli.metrics", "Show what happened over time."),
    "show": ("sqspider.cli.look", "Show all that is known of a URL."),
    "export": ("sqspider.cli.look", "Write the records as JSON lines or CSV."),
    "hosts": ("sqspider.cli.hosts", "List hosts, and set how they are treated."),
    "sweep": ("sqspider.cli.maintain", "Bring back what was lost on the way."),
    "redrive": ("sqspider.cli.maintain", "Put dead letters back into the queue."),
    "cleanup": ("sqspider.cli.maintain", "Remove messages and records: a fresh state."),
    "demo": ("sqspider.cli.demo", "Crawl a small site of our own, and explain it."),
}


class Shared:
    """What every command shares: the frontier's address and how to log."""

    def __init__(self, address: str | None = None, log_format: str = "console", log_level: str | None = None) -> None:
        self.address = address  # as it was given
        self.log_format = log_format
        self.log_level = log_level

    @property
    def frontier(self) -> str:
        """The address of the frontier to use. Raises ``click.UsageError`` if it cannot be told."""
        try:
            return frontier_address(self.address, environment())
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    @property
    def is_absent(self) -> bool:
        """Whether the frontier is a file that nobody has made."""
        from sqspider.frontier.sqlite.file import is_absent

        kind, _, path = self.frontier.partition(":")
        return kind == "sqlite" and is_absent(path)

    def start_logging(self, default_level: str) -> None:
        """Log from here on; ``default_level`` counts unless a level was given."""
        from sqspider.log import adopt_standard_logging, start_logging

        start_logging(self.log_level or default_level, self.log_format)
        adopt_standard_logging()

    def arguments(self) -> list[str]:
        """The same as flags, for a process of our own."""
        level = ["--log-level", self.log_level or "warn"]
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


def pass_shared(command: Any) -> Any:
    """Give a command what all share, as its first argument, and the options for it."""
    return shared_options(_pass(command))


class _Commands(Group):
    """Commands by name, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's own, which proposes commands of like names only where they are loaded already."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            alike = get_close_matches(args[0], _COMMANDS)
            if not alike:
                raise
            names = " or ".join(repr(name) for name in alike)
            raise click.UsageError(f"{error.message.rstrip('.')}. Did you mean {names}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of ``--help``, without importing what it lists."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@shared_options
@click.version_option(VERSION, prog_name="sqspider")
def cli() -> None:
    """Crawl every URL once and lose none.

    Results go to standard output, logs to standard error. A .env file in this folder is read; flags
    beat the environment, which beats the file.

    \b
    Exit status:
      0    all that was asked for succeeded, and nothing is left of it
      1    something did not succeed, or is left
      2    wrong usage; nothing was done
      3    the frontier cannot be reached or opened
      130  stopped before the end
    """


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; its exit status. A user's mistake ends in one line, never a traceback."""
    take_every_text()
    try:
        status: Any = cli.main(arguments, prog_name="sqspider", standalone_mode=False)
    except click.exceptions.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            return INTERRUPTED
        print("aborted", file=sys.stderr)
        return NOT_ALL_GOOD
    except click.ClickException as error:
        from sqspider.redact import redact

        told = io.StringIO()
        error.show(told)
        print(redact(told.getvalue()), end="", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        return _not_printed(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - every kind is told
        return _told(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        return _not_printed(error)
    return status if isinstance(status, int) else GOOD


def _not_printed(error: OSError) -> int:
    """Say why standard output cannot be written, unless its reader has just left."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        print(f"sqspider: standard output cannot be written: {error.strerror}", file=sys.stderr)
    elif not isinstance(error, BrokenPipeError):
        return _told(error)
    # Keep the interpreter from trying again, and complaining, on its way out.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NOT_ALL_GOOD


def _told(error: Exception) -> int:
    """Say what went wrong, without what must not be written; the exit status for it."""
    from sqspider.frontier import FrontierError, FrontierUnavailableError
    from sqspider.redact import redact

    if isinstance(error, FrontierError):
        print(redact(f"sqspider: {error}"), file=sys.stderr)
        return NO_FRONTIER if isinstance(error, FrontierUnavailableError) else NOT_ALL_GOOD
    print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    print("sqspider: this is a fault of sqspider's own: please report the lines above", file=sys.stderr)
    return NOT_ALL_GOOD
