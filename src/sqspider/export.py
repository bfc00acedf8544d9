"""Records as rows: JSON lines or CSV, the names being part of what we promise."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Final, NamedTuple

from sqspider.chains import Chain, chains_of
from sqspider.frontier import Looking
from sqspider.meta import MetaError, decode_meta
from sqspider.record import Kept, Outcome, Reason, Status, UrlRecord

FIELDS: Final = (
    "url", "status", "reason", "http_status", "final_url", "content_type", "bytes", "truncated", "digest",
    "title", "depth", "parent", "host", "attempt", "worker_id", "enqueued_at", "claimed_at", "finished_at",
    "elapsed_ms", "detail", "tries", "lastmod", "links_left_out", "error", "redirect_to", "meta", "crawl",
    "visits", "unchanged", "changes", "changed_at", "links_skipped",
    "capture_file", "capture_offset", "capture_length", "payload_digest", "checked",
)  # fmt: skip
"""The columns, in order. New ones may come after these; these keep their names."""

_NOTHING: Final = Outcome(status=Status.QUEUED)
_NONE_KEPT: Final = Kept()


def iso(moment: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC, with milliseconds."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row_of(record: UrlRecord, chain: Chain | None = None) -> dict[str, Any]:
    """One record as a row: values as JSON has them, times as ISO 8601 in UTC.

    ``chain``: where it leads, if it redirects. Of one that cannot be read there is its URL, and in ``error`` why.
    """
    error = record.unreadable
    if not error:
        try:
            return _row_of(record, chain)
        except MetaError as damaged:
            error = str(damaged)
        except (OverflowError, ValueError, OSError) as out_of_range:
            error = f"one of its times is none: {out_of_range}"
    return {**dict.fromkeys(FIELDS), "url": record.url, "error": error, "crawl": record.crawl}


def _final_url(record: UrlRecord, outcome: Outcome, chain: Chain | None) -> str | None:
    """Where redirects end: of a page at itself; none without an answer, or for a chain without end."""
    if outcome.is_redirect:
        return chain.end if chain else None
    if outcome.reason is Reason.REDIRECT_LOOP:
        return None
    return outcome.redirect_to or (None if outcome.http_status is None else record.url)


def _row_of(record: UrlRecord, chain: Chain | None) -> dict[str, Any]:
    outcome, kept = record.outcome or _NOTHING, record.kept or _NONE_KEPT
    capture = outcome.capture
    return {
        "url": record.url,
        "status": record.status.value,
        "reason": outcome.reason.value if outcome.reason else None,
        "http_status": outcome.http_status,
        "final_url": _final_url(record, outcome, chain),
        "content_type": outcome.content_type,
        "bytes": outcome.bytes,
        "truncated": outcome.truncated,
        "digest": outcome.digest,
        "title": outcome.title,
        "depth": record.depth,
        "parent": record.parent,
        "host": record.host,
        "attempt": record.attempt,
        "worker_id": record.worker_id,
        "enqueued_at": iso(record.enqueued_at),
        "claimed_at": iso(record.claimed_at),
        "finished_at": iso(record.finished_at),
        "elapsed_ms": outcome.elapsed_ms,
        "detail": outcome.detail or None,
        "tries": record.tries,
        "lastmod": iso(record.lastmod),
        "links_left_out": outcome.links_left_out,
        "error": None,
        "redirect_to": outcome.redirect_to if outcome.is_redirect else None,
        "meta": None if record.meta is None else decode_meta(record.meta),
        "crawl": record.crawl,
        "visits": record.visit + record.status.is_final,
        "unchanged": outcome.unchanged,
        "changes": kept.changes,
        "changed_at": iso(kept.changed_at),
        "links_skipped": {why.value: number for why, number in outcome.links_skipped.items()} or None,
        "capture_file": capture and capture.file,
        "capture_offset": capture and capture.offset,
        "capture_length": capture and capture.length,
        "payload_digest": capture and f"sha1:{capture.digest}",
        "checked": outcome.checked,
    }


def as_jsonl(row: dict[str, Any]) -> str:
    """A row as one line of JSON."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def as_csv(row: dict[str, Any]) -> str:
    """A row as one line of CSV (RFC 4180): an object as JSON. What a spreadsheet would run as a formula stays text."""
    out = StringIO()
    csv.writer(out).writerow(map(_cell, row.values()))
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


CSV_HEAD: Final = ",".join(FIELDS) + "\r\n"


class Format(NamedTuple):
    """How rows are written."""

    head: str  # before the first row
    as_line: Callable[[dict[str, Any]], str]


FORMATS: Final = {"jsonl": Format("", as_jsonl), "csv": Format(CSV_HEAD, as_csv)}


async def export_rows(
    frontier: Looking,
    write: Callable[[str], object],
    form: Format,
    *,
    status: Status | None = None,
    host: str | None = None,
    crawl: str | None = None,
    only_final: bool = False,
    on_unreadable: Callable[[str], object] = lambda _: None,
) -> int:
    """Write every record that is asked for as a line; how many. Constant memory.

    ``on_unreadable`` gets the URL of each record whose row is damaged; it has its line, too.
    """
    write(form.head)
    rows = 0
    async for records in frontier.scan(status=status, host=host, crawl=crawl):
        chains = await chains_of(frontier, records)
        chosen = [
            row_of(record, chains.get(record.key))
            for record in records
            if record.status.is_final or record.unreadable or not only_final
        ]
        write("".join(map(form.as_line, chosen)))
        rows += len(chosen)
        for row in chosen:
            if row["error"]:
                on_unreadable(row["url"])
    return rows
