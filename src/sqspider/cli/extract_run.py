"""A run of ``extract``: what its options ask for, what is shown while it runs, and what is said at its end."""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from sqspider.archive.files import warc_files
from sqspider.archive.reading import files_to_read
from sqspider.cli.archive_place import archive_of
from sqspider.cli.exit_status import GOOD, INTERRUPTED, NOT_ALL_GOOD
from sqspider.cli.frontier import is_absent
from sqspider.cli.options import checked
from sqspider.cli.shared import Shared
from sqspider.cli.shortcomings import never_found, shortcomings
from sqspider.cli.signals import asked_to_end, unwinding_on_signals
from sqspider.cli.wording import counted, human_seconds
from sqspider.extract.extractor import Extractor
from sqspider.extract.fetch_columns import FETCH_COLUMNS
from sqspider.extract.following import check_going_on, follow
from sqspider.extract.harvest import Came, Harvest, Order
from sqspider.extract.ledger import forget
from sqspider.extract.picking import Picking, picked, places_of
from sqspider.extract.rules import Fact, Rules
from sqspider.extract.rules_said import rules_of_options, rules_of_toml
from sqspider.extract.sample import sample
from sqspider.extract.selection import Selection
from sqspider.extract.tally import PAGES_TO_WARN, NeverFound, Trouble
from sqspider.tables.columns import Column, Row, chosen
from sqspider.tables.opening import open_table
from sqspider.tables.table import ExistsError, TableError, whole
from sqspider.tables.target import STANDARD_OUTPUT, How

SHOWN_PAGES: Final = 20  # the first ones, on a terminal
PLAIN_SECONDS: Final = 5.0  # between two lines of progress; on a terminal it is one that is drawn anew:
LIVE_SECONDS: Final = 0.5
DEFAULT_SELECTION: Final = "HTML answered with 2xx. --type '*' and --status '*' take all"
OWN_TROUBLES: Final = frozenset((Trouble.APPLY, Trouble.VALUE))  # of one's own code: no page did it


def run_extraction(shared: Shared, source: str | None, given: dict[str, Any]) -> int:
    """Run it; the exit status. Raises ``click.UsageError`` where nothing was written."""
    how = _how_of(given)
    order = _order_of(shared, source, given)
    next(warc_files(files_to_read(order.archive)))  # before anything is written: it raises where there is none
    limit = given["limit"]
    if limit is None and given["to"] is None and sys.stdout.isatty():
        limit = SHOWN_PAGES
    is_shown = limit is not None and given["to"] is None and sys.stdout.isatty()
    try:
        if given["follow"]:
            came = _followed(order, given, Told(order, is_quiet=given["quiet"]))
        elif limit is None:
            came = _harvested(order, how, Told(order, is_quiet=given["quiet"]))
        elif is_shown:
            came = _shown(order, limit, Told(order, is_quiet=given["quiet"]))
        else:
            came = _sampled(order, how, limit, Told(order, is_quiet=given["quiet"]))
    except TableError as error:  # amid: the disk is full, or somebody has taken the folder away
        raise click.ClickException(f"{error}.") from None
    if given["as_json"]:
        print(json.dumps(as_json(order, came), ensure_ascii=False))
    else:
        is_told = is_shown and came.tally.documents
        lines = [*(() if is_told else (numbers(order, came),)), *trouble(came), *hints(order, came)]
        print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
    return status_of(came)


def _harvested(order: Order, how: How, told: Told) -> Came:
    with _refusing(order):
        harvest = Harvest(order, how, forks=True, on_progress=told.progress).begun()
    with harvest, asked_to_end(harvest.stop):
        came = harvest.run()
    told.end()
    return came


def _followed(order: Order, given: dict[str, Any], told: Told) -> Came:
    """Rows as pages come, until somebody asks for the end; then all that is there by then."""
    for name in ("limit", "overwrite"):
        if given[name]:
            raise click.UsageError(f"--follow goes on with what is there: leave out --{name}.")
    if order.to == STANDARD_OUTPUT:
        raise click.UsageError("--follow: what was printed is not remembered: say --to FILE.")
    with _refusing():
        order.check()
        check_going_on(order)
    heard, asked = os.pipe()
    try:
        with asked_to_end(lambda: os.write(asked, b".")):
            came = follow(
                order,
                lambda seconds: bool(select.select([heard], [], [], seconds)[0]),
                forks=True,
                on_progress=told.progress,
            )
    finally:
        os.close(heard)
        os.close(asked)
    told.end()
    return came


