"""A capture on standard output: its body, its headers, or its record; for ``show`` and ``archive cat``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import click

from sqspider.archive.files import Files
from sqspider.archive.reading import Captured, head_of, record_pieces
from sqspider.cli.sections import all_of
from sqspider.web.body import DecodeError
from sqspider.web.fetch import NOT_MODIFIED

BODY: Final = "body"
HEADERS: Final = "headers"
WARC: Final = "warc"
_MOST_BYTES: Final = 1 << 62  # it goes on as it is decoded: there is no need for a limit


def part_options(otherwise: str) -> Callable[[Any], Any]:
    """``--body``, ``--headers`` and ``--warc``, of which one may be said, as ``part``."""
    return all_of(
        click.option("--body", "part", flag_value=BODY, help=f"Write the body, decoded.{otherwise}"),
        click.option("--headers", "part", flag_value=HEADERS, help="Write status line and headers, as they were sent."),
        click.option("--warc", "part", flag_value=WARC, help="Write its record of the archive, unpacked."),
    )


def write_part(files: Files, captured: Captured, part: str) -> None:
    """Write a part of a capture to standard output, byte for byte."""
    output = sys.stdout.buffer
    if part == WARC:
        output.writelines(record_pieces(files, captured))
    elif part == HEADERS:
        output.write(_head(files, captured))
    else:
        _write_body(output, captured)
    output.flush()


def _head(files: Files, captured: Captured) -> bytes:
    head = head_of(files, captured)
    if not head:
        raise click.ClickException(f"no headers are kept of {captured.url}: it is no HTTP answer, or one as before")
    return head


def _write_body(output: BinaryIO, captured: Captured) -> None:
    if captured.kind == "revisit" and captured.original is None:
        raise click.ClickException(
            f"{captured.url} was answered as before, and its body lies with an earlier capture, which is not here"
        )
    if captured.http_status == NOT_MODIFIED:  # of a page whose capture before is not in the archive
        raise click.ClickException(
            f"{captured.url} was answered with 304, that it has not changed, and what it was before was not kept here: "
            "`sqspider retry --status done` fetches pages whole"
        )
    try:
        captured.decode(_MOST_BYTES, lambda piece: output.write(piece) >= 0)
    except DecodeError as error:
        raise click.ClickException(
            f"the body of {captured.url} is not what its Content-Encoding says: {error}; --warc writes it as it came"
        ) from error
