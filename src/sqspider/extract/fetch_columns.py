"""The columns that every row begins with: whose it is, and what was fetched, by the names of Common Crawl's index."""

from __future__ import annotations

from typing import Final

from sqspider.extract.document import Document
from sqspider.tables.columns import Column, Kind
from sqspider.url import host_in

FETCH_COLUMNS: Final = (
    Column("crawl", is_key=True),
    Column("url", is_key=True),
    Column("visit", Kind.INTEGER, is_key=True),  # none where no frontier was asked: then time and place are the key
    Column("fetch_time", Kind.TIME, is_key=True),
    Column("fetch_status", Kind.INTEGER),
    Column("url_host_name"),
    Column("content_mime_type"),  # as the answer says it
    Column("content_charset"),  # by which it was read
    Column("content_digest"),  # of the payload, as the capture has it
    Column("content_truncated"),  # why the payload ends early
    Column("warc_filename", is_key=True),  # where it was read: others' captures have whole seconds, and may be copied
    Column("warc_record_offset", Kind.INTEGER, is_key=True),
    Column("warc_record_length", Kind.INTEGER),
    Column("error"),  # why what was asked for is missing
)


def fetch_values(document: Document, charset: str | None, error: str | None) -> tuple[object, ...]:
    """The values of those columns."""
    captured = document.captured
    return (
        document.crawl,
        document.url,
        document.visit,
        document.at,
        document.http_status,
        host_in(document.url) or None,
        document.media_type or None,
        charset,
        captured.digest,
        captured.truncated,
        captured.file,
        captured.offset,
        captured.length,
        error,
    )
