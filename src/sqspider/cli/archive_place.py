"""Which archive a command looks into, `show` as well as those of `archive`: the option, and what it is without it."""

from __future__ import annotations

from pathlib import Path

import click

from sqspider.cli.shared import Shared
from sqspider.environment import load_environment
from sqspider.frontier import sqlite_path
from sqspider.orders.keeping import archive_of_frontier, beside, is_folder

archive_option = click.option(
    "--archive",
    metavar="DIR|s3://BUCKET/PREFIX",
    help="The archive.  [env: SQSPIDER_ARCHIVE; default: the folder beside the frontier's file]",
)


def archive_of(shared: Shared, given: str | None) -> str:
    """The address of the archive that is meant: the one that was given, else that of the frontier.

    Raises ``click.UsageError`` where there is none. Whether a bucket has one is seen when it is read.
    """
    address = given if given is not None else archive_of_frontier(shared.frontier, load_environment())
    if address == "":  # as of a variable that is not set: what is done there may not be undone elsewhere
        raise click.UsageError("--archive: name a folder, or s3://BUCKET/PREFIX.")
    if address is None:
        raise click.UsageError(f"{shared.frontier} has no archive of its own: name one with --archive.")
    if is_folder(address) and not Path(address).exists():
        raise click.UsageError(
            f"there is no archive {address}"
            + ("." if given else f", where `crawl` keeps the pages of {shared.frontier}: name another with --archive.")
        )
    return address


def may_be_shared(shared: Shared, address: str) -> bool:
    """Whether crawls of other frontiers may be kept there, too: not in the folder beside the frontier's file."""
    file = sqlite_path(shared.frontier)
    return file is None or Path(address).resolve() != beside(Path(file)).resolve()
