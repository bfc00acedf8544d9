"""Asking before something is removed, or costs money, and what that costs."""

from __future__ import annotations

import sys
from typing import Final

import click

from sqspider.cli.wording import dollars
from sqspider.frontier import Traits

MANY_RECORDS: Final = 100_000  # from here on it is worth knowing what removing them costs

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
yes_to_costs_option = click.option(
    "--yes", is_flag=True, help="Do not ask first where all records are read for it, and that costs money (AWS)."
)


def removal_cost(traits: Traits, records: int) -> str | None:
    """What it costs to remove so many records, where that is worth knowing."""
    cost = records * traits.removal_dollars
    if not cost or records < MANY_RECORDS:
        return None
    return (
        f"Removing so many records one by one costs about ${cost:,.2f}; to delete the table and create it anew "
        "(`make destroy deploy`) costs nothing."
    )


def reopening_cost(traits: Traits, records: int, most: int, *, times: int = 1) -> str | None:
    """What it costs to read all records, so many times, and to put back ``most`` of them, where that costs anything."""
    reading, putting = records * traits.scan_dollars * times, most * traits.reopen_dollars
    if not reading and not putting:
        return None
    often = " twice" if times == 2 else ""
    return (
        f"Reading all {records:,} records{often} costs about {dollars(reading)}, to put these back {dollars(putting)}."
    )


def ask_to_remove(what: str) -> None:
    """Ask whether it shall be removed. Raises as :func:`ask`."""
    ask(f"this removes {what}", f"Remove {what}?")


def ask(what: str, question: str, cost: str | None = None) -> None:
    """Ask whether to go on, with what that costs. Raises ``click.Abort``, and ``click.UsageError`` where nobody can be
    asked; ``what`` says then what was not done."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(" ".join(filter(None, (f"{what}: say --yes where nobody can be asked.", cost))))
    if cost:
        print(cost, file=sys.stderr)
    click.confirm(question, abort=True, err=True)
