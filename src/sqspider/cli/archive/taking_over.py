"""What commands share that write the files of an archive anew."""

from __future__ import annotations

import sys

import click

from sqspider.cli.shared import Shared

take_over_option = click.option(
    "--take-over",
    "takes_over",
    is_flag=True,
    help="End what another machine began, and did not end. Only if it has died: two at once lose captures.",
)


def warn_of_no_frontier(shared: Shared) -> None:
    """An archive can be somebody else's; but who only forgot to name the frontier wants to know."""
    print(
        f"{shared.frontier} is not there: no record is told where captures lie now (--frontier names another)",
        file=sys.stderr,
    )
