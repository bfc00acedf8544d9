"""``duplicates``: pages with the same content, and with nearly the same."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Final

import click

from sqspider.archive.errors import NoArchiveError
from sqspider.archive.files import Files
from sqspider.archive.reading import files_to_read
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import crawl_option, host_name
from sqspider.cli.order import row_if_named
from sqspider.cli.output import check_new, written
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.signals import unwinding_on_signals
from sqspider.cli.wording import counted, printable
from sqspider.extract.duplicates import Answer, Duplicates, Group, Page
from sqspider.extract.simhash import MOST_DISTANCE
from sqspider.record import Status, UrlRecord
from sqspider.tables.columns import Column, Kind, Row
from sqspider.tables.target import How

_SHOWN: Final = 10  # pages of a group that a person is shown
_COLUMNS: Final = (
    Column("group", Kind.INTEGER),  # from 1, the largest first
    Column("pages", Kind.INTEGER),  # of the group
    Column("url"),
    Column("crawl"),
    Column("canonical"),
    Column("distance", Kind.INTEGER),
    Column("digest"),
)
_ROWS: Final = 1000  # that are written at once


@click.command(cls=Command)
@click.argument("source", required=False, metavar="[DIR|FILE|s3://BUCKET/PREFIX]")
@click.option("--near", is_flag=True, help="Also pages that differ in few words: their archive is read for that.")
@click.option(
    "--distance",
    type=click.IntRange(0, MOST_DISTANCE),
    metavar="BITS",
    help="With --near: in how many of 64 bits fingerprints may differ.  [default: 3]",
)
@click.option("--host", callback=host_name, metavar="HOST", help="Only this host's pages.")
@crawl_option("Only this crawl's pages.  [default: those of all crawls]")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only so many groups, the largest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for each group.")
@click.option(
    "--to",
    "--output",
    "to",
    metavar="FILE",
    help="Write a row for each page: .jsonl, .csv, .parquet or .db. It must not be there.",
)
@click.option("--overwrite", is_flag=True, help="A file of --to that is there is replaced.")
@archive_option
@pass_shared
def duplicates(
    shared: Shared,
    /,
    source: str | None,
    near: bool,
    distance: int | None,
    host: str | None,
    crawl: str | None,
    limit: int | None,
    as_json: bool,
    to: str | None,
    overwrite: bool,
    archive: str | None,
) -> int:
    """Tell which pages have the same content, the largest group first; with --near, nearly the same.

    Without an argument, pages are those of the frontier, as its records say. With one they are those of an archive or a
    WARC file, ours or anybody's, whatever any frontier says: of each URL the last good answer.

    The same are pages whose bytes are the same. Nearly the same are pages whose main content
    differs in few words. The column canonical says which URL a page itself says is meant; the first of a group is
    the one that is meant, or has the shortest URL.

    Exit status 1 if pages could not be read.
    """
    if distance is not None and not near:
        raise click.UsageError("--distance is of --near.")
    if to is not None and as_json:
        raise click.UsageError("--json is printed, and --to writes a file: say one of them.")
    if overwrite and to is None:
        raise click.UsageError("--overwrite is of the file of --to.")
    if source is not None and archive is not None:
        raise click.UsageError(
            "--archive is of the frontier's pages, and an archive is named already: say one of them."
        )
    if to is not None:
        check_new("--to", to, overwrite=overwrite)
    unreadable: list[str] = []
    with unwinding_on_signals(), Duplicates() as found:
        if source is None:
            asyncio.run(_take(shared, found, host, crawl))
            files = _files_of(shared, archive, is_needed=near)
        else:
            files = files_to_read(archive_of(shared, source))
            _take_captures(found, files, host, crawl, unreadable)
            if near:
                unreadable += (f"{url}: what its revisit refers to is not in the archive" for url in found.nowhere())
        _group(files, found, (3 if distance is None else distance) if near else None, unreadable)
        groups = islice(found.groups(), limit)
        if to is not None:
            _write(groups, to, How.OVERWRITE if overwrite else How.NEW)
        elif as_json:
            _print_json(groups)
        else:
            _print(groups)
    if unreadable:
        print(
            f"pages that cannot be read: {len(unreadable):,}, the first of them {printable(unreadable[0])}",
            file=sys.stderr,
        )
    return NOT_ALL_GOOD if unreadable else GOOD


async def _take(shared: Shared, found: Duplicates, host: str | None, crawl: str | None) -> None:
    async with opened(shared, looking=True) as frontier:
        await row_if_named(frontier, crawl)
        async for records in frontier.scan(status=Status.DONE, host=host, crawl=crawl):
            found.add(answer for record in records if (answer := _answer_of(record)) is not None)


def _answer_of(record: UrlRecord) -> Answer | None:
    """What an answer that is ``done`` is known by; a redirect, and what cannot be read, has no digest."""
    outcome = record.outcome
    if outcome is None or outcome.digest is None:
        return None
    return Answer(record.url, record.crawl, outcome.digest, outcome.capture)


def _files_of(shared: Shared, archive: str | None, *, is_needed: bool) -> Files | None:
    """The files of the frontier's archive; none: there is none, and nobody asked for it."""
    try:
        return files_to_read(archive_of(shared, archive))
    except (click.UsageError, NoArchiveError):
        if is_needed or archive is not None:
            raise
        return None


