"""Rows of a frontier's file as what they stand for, and the other way round.

A row may be damaged: then it says so, and hides no other.
"""

from __future__ import annotations

import functools
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from sqspider.checks import check_numbers
from sqspider.crawl_row import CrawlRef
from sqspider.crawl_settings import CrawlSettings, decode_settings
from sqspider.frontier.sqlite.captures import UNKEPT, CaptureFiles, pack_place, unpack_place
from sqspider.frontier.sqlite.errors import NOT_UTF8, damaged
from sqspider.frontier.sqlite.keys import key_or_none
from sqspider.frontier.values import DeadLetter, RobotsRow, WorkerRow
from sqspider.host import HostRow
from sqspider.message import Message
from sqspider.record import Kept, Outcome, Reason, Skipped, Status, UrlRecord, split_key
from sqspider.url import host_of

T = TypeVar("T")
END_OF_TIME: Final = 253_402_300_800.0  # the year 10000, which no calendar here knows

Parameters = dict[str, Any] | tuple[Any, ...]

NO_SETTINGS: Final = CrawlSettings()
STATUSES: Final = (Status.QUEUED, Status.PROCESSING, Status.DONE, Status.FAILED, Status.BLOCKED)
"""A record's status as the file has it: by its place in this list."""
STATUS_NUMBERS: Final = {status: number for number, status in enumerate(STATUSES)}
FRESH, PUT_OFF, IN_FLIGHT, ASIDE = 0, 1, 2, 3  # the places in the queue
NOT_YET: Final = (PUT_OFF, ASIDE)  # those that are counted as put off
STEP: Final = 1000  # rows that one transaction of a longer piece of work looks at, before others get their turn


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """An outcome as the file has it. New fields may come after these; these keep their places."""

    status: int
    reason: Reason | None
    http_status: int | None
    bytes: int
    elapsed_ms: int | None
    content_type: str | None
    title: str | None
    detail: str
    truncated: bool
    links_left_out: int
    unchanged: bool = False
    links_skipped: tuple[int, ...] = ()  # in the order of ``Skipped``, to the last that is not 0


class _PackedCheck(_Packed, frozen=True, array_like=True):
    """That of a check; what is read may be one. So all others have no byte more."""

    checked: bool = False


class _PackedKept(msgspec.Struct, frozen=True, array_like=True):
    """What is kept from visit to visit, as the file has it: as :class:`_Packed`."""

    etag: str | None
    last_modified: str | None
    changes: int
    good: tuple[bytes, bytes | None, str | None, str | None] | None  # packed; a digest is bytes or a text
    has_failed: bool = False
    capture: bytes | None = None  # of the good one: as the record's own


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(_PackedCheck)
_kept_unpacker = msgspec.msgpack.Decoder(_PackedKept)
_SHA256: Final = "sha256:"


class PackedOutcome(NamedTuple):
    """An outcome as the columns of its record."""

    outcome: bytes | None
    digest: bytes | str | None
    redirect_to: str | None
    capture: bytes | None = None


NO_OUTCOME: Final = PackedOutcome(None, None, None)


def pack(outcome: Outcome, files: CaptureFiles) -> PackedOutcome:
    """An outcome as a record keeps it."""
    packed = (_PackedCheck if outcome.checked else _Packed)(
        status=STATUS_NUMBERS[outcome.status],
        reason=outcome.reason,
        http_status=outcome.http_status,
        bytes=outcome.bytes,
        elapsed_ms=outcome.elapsed_ms,
        content_type=outcome.content_type,
        title=outcome.title,
        detail=outcome.detail,
        truncated=outcome.truncated,
        links_left_out=outcome.links_left_out,
        unchanged=outcome.unchanged,
        links_skipped=_packed_skipped(outcome.links_skipped) if outcome.links_skipped else (),
        **({"checked": True} if outcome.checked else {}),
    )
    capture = UNKEPT if outcome.unkept else None
    if outcome.capture is not None:
        capture = pack_place(outcome.capture, files)
    return PackedOutcome(_packer.encode(packed), _packed_digest(outcome.digest), outcome.redirect_to, capture)


def _packed_skipped(skipped: Mapping[Skipped, int]) -> tuple[int, ...]:
    numbers = [skipped.get(why, 0) for why in Skipped]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _packed_digest(digest: str | None) -> bytes | str | None:
    if digest is None or not digest.startswith(_SHA256):
        return digest
    try:
        packed = bytes.fromhex(digest.removeprefix(_SHA256))
    except ValueError:
        return digest
    return packed if f"{_SHA256}{packed.hex()}" == digest else digest


