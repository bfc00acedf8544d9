"""How records are told where their captures lie by now: all of them are looked at, and those it concerns written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from functools import partial
from typing import Final, NamedTuple

import msgspec

from sqspider.frontier.places import Moves, moved, moved_kept
from sqspider.frontier.sqlite.captures import UNKEPT, CaptureFiles, pack_place, unpack_place
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.crawls import LAST_RECORD
from sqspider.frontier.sqlite.rows import STEP, pack_kept, unpack_kept

WITH_CAPTURES: Final = """
SELECT capture, validators, id FROM record NOT INDEXED
WHERE id > ? AND id <= ? AND (capture IS NOT NULL OR validators IS NOT NULL)
"""
CAPTURES: Final = """
SELECT r.capture, r.validators, r.id FROM json_each(?) AS e CROSS JOIN record AS r NOT INDEXED ON r.id = e.value
"""
SET_CAPTURE: Final = "UPDATE record NOT INDEXED SET capture = ?, validators = ? WHERE id = ?"


class Moving(Part):
    """Captures that lie elsewhere by now."""

    async def move_places(self, moves: Moves) -> int:
        found, after, last = 0, 0, (await self._file.rows(LAST_RECORD))[0][0] or 0
        while after < last:
            until = min(after + STEP, last)
            # Nobody waits while it is only looked. Who writes reads again: a record may have been visited since.
            if ids := await self._file.read(partial(_look, moves, after, until)):
                found += await self._file.write(partial(_write, moves, ids))
            after = until
        return found


class _Captures(NamedTuple):
    """What the row of a record says of captures."""

    capture: bytes | None
    validators: bytes | None
    id: int


def _look(moves: Moves, after: int, until: int, connection: sqlite3.Connection) -> list[int]:
    """The ids of those among some records that say where something lay before."""
    connection.execute("BEGIN")
    try:
        rows = connection.execute(WITH_CAPTURES, (after, until)).fetchall()
        return [row.id for row in _moved(rows, moves, CaptureFiles(connection))]
    finally:
        connection.execute("ROLLBACK")


def _write(moves: Moves, ids: list[int], transaction: Transaction) -> int:
    rows = transaction.connection.execute(CAPTURES, (json.dumps(ids),)).fetchall()
    return transaction.change_each(SET_CAPTURE, _moved(rows, moves, transaction.files))


def _moved(
    rows: Iterable[tuple[bytes | None, bytes | None, int]], moves: Moves, files: CaptureFiles
) -> list[_Captures]:
    """What some rows say from now on: of those that say something else. What is damaged stays as it is."""
    changed = []
    for before in map(_Captures._make, rows):
        capture, validators = before.capture, before.validators
        if capture:
            capture = _moved_capture(capture, moves, files)
        kept = unpack_kept(validators, None, files)
        if (now := moved_kept(kept, moves)) is not kept:
            validators = pack_kept(now, files)
        if capture is not before.capture or validators is not before.validators:
            changed.append(_Captures(capture, validators, before.id))
    return changed


def _moved_capture(packed: bytes, moves: Moves, files: CaptureFiles) -> bytes:
    try:
        place = unpack_place(packed, files)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return packed
    if (now := moved(place, moves)) is place:
        return packed
    return UNKEPT if now is None else pack_place(now, files)