def _take_captures(found: Duplicates, files: Files, host: str | None, crawl: str | None, unreadable: list[str]) -> None:
    from sqspider.extract.contents import answers_in
    from sqspider.extract.selection import EVERYTHING, Selection, Selector

    selector = Selector(Selection(statuses=("2xx",), types=(EVERYTHING,), host=host, crawl=crawl))
    found.add(answers_in(files, selector, unreadable.append))
    found.keep_last_of_each()


def _group(files: Files | None, found: Duplicates, most: int | None, unreadable: list[str]) -> None:
    """Group what is the same, or with ``most`` bits what is nearly so."""
    from sqspider.extract.contents import reader

    if files is None:
        found.group_same()  # what pages say of themselves is not known, and nothing else is missing
        return
    with reader(files, unreadable.append, fingerprints=most is not None) as read:
        if most is None:
            found.group_same(read)
        else:
            found.group_near(most, read)


def _write(groups: Iterator[Group], target: str, how: How) -> None:
    pages = 0
    with written(target, _COLUMNS, how=how) as table:
        rows = _rows(groups)
        while batch := list(islice(rows, _ROWS)):
            table.write(table.encoder.encode(batch))
            pages += len(batch)
    print(f"{counted(pages, 'page', 'pages')} written to {target}", file=sys.stderr)


def _rows(groups: Iterator[Group]) -> Iterator[Row]:
    for number, group in enumerate(groups, 1):
        for page in group.pages:
            yield number, group.number, page.url, page.crawl, page.canonical, page.distance, page.digest


def _print_json(groups: Iterator[Group]) -> None:
    for number, group in enumerate(groups, 1):
        head = {"group": number, "pages": group.number, "contents": group.contents}
        print(json.dumps(head)[:-1], end=', "members": [')
        for at, page in enumerate(group.pages):
            print(", " if at else "", json.dumps(page._asdict(), ensure_ascii=False), sep="", end="")
        print("]}")


def _print(groups: Iterator[Group]) -> None:
    alike = pages = 0
    for group in groups:
        alike, pages = alike + 1, pages + group.number
        differing = "the same content" if group.contents == 1 else counted(group.contents, "content", "contents")
        print(f"{counted(group.number, 'page', 'pages')}, {differing}")
        for page in islice(group.pages, _SHOWN):
            print(printable(f"    {page.url}{_said_of(page)}"))
        if group.number > _SHOWN:
            print(f"    … {group.number - _SHOWN:,} more: --json lists them")
    print(f"{counted(alike, 'group', 'groups')} with {counted(pages, 'page', 'pages')}" if alike else "no duplicates")


def _said_of(page: Page) -> str:
    away = f"  {counted(page.distance, 'bit', 'bits')} away" if page.distance else ""
    if page.canonical is None:
        return away
    return f"{away}  is canonical" if page.canonical == page.url else f"{away}  canonical: {page.canonical}"
