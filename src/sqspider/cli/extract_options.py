"""Extraction while a crawl runs: its options. The process that does it is begun in ``extract_behind``; who extracts
nothing loads none of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sqspider.cli.extract_said import words_of
from sqspider.cli.sections import section
from sqspider.orders.order import ConfigFile
from sqspider.orders.start import ArchivePlace

if TYPE_CHECKING:
    from sqspider.cli.extract_behind import Following

TO: Final = "to"  # in the rules' file: where rows go

extract_options = section(
    "Extracting",
    click.option(
        "--extract", "extract", type=click.Path(path_type=Path), metavar="RULES",
        help="Make rows of the pages as they come, by the rules of a file (TOML), as `extract --rules` does.  "
        "[default: the table [extract] of --config]",
    ),
    click.option(
        "--extract-to", metavar="FILE",
        help="Where they go: JSON lines, CSV, SQLite, or a folder of parts; gone on with when the crawl is.  "
        "[default: what the rules say as `to`]",
    ),
)  # fmt: skip


def to_follow(
    given: dict[str, Any], config: ConfigFile | None, frontier: str, place: ArchivePlace | None, crawl: str
) -> Following | None:
    """What is to be extracted while a crawl runs; none: nothing. Raises ``click.UsageError``."""
    path, to = given.pop("extract"), given.pop("extract_to")
    table = config.extract if config is not None else None
    words = words_of(path, to, config.path if config is not None and table is not None and path is None else None)
    if path is None and table is None:
        if to is not None:
            raise click.UsageError("--extract-to: say with --extract what is to be extracted.")
        return None
    if place is None:
        raise click.UsageError("--extract: rows are made of what is kept, and here nothing is: leave out --no-archive.")
    from sqspider.cli.extract_behind import Following, order_by
    from sqspider.extract.rules_said import table_in
    from sqspider.tables.table import TableError

    try:
        told, where = (
            (table_in(path), str(path))
            if path is not None
            else (dict(table or {}), f"{config and config.path}: [extract]")
        )
        said = told.pop(TO, None)
        to = said if to is None else to
        if not isinstance(to, str) or to in ("", "-"):
            raise click.UsageError(f"--extract-to: say which file rows go to, or in {where} as `to`.")
        order = order_by(told, where, archive=place.address, to=to, frontier=frontier, crawl=crawl)
        return Following(order, words)
    except (TableError, TypeError, ValueError) as error:
        raise click.UsageError(f"--extract: {error}.") from None