def unpack(packed: PackedOutcome, files: CaptureFiles) -> Outcome | None:
    """The outcome back from :func:`pack`, if there is one.

    Raises ``ValueError``, ``TypeError`` or ``msgspec.MsgspecError`` if it is damaged.
    """
    outcome, digest, redirect_to, capture = packed
    if outcome is None:
        return None
    values = _unpacker.decode(outcome)
    if not 0 <= values.status < len(STATUSES):
        raise ValueError(f"no status is {values.status}")
    return Outcome(
        status=STATUSES[values.status],
        reason=values.reason,
        detail=values.detail,
        http_status=values.http_status,
        content_type=values.content_type,
        bytes=values.bytes,
        truncated=values.truncated,
        digest=f"{_SHA256}{digest.hex()}" if isinstance(digest, bytes) else digest,
        title=values.title,
        elapsed_ms=values.elapsed_ms,
        redirect_to=redirect_to,
        links_left_out=values.links_left_out,
        unchanged=values.unchanged,
        links_skipped={why: number for why, number in zip(Skipped, values.links_skipped, strict=False) if number},
        capture=unpack_place(capture, files) if capture else None,
        unkept=capture == UNKEPT,
        checked=values.checked,
    )


def pack_kept(kept: Kept | None, files: CaptureFiles) -> bytes | None:
    """What is kept from visit to visit, but for when it changed: that has a column of its own."""
    if kept is None:
        return None
    good: tuple[bytes, bytes | None, str | None, str | None] | None = None
    capture: bytes | None = None
    if kept.good is not None:
        outcome, digest, redirect_to, capture = pack(kept.good, files)
        assert outcome is not None
        as_bytes, as_text = (None, digest) if isinstance(digest, str) else (digest, None)
        good = (outcome, as_bytes, as_text, redirect_to)
    return _packer.encode(_PackedKept(kept.etag, kept.last_modified, kept.changes, good, kept.has_failed, capture))


def unpack_kept(packed: bytes | None, changed_at: float | None, files: CaptureFiles) -> Kept | None:
    """It back; none if it is damaged: then the next visit asks for the whole."""
    if packed is None:
        return None
    try:
        values, good = _kept_unpacker.decode(packed), None
        if values.good is not None:
            outcome, of_bytes, of_text, redirect_to = values.good
            good = unpack(PackedOutcome(outcome, of_bytes or of_text, redirect_to, values.capture), files)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return None
    return Kept(
        etag=values.etag,
        last_modified=values.last_modified,
        changes=values.changes,
        has_failed=values.has_failed,
        changed_at=changed_at,
        good=good,
    )


_robots_decoder = msgspec.json.Decoder(RobotsRow)
HOST_COLUMNS: Final = HostRow.__struct_fields__
_SHOWN_MOMENTS: Final = frozenset(("penalty_since", "rest_until", "started_at", "seen_at", "sent_at"))


Belonging = CrawlSettings | CrawlRef
"""What a record goes by: its own settings, or the crawl that has them in its row."""


@functools.lru_cache(maxsize=256)
def belonging_of(text: str) -> Belonging:
    """What the records of a row of crawls go by. Raises ``msgspec.MsgspecError`` or ``ValueError`` if it is damaged."""
    return decode_settings(text) if text.startswith("{") else CrawlRef.parse(text)


class Waiting(NamedTuple):
    """A record that has a place in the queue, as a statement reads it."""

    id: int
    key: int
    delivery: int
    url: str  # the record's key
    depth: int
    parent: str | None
    crawl: int
    redirects: int
    lastmod: float | None
    slot: float | None
    slot_generation: int | None
    receives: int
    enqueued_at: float
    is_finished: int

    def message(self, belonging: Belonging) -> Message:
        """What it says to whoever receives it."""
        return Message(
            url=bare(self.url),
            depth=self.depth,
            parent=bare(self.parent),
            settings=NO_SETTINGS if isinstance(belonging, CrawlRef) else belonging,
            crawl=belonging if isinstance(belonging, CrawlRef) else None,
            redirects=self.redirects,
            lastmod=self.lastmod,
            slot=self.slot,
            generation=self.slot_generation or 0,
        )

    def sound_message(self, belonging: Belonging) -> Message | None:
        """The same, where it can be believed without being read again: none if anything of it is damaged.

        The key was made of the very same text, whose URL was canonical then.
        """
        try:
            msgspec.convert(tuple(self), Waiting)  # what is one already is believed
            message = self.message(belonging)
            check_numbers(message, Message.ranges)
        except (msgspec.ValidationError, TypeError, ValueError):
            return None
        return message if self.key == key_or_none(message.key) else None


def bare(key: T) -> T | str:
    """The URL of a record's key; what is damaged stays as it is."""
    return split_key(key)[1] if isinstance(key, str) else key


def host_row(row: tuple[Any, ...]) -> HostRow:
    """A host's row. Raises ``ValueError`` if it is damaged."""
    values = dict(zip(HOST_COLUMNS, row, strict=True))
    values["trouble"] = values["trouble"] or None
    values["is_paused"], values["is_blocked"] = bool(values["is_paused"]), bool(values["is_blocked"])
    return _read(values, HostRow)


