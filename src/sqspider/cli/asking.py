"""Asking before something is removed, and what removing costs."""

from __future__ import annotations

import sys
from typing import Final

import click

from sqspider.frontier import Traits

MANY_RECORDS: Final = 100_000  # from here on it is worth knowing what removing them costs


def cost_line(traits: Traits, records: int) -> str | None:
    """What it costs to remove so many records, where that is worth knowing."""
    dollars = records * traits.removal_dollars
    if not dollars or records < MANY_RECORDS:
        return None
    return (
        f"Removing so many records one by one costs about ${dollars:,.2f}; to delete the table and create it anew "
        "(`make destroy deploy`) costs nothing."
    )


def ask_to_remove(what: str) -> None:
    """Ask whether it shall be removed. Raises ``click.Abort``, and ``click.UsageError`` where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"this removes {what}: say --yes where nobody can be asked.")
    click.confirm(f"Remove {what}?", abort=True, err=True)
