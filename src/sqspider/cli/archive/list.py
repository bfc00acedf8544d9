"""``archive list``: the files of an archive, or the captures of a URL."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import click
from rich.console import Console
from rich.table import Table

from sqspider.archive.files import files_at
from sqspider.archive.listing import Found, Listed, exact, found_of, listed, nearest
from sqspider.archive.reading import files_to_read
from sqspider.cli.archive.moments import Moment
from sqspider.cli.archive.place import archive_of, archive_option
from sqspider.cli.archive.walking import Told
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted, human_bytes, printable
from sqspider.url import Refused
from sqspider.work.seeds import read_url


@click.command(cls=Command)
@click.argument("url", required=False)
@click.option("--at", type=Moment(), metavar="TIME", help="Of a URL, only the capture nearest to this, in UTC.")
@click.option("--records", "reads", is_flag=True, help="Say what is in each file: all of them are read for it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@archive_option
@pass_shared
def command(
    shared: Shared, /, url: str | None, at: float | None, reads: bool, as_json: bool, archive: str | None
) -> int:
    """List the files of an archive with their sizes; or, with a URL, its captures. Exit status 1 if there is none.

    Captures are looked up in the index, if there is one (`archive index`); else all files are read.
    """
    if url is None and at is not None:
        raise click.UsageError("--at is of the captures of a URL: name one.")
    if url is not None and reads:
        raise click.UsageError("--records is of files: name no URL.")
    address = archive_of(shared, archive)
    if url is None:
        return _list_files(address, reads=reads, as_json=as_json)
    return _list_captures(address, url, at, as_json=as_json)


def _list_files(address: str, *, reads: bool, as_json: bool) -> int:
    rows, is_good = list[Listed](), True
    size = number = 0
    for row in listed(files_at(address), reads=reads, on_record=Told("read").record):
        number += 1
        size += row.size
        is_good &= row.damage is None
        if as_json:
            print(json.dumps(row.as_json()))
        else:
            rows.append(row)
        if row.damage is not None:
            print(f"damaged: {printable(row.damage)}", file=sys.stderr)
    if not as_json:
        Console(soft_wrap=True).print(_files(rows, reads=reads))
        print(f"{counted(number, 'file', 'files')}, {human_bytes(size)} in {address}")
    return GOOD if is_good else NOT_ALL_GOOD


def _files(rows: Iterable[Listed], *, reads: bool) -> Table:
    names = ("file", "size", "began", "changed", *(("records", "captures", "from", "to") if reads else ()), "state")
    table = _table(*names, right=("size", "records", "captures"))
    for row in rows:
        content = [f"{row.records:,}", f"{row.captures:,}", _second(row.first), _second(row.last)] if reads else []
        state = "being written" if row.is_open else "damaged" if row.damage else ""
        times = [_second(row.began), _second(row.modified)]
        table.add_row(printable(row.name), human_bytes(row.size), *times, *content, state)
    return table


def _list_captures(address: str, url: str, at: float | None, *, as_json: bool) -> int:
    canonical = read_url(url)
    urls = [url] if isinstance(canonical, Refused) else [canonical, url]
    found = found_of(files_to_read(address), urls)
    if at is not None:
        best = nearest(found, at)
        found = [] if best is None else [best]
    if as_json:
        for each in found:
            print(json.dumps(each.as_json(), ensure_ascii=False))
    elif found:
        Console(soft_wrap=True).print(_captures(found))
    if not found:
        print(f"there is no capture of {printable(urls[0])} in {address}", file=sys.stderr)
        return NOT_ALL_GOOD
    return GOOD


def _captures(found: Iterable[Found]) -> Table:
    table = _table("time", "status", "type", "bytes", "kind", "file", "offset", right=("status", "bytes", "offset"))
    for each in found:
        size = "" if each.bytes is None else f"{each.bytes:,}"
        kind = each.kind + (f", cut ({each.truncated})" if each.truncated else "")
        status = "" if each.http_status is None else str(each.http_status)
        shown = map(printable, (each.content_type or "", size, kind, each.file))
        table.add_row(exact(each.at), status, *shown, str(each.offset))
    return table


def _table(*names: str, right: tuple[str, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


def _second(at: float | None) -> str:
    return "" if at is None else (exact(at) or "")[:19] + "Z"
