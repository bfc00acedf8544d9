"""Ties the commands together: which there are, and what their errors say and exit with.

Commands are imported when they are used: ``--help`` and ``--version`` load no HTTP client.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

import click

from sqspider.cli.exit_status import GOOD, INTERRUPTED, NO_FRONTIER, NOT_ALL_GOOD
from sqspider.cli.sections import HELP, Group
from sqspider.cli.shared import shared_options
from sqspider.cli.terminal import take_every_text
from sqspider.version import VERSION

# What --help says of each; a command's module has its name.
COMMANDS: Final = {
    "crawl": "Crawl from URLs until nothing is left.",
    "enqueue": "Put URLs into the queue.",
    "consume": "Take messages from the queue and fetch what is won.",
    "crawls": "List crawls, and show, change, pause, resume, stop or remove one.",
    "status": "Show how many records and messages there are of each kind.",
    "metrics": "Show what happened over time.",
    "show": "Show all that is known of a URL.",
    "explain": "Tell what would become of a URL, and by which rule.",
    "export": "Write the records as JSON lines or CSV.",
    "extract": "Make rows of the pages that are kept: text, fields, links.",
    "links": "Tell who links where, and which links are broken.",
    "duplicates": "Tell which pages have the same content, or nearly the same.",
    "hosts": "List hosts, and set how they are treated.",
    "sweep": "Bring back what was lost on the way.",
    "retry": "Put URLs that failed back into the queue.",
    "redrive": "Put dead letters back into the queue.",
    "archive": "Look into, check, and keep the pages that were fetched.",
    "cleanup": "Remove messages and records: a fresh state.",
    "demo": "Crawl a small site of our own, and explain it.",
}


class _Commands(Group):
    """Commands by name, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"sqspider.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of ``--help``, without importing what it lists."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": HELP, "max_content_width": 100})
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
    return status_of(lambda: cli.main(arguments, prog_name="sqspider", standalone_mode=False))


def status_of(command: Callable[[], Any]) -> int:
    """Run a command; its exit status, once its output is written and what went wrong is told."""
    try:
        status = command()
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
    from sqspider.archive.errors import ArchiveError
    from sqspider.capture import StoreError
    from sqspider.frontier import FrontierError, FrontierUnavailableError
    from sqspider.redact import redact

    if isinstance(error, ArchiveError | StoreError):
        print(redact(f"sqspider: {error}"), file=sys.stderr)
        return NOT_ALL_GOOD
    if isinstance(error, FrontierError):
        print(redact(f"sqspider: {error}"), file=sys.stderr)
        return NO_FRONTIER if isinstance(error, FrontierUnavailableError) else NOT_ALL_GOOD
    print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    print("sqspider: this is a fault of sqspider's own: please report the lines above", file=sys.stderr)
    return NOT_ALL_GOOD