def _sampled(order: Order, how: How, limit: int, told: Told) -> Came:
    """Rows of the first pages, written as all of them would be."""
    if how is How.APPEND:
        raise click.UsageError("--limit and --append exclude each other: what rules were tried on is not remembered.")
    with _refusing():
        columns = Extractor(order.rules).columns
        places = places_of(order.columns, columns)
        table = open_table(order.to, chosen(columns, places), how=how, format=order.format, parts=order.parts)
    encoder = Picking(table.encoder, places)
    with unwinding_on_signals(), whole(table):
        came = sample(order, limit, lambda rows: table.write(encoder.encode(rows)), told.progress)
        told.end()
        table.flush()
        forget(order.to, table)
        return came


def _shown(order: Order, limit: int, told: Told) -> Came:
    """Rows of the first pages, as a table for a person."""
    with _refusing():
        columns = Extractor(order.rules).columns
        places = places_of(order.columns, columns) if order.columns else _worth_seeing(columns)
    from sqspider.cli.rows_shown import show_rows  # here: it brings rich

    shown = list[Row]()
    came = sample(order, limit, lambda rows: shown.extend(picked(row, places) for row in rows), told.progress)
    told.end()
    at_error = next((at for at, place in enumerate(places) if columns[place].name == "error"), None)
    if at_error is not None and not order.columns and all(row[at_error] is None for row in shown):
        places = [*places[:at_error], *places[at_error + 1 :]]
        shown = [(*row[:at_error], *row[at_error + 1 :]) for row in shown]
    show_rows([columns[at] for at in places], shown, has_more=came.tally.documents == limit, chosen_by="--columns")
    return came


def _worth_seeing(columns: Sequence[Column]) -> list[int]:
    """The URL, what was asked for, and what went wrong."""
    known = {column.name for column in FETCH_COLUMNS} - {"url", "error"}
    seen = [at for at, column in enumerate(columns) if column.name not in known]
    return sorted(seen, key=lambda at: columns[at].name == "error")


@contextmanager
def _refusing(order: Order | None = None) -> Iterator[None]:
    """Within it nothing was written yet: what goes wrong is wrong usage. ``order``: one that could go on with
    what is there."""
    try:
        with checked():
            yield
    except ExistsError as error:
        advice = ", --append goes on with it" if order is not None and order.goes_on else ""
        raise click.UsageError(f"{error}{advice}.") from None
    except TableError as error:
        raise click.UsageError(f"{error}.") from None


def _order_of(shared: Shared, source: str | None, given: dict[str, Any]) -> Order:
    if given["to"] == "":
        raise click.UsageError("--to: name a file, or - for standard output.")
    to = given["to"] or STANDARD_OUTPUT
    if given["as_json"] and to == STANDARD_OUTPUT:
        raise click.UsageError("--json: rows are printed here: say --to FILE.")
    for name in ("append", "overwrite"):
        if given[name] and to == STANDARD_OUTPUT:
            raise click.UsageError(f"--{name} is of a file: say --to FILE.")
    is_verified = source is None or shared.address is not None
    if is_verified and is_absent(shared):
        raise click.UsageError(f"there is no frontier {shared.frontier}: name an archive alone, or another frontier.")
    archive = archive_of(shared, source)
    rules = rules_of(given)
    with checked():
        said = {name: given[name] for name in ("statuses", "types") if given[name]}
        selection = Selection(**said, **{name: given[name] for name in ("crawl", "host", "since", "until")})
    return Order(
        archive=archive,
        to=to,
        rules=rules,
        selection=selection,
        frontier=shared.frontier if is_verified else None,
        format=given["form"],
        parts=os.path.isdir(to),
        columns=tuple(name.strip() for name in (given["columns"] or "").split(",") if name.strip()),
        processes=given["processes"] or 0,
    )


def rules_of(given: dict[str, Any]) -> Rules:
    """The rules that options say. Raises ``click.UsageError``."""
    with checked():
        base = rules_of_toml(Path(given["rules_file"])) if given["rules_file"] else None
        return rules_of_options(
            base=base,
            facts=[fact.value for fact in Fact if given[fact.value]],
            fields=given["fields"],
            required=given["required"],
            each=given["each"],
            apply=given["apply"],
            main_by=given["main_by"],
        )


def _how_of(given: dict[str, Any]) -> How:
    if given["append"] and given["overwrite"]:
        raise click.UsageError("--append and --overwrite exclude each other.")
    return How.APPEND if given["append"] else How.OVERWRITE if given["overwrite"] else How.NEW


