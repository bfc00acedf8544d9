"""Where the commands that crawl keep pages: their options, and what is said of the place."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from sqspider.archive.coding import Coding
from sqspider.checks import optional
from sqspider.cli.options import bytes_within, checked
from sqspider.cli.sections import section
from sqspider.cli.shared import Shared
from sqspider.cli.wording import counted, human_bytes
from sqspider.crawl_settings import KEEPS_NOTHING, CrawlSettings
from sqspider.environment import NO_ARCHIVE, load_environment
from sqspider.orders.keeping import Size, archive_of_frontier, check_archive, free_bytes, size_of
from sqspider.orders.start import ArchivePlace

NEARLY_FULL: Final = 2_000_000_000  # bytes of room: a crawl stops by itself at half of it

archive_options = section(
    "Where pages are kept, as WARC files",
    click.option(
        "--archive",
        metavar="DIR|s3://BUCKET/PREFIX",
        help="Keep every answer here, durable before its record is final.  [env: SQSPIDER_ARCHIVE, none for nowhere; "
        "default: a folder beside the frontier's file, sqspider-archive of sqspider.db]",
    ),
    click.option("--no-archive", is_flag=True, help="Keep none."),
    click.option(
        "--archive-max-bytes",
        type=bytes_within(optional(1)),
        metavar="SIZE",
        help="Stop when so much lies there, by whomever: 500MB, 50GB. It stops in any case before the disk is full: "
        "with 1 GB of room left.",
    ),
    click.option(
        "--archive-coding",
        type=click.Choice([coding.value for coding in Coding]),
        default=Coding.GZIP.value,
        show_default=True,
        help="How records are packed: gzip is read by every tool, zstd is smaller.",
    ),
)
"""The options that make an :class:`ArchivePlace`."""


def place_of(shared: Shared, given: dict[str, Any]) -> ArchivePlace | None:
    """Where is kept what a command fetches, by its options; none: nowhere.

    Raises ``click.UsageError`` for what can be no archive; nothing was made then.
    """
    named, is_off, most = given["archive"], given["no_archive"], given["archive_max_bytes"]
    if named is not None and is_off:
        raise click.UsageError("--archive and --no-archive exclude each other.")
    if named is None and not is_off:
        named = archive_of_frontier(shared.frontier, load_environment())
    address = None if named == NO_ARCHIVE else named  # said here as in the environment
    if address is None:
        if most is not None:
            raise click.UsageError("--archive-max-bytes: no page is kept here: say where with --archive.")
        return None
    with checked():
        check_archive(named)
    return ArchivePlace(address=named, coding=Coding(given["archive_coding"]), max_bytes=most)


def arguments(place: ArchivePlace | None) -> list[str]:
    """The same as flags of `consume`, for a process of our own."""
    if place is None:
        return ["--no-archive"]
    said = ["--archive", place.address, "--archive-coding", place.coding.value]
    return said if place.max_bytes is None else [*said, "--archive-max-bytes", str(place.max_bytes)]


def keeping_line(place: ArchivePlace, settings: CrawlSettings) -> str:
    """What is kept, and where, with how much lies there."""
    if settings.keep == KEEPS_NOTHING:
        return "keeping no pages: the crawl says --keep none"
    types = ", ".join(settings.only) or ", ".join(settings.keep)
    what = f"pages of {types}" if types else "pages"
    size = size_of(place.address)
    return f"keeping {what} in {place.address}" + (f" ({human_bytes(size.bytes)} so far)" if size else "")


def lying_in(place: ArchivePlace) -> dict[str, int]:
    """How much lies there already, for a log; of a bucket nothing: to count costs money."""
    size = size_of(place.address)
    return {} if size is None else size._asdict()


def warn_if_nearly_full(place: ArchivePlace) -> None:
    """Say before it happens that the archive will not have room enough."""
    free = free_bytes(place.address)
    if free is not None and free < NEARLY_FULL:
        print(
            f"the disk of {place.address} is nearly full: {human_bytes(free)} left. The crawl stops by itself at "
            f"{human_bytes(NEARLY_FULL / 2)}: make room, keep pages elsewhere with --archive, or none with "
            "--no-archive.",
            file=sys.stderr,
        )
    size = size_of(place.address)
    if size is not None and place.max_bytes is not None and size.bytes >= place.max_bytes:
        print(
            f"{place.address} has reached --archive-max-bytes already ({size.bytes:,} bytes lie there): raise it, or "
            "name another with --archive.",
            file=sys.stderr,
        )


def full_words(stopped_by: str, place: ArchivePlace) -> str:
    """Why a worker stopped that has no room for what it fetches, and what to do."""
    return (
        f"{stopped_by} ({place.address}): make room there, raise --archive-max-bytes if it was said, keep pages "
        "elsewhere with --archive, or none with --no-archive"
    )


class Kept:
    """What a run has added to an archive: how much lay there before, and how much does after it."""

    def __init__(self, place: ArchivePlace | None) -> None:
        self._address = None if place is None else place.address
        self._before = self._size()

    def _size(self) -> Size | None:
        return None if self._address is None else size_of(self._address)

    def as_json(self) -> dict[str, str | int | None] | None:
        """For a program: where, how many files and bytes lie there, and how many more bytes than before. Of a bucket it
        is not told how many."""
        if self._address is None:
            return None
        before, now = self._before, self._size()
        if before is None or now is None:
            return {"address": self._address, "files": None, "bytes": None, "added_bytes": None}
        return {
            "address": self._address,
            "files": now.files,
            "bytes": now.bytes,
            "added_bytes": now.bytes - before.bytes,
        }

    def line(self) -> str | None:
        """The same for a person."""
        before, now = self._before, self._size()
        if before is None or now is None:
            return None if self._address is None else f"kept in {self._address}"
        files = counted(now.files, "file", "files")
        added = human_bytes(max(0, now.bytes - before.bytes))
        return f"kept in {self._address}: {added} more, {human_bytes(now.bytes)} in {files} in all"