def worker_row(row: tuple[Any, ...]) -> WorkerRow:
    """A worker's row. Raises ``ValueError`` if it is damaged."""
    worker_id, _, started_at, seen_at, _, *barred = row
    try:
        told = msgspec.json.decode(barred[0], type=dict[str, str]) if any(barred) else {}
    except (TypeError, msgspec.MsgspecError) as error:
        raise ValueError(f"barred: {error}") from None
    values = {"worker_id": worker_id, "started_at": started_at, "seen_at": seen_at, "barred": told}
    return _read(values, WorkerRow)


def letter_row(row: tuple[Any, ...]) -> DeadLetter:
    """A dead letter. Raises ``ValueError`` if it is damaged."""
    message_id, body, receive_count, sent_at = row
    values = {"message_id": str(message_id), "body": body, "receive_count": receive_count, "sent_at": sent_at}
    return _read(values, DeadLetter)


def whole(read: Callable[[tuple[Any, ...]], T], rows: Iterable[tuple[Any, ...]], what: str, path: str) -> list[T]:
    """Rows as what they stand for. Raises :class:`FrontierUnavailableError` where one is damaged."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except ValueError as error:
            raise damaged(path, f"the row of the {what} {row[0]!r} says {error}") from None
    return found


def _read(values: dict[str, Any], kind: type[T]) -> T:
    try:
        read = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    for name in _SHOWN_MOMENTS & values.keys():
        if not 0 <= values[name] < END_OF_TIME:
            raise ValueError(f"{name}: no moment is {values[name]}")
    return read


def robots_row(packed: bytes) -> RobotsRow | None:
    """What is known of a robots.txt; none if the row is damaged: then it is asked for anew."""
    try:
        return _robots_decoder.decode(zlib.decompress(packed))
    except (zlib.error, msgspec.MsgspecError, TypeError):
        return None


def packed_robots(row: RobotsRow) -> bytes:
    """What is known of a robots.txt, as the file keeps it."""
    return zlib.compress(msgspec.json.encode(row), 1)


# The page on which the record r was found, as a column.
PARENT: Final = """
CASE typeof(r.parent) WHEN 'integer' THEN (SELECT p.url FROM record AS p NOT INDEXED WHERE p.id = r.parent)
ELSE r.parent END AS parent_url
"""


def dicts(connection: sqlite3.Connection, statement: str, parameters: Parameters) -> list[dict[str, Any]]:
    """Rows by the names of their columns. A text that is no UTF-8 comes as bytes, and hides no other row."""
    try:
        cursor = connection.execute(statement, parameters)
        rows = cursor.fetchall()
    except sqlite3.OperationalError as error:
        if not str(error).startswith(NOT_UTF8):
            raise
        connection.text_factory = _text_or_bytes
        try:
            cursor = connection.execute(statement, parameters)
            rows = cursor.fetchall()
        finally:
            connection.text_factory = str
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _text_or_bytes(stored: bytes) -> str | bytes:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def record_of(row: dict[str, Any], due_seconds: float, files: CaptureFiles) -> UrlRecord:
    """A record, from its columns and its ``parent_url``; of a damaged row the URL, and what is wrong with it."""
    try:
        return _record_of(row, due_seconds, files)
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError) as error:
        crawl, url = split_key(row["url"] if isinstance(row["url"], str) else repr(row["url"]))
        return UrlRecord(url=url, crawl=crawl, status=Status.QUEUED, unreadable=f"its row is damaged: {error}")


_RECORD_NAMES: Final = tuple(
    name for name in UrlRecord.__struct_fields__ if name not in ("host", "parked", "crawl", "unreadable", "kept")
)


def _record_of(row: dict[str, Any], due_seconds: float, files: CaptureFiles) -> UrlRecord:
    status, (crawl, url) = row["status"], split_key(row["url"])
    if status not in range(len(STATUSES)):
        raise ValueError(f"no status is {status!r}")
    packed = PackedOutcome(row["outcome"], row["digest"], row["redirect_to"], row["capture"])
    values = {name: row[name] for name in _RECORD_NAMES}
    values |= {
        "status": STATUSES[status],
        "url": url,
        "crawl": crawl,
        "host": host_of(url),
        "parent": bare(row["parent_url"]),
        "outcome": unpack(packed, files),
        "visit": row["visit"] or 0,
        "kept": unpack_kept(row["validators"], row["changed_at"], files),
        "due_at": _due_at(row, due_seconds),
    }
    return msgspec.convert(values, UrlRecord)


def _due_at(row: dict[str, Any], due_seconds: float) -> Any:
    """When somebody must look at a record again. One that has a place in the queue needs no note of it."""
    if row["due_at"] is not None or row["lease_until"] is None:
        return row["due_at"]
    since = row["visible_at"] if row["queue"] == PUT_OFF else row["enqueued_at"]
    return max(since, row["lease_until"]) + due_seconds