class Told:
    """What is told while it runs: how far it is, and of fields that are never found."""

    def __init__(self, order: Order, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._is_live = sys.stderr.isatty() and not is_quiet
        self._began = time.monotonic()
        self._next = self._began
        self._wait()
        self._never = NeverFound(field.name for field in order.rules.fields)

    def progress(self, came: Came) -> None:
        """More has been done."""
        for line in never_found(self._never, came):
            self.end()
            print(line, file=sys.stderr)
        now = time.monotonic()
        if self._is_quiet or now < self._next:
            return
        self._wait()
        line = progress_line(came, now - self._began)
        if self._is_live:
            width = shutil.get_terminal_size().columns
            line = f"\r{line[: width - 1]}\x1b[K"
        print(line, end="" if self._is_live else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The line that is drawn anew goes: no more, or something else is said."""
        if self._is_live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _wait(self) -> None:
        self._next = time.monotonic() + (LIVE_SECONDS if self._is_live else PLAIN_SECONDS)


def progress_line(came: Came, seconds: float) -> str:
    """How far it is."""
    tally = came.tally
    parts = [f"pages {tally.documents:,}", f"rows {tally.rows:,}", f"{_speed(tally.documents, seconds):,.0f} pages/s"]
    if tally.errors:
        parts.append(f"errors {tally.errors.total():,}")
    if came.looked:
        parts.append(f"looked for originals in {came.looked:,} records")
    return "  ".join(parts)


def _speed(pages: int, seconds: float) -> float:
    return pages / max(seconds, 1e-3)


def numbers(order: Order, came: Came) -> str:
    """How much came of it, in a line."""
    tally = came.tally
    if not came.captures and not tally.documents:
        return "nothing new: all of it was read before"
    if not tally.documents:
        lacking = "" if order.selection != Selection() else f": {DEFAULT_SELECTION}"
        return f"no page: none of {counted(came.captures, 'capture', 'captures')} is what was asked for{lacking}"
    where = "" if order.to == STANDARD_OUTPUT else f" in {order.to}"
    return (
        f"{counted(tally.rows, 'row', 'rows')}{where}, of {counted(tally.documents, 'page', 'pages')}, in "
        f"{human_seconds(came.seconds)} ({_speed(tally.documents, came.seconds):,.0f} pages/s)"
    )


def hints(order: Order, came: Came) -> Iterator[str]:
    """What was perhaps meant otherwise."""
    rules, tally = order.rules, came.tally
    if tally.documents < PAGES_TO_WARN:  # of more it was told as they were read
        for name in (field.name for field in rules.fields if tally.documents and not tally.found[field.name]):
            yield f"the field {name} was found on none of {counted(tally.documents, 'page', 'pages')}"
    if tally.documents and not (rules.fields or rules.facts or rules.apply or rules.each):
        yield "nothing of the pages themselves was asked for: --title, --text, --field NAME=PATH, … do"
    if tally.errors[Trouble.NO_ORIGINAL]:
        yield (
            "no-original: what has not changed since names the capture that it is the same as, and that is not in "
            f"{order.archive}: name the folder that has it, too"
        )


def trouble(came: Came) -> Iterator[str]:
    """What is missing, in lines."""
    yield from shortcomings(came)
    if came.pending:
        waiting = counted(came.pending, "page waits", "pages wait")
        yield f"{waiting} for the end of a visit: when the crawl has gone on, --append brings the rest"
    if came.was_stopped:
        yield "stopped before the end"


def as_json(order: Order, came: Came) -> dict[str, Any]:
    """The same for a program."""
    tally = came.tally
    return {
        "to": order.to,
        "documents": tally.documents,
        "rows": tally.rows,
        "captures": came.captures,
        "seconds": round(came.seconds, 3),
        "found": dict(tally.found),
        "missing": {
            name: {"pages": number, "first": tally.first_missing.get(name)} for name, number in tally.missing.items()
        },
        "errors": {str(kind): number for kind, number in tally.errors.items()},
        "pending": came.pending,
        "damaged": list(came.damage.values()),
        "stopped": came.was_stopped,
    }


def status_of(came: Came) -> int:
    """The exit status: see ``extract --help``."""
    if came.was_stopped:
        return INTERRUPTED
    is_good = not (came.tally.missing or came.pending or came.damage or OWN_TROUBLES & came.tally.errors.keys())
    return GOOD if is_good else NOT_ALL_GOOD
