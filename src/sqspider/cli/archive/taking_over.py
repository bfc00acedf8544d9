"""What commands share that write the files of an archive anew."""

from __future__ import annotations

import sys

import click

from sqspider.cli.archive.blocking import BlockingFrontier
from sqspider.cli.shared import Shared

take_over_option = click.option(
    "--take-over",
    "takes_over",
    is_flag=True,
    help="End what another machine began, and did not end. Only if it has died: two at once lose captures.",
)


def say_who_is_told(shared: Shared, frontier: BlockingFrontier | None) -> None:
    """What it costs to tell the frontier. An archive can be somebody else's, and have none; but who only forgot to name
    it wants to know."""
    line = (
        f"{shared.frontier} is not there: no record is told where captures lie now (--frontier names another)"
        if frontier is None
        else frontier.telling_cost()
    )
    if line:
        print(line, file=sys.stderr)


def say_who_is_not_told(address: str) -> None:
    """An archive may be kept by the crawls of several frontiers, of which one is named."""
    print(
        f"if crawls of other frontiers are kept in {address}, say `sqspider --frontier ADDRESS archive repair "
        f"--archive {address}` for each of them within a day: it tells their records where captures lie now",
        file=sys.stderr,
    )
