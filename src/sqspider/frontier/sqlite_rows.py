"""Rows of a frontier's file as what they stand for. A row may be damaged: then it says so, and hides no other."""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any, Final, TypeVar

import msgspec

from sqspider.frontier import DeadLetter, RobotsRow, WorkerRow
from sqspider.frontier.sqlite_file import NOT_UTF8
from sqspider.host import HostRow
from sqspider.record import Status, UrlRecord, decode_outcome

T = TypeVar("T")
END_OF_TIME: Final = 253_402_300_800.0  # the year 10000, which no calendar here knows

Parameters = dict[str, Any] | tuple[Any, ...]

_robots_decoder = msgspec.json.Decoder(RobotsRow)
HOST_COLUMNS: Final = HostRow.__struct_fields__
_SHOWN_MOMENTS: Final = frozenset(("penalty_since", "rest_until", "started_at", "seen_at", "sent_at"))


def host_row(row: tuple[Any, ...]) -> HostRow:
    """A host's row. Raises ``ValueError`` if it is damaged."""
    values = dict(zip(HOST_COLUMNS, row, strict=True))
    values["trouble"] = values["trouble"] or None
    values["is_paused"], values["is_blocked"] = bool(values["is_paused"]), bool(values["is_blocked"])
    return _read(values, HostRow)


def worker_row(row: tuple[Any, ...]) -> WorkerRow:
    """A worker's row. Raises ``ValueError`` if it is damaged."""
    return _read(dict(zip(WorkerRow.__struct_fields__, row, strict=True)), WorkerRow)


def letter_row(row: tuple[Any, ...]) -> DeadLetter:
    """A dead letter. Raises ``ValueError`` if it is damaged."""
    message_id, body, receive_count, sent_at, _ = row
    values = {"message_id": str(message_id), "body": body, "receive_count": receive_count, "sent_at": sent_at}
    return _read(values, DeadLetter)


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


def record_of(row: dict[str, Any]) -> UrlRecord:
    """A record; of a damaged row the URL, and what is wrong with it."""
    try:
        outcome = decode_outcome(row["outcome"], row["url"]) if row["outcome"] else None
        return msgspec.convert({**row, "outcome": outcome}, UrlRecord)
    except (msgspec.MsgspecError, TypeError) as error:
        url = row["url"] if isinstance(row["url"], str) else repr(row["url"])
        return UrlRecord(url=url, status=Status.QUEUED, unreadable=f"its row is damaged: {error}")
