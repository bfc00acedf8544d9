"""``archive list``: the files of an archive, or the captures of a URL."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator

import click

from sqspider.archive.listing import Found, Listed, exact, found_of, listed, nearest
from sqspider.archive.reading import files_to_read
from sqspider.cli.archive.walking import Told
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.moments import Moment
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

    Captures are looked up in the index, if there is one (`archive index`); else all files are read. A file that is open
    is being written, or was left so by a crawler that died: the next crawl closes it, or `archive repair`.
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
    for row in listed(files_to_read(address), reads=reads, on_record=Told("read").record):
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
        _print_table(_files(rows, reads=reads), ("size", "records", "captures"))
        print(f"{counted(number, 'file', 'files')}, {human_bytes(size)} in {address}")
    return GOOD if is_good else NOT_ALL_GOOD


def _files(rows: Iterable[Listed], *, reads: bool) -> Iterator[tuple[str, ...]]:
    """A row each, as wide as most terminals; when a file began is in its name."""
    yield ("size", "changed", *(("records", "captures", "from", "to") if reads else ()), "file", "")
    for row in rows:
        content = [f"{row.records:,}", f"{row.captures:,}", _second(row.first), _second(row.last)] if reads else []
        state = "open" if row.is_open else "damaged" if row.damage else ""
        yield (human_bytes(row.size), _second(row.modified), *content, printable(row.name), state)


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
        _print_table(_captures(found), ("status", "bytes", "offset"))
    if not found:
        print(f"there is no capture of {printable(urls[0])} in {address}", file=sys.stderr)
        return NOT_ALL_GOOD
    return GOOD


def _captures(found: Iterable[Found]) -> Iterator[tuple[str, ...]]:
    yield ("time", "status", "type", "bytes", "kind", "offset", "file")
    for each in found:
        size = "" if each.bytes is None else f"{each.bytes:,}"
        kind = each.kind + (f", cut ({each.truncated})" if each.truncated else "")
        status = "" if each.http_status is None else str(each.http_status)
        said = (exact(each.at) or "", status, each.content_type or "", size, kind, str(each.offset), each.file)
        yield tuple(map(printable, said))


def _print_table(rows: Iterable[tuple[str, ...]], right: tuple[str, ...]) -> None:
    """Columns as wide as they need, for a person or a pipe: nothing is cut."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_right = [name in right for name in lines[0]]
    for line in lines:
        cells = zip(line, widths, is_right, strict=True)
        print("  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip())


def _second(at: float | None) -> str:
    return "" if at is None else (exact(at) or "")[:19] + "Z"
