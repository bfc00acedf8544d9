"""How far an archive was read: tables of their own in a SQLite database, changed in its owner's transaction.

A capture is taken once, whatever becomes of its file in between:

* A file is gone on with behind the last capture that was taken; one that was read to its end is not opened again.
* ``archive pack`` and ``archive forget`` write files anew, under other names. Their records keep the id of the
  ``warcinfo`` of the file that they were first written to, and that ``warcinfo`` goes along. So a file that was read to
  its end is remembered by the ids of its ``warcinfo`` records, too, and nothing of them is taken again from files that
  those two made. Any other file is known by its name: of strangers' files several may carry one and the same id.
* Of a file that was read in part, the ids of the captures that were taken are remembered until it is read to its end:
  what they were is told apart exactly, also where ``pack`` left out orphans, or ``forget`` what it had to erase. No
  offset, number or last id could do that: each may be gone. It costs a row of some 60 bytes for each capture, until
  then.
* Where several files of strangers have one id, and ``pack`` or ``forget`` wrote one of them anew, nobody can say
  whether its captures are those that were read. That an id is shared is remembered, and whoever walks refuses the file.

A record whose ``warcinfo`` is not in its file (somebody has cut one into pieces) is known by the file's name alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from sqspider.archive.names import mark_of_rewritten
from sqspider.archive.scratch import key_of

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS sqspider_files"
    " (name TEXT PRIMARY KEY, offset INTEGER NOT NULL, is_done INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS sqspider_origins"
    " (origin TEXT, name TEXT, is_done INTEGER NOT NULL, PRIMARY KEY (origin, name)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS sqspider_origins_name ON sqspider_origins (name)",
    "CREATE INDEX IF NOT EXISTS sqspider_origins_open ON sqspider_origins (origin) WHERE NOT is_done",
    "CREATE TABLE IF NOT EXISTS sqspider_taken"
    " (origin TEXT, capture BLOB, PRIMARY KEY (origin, capture)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS sqspider_shared (origin TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS sqspider_pending (key TEXT, at INTEGER, PRIMARY KEY (key, at)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS sqspider_made_with (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)
_REACHED: Final = (
    "INSERT INTO sqspider_files VALUES (?, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET offset = max(offset, excluded.offset), is_done = max(is_done, excluded.is_done)"
)
_IS_DONE: Final = (  # there is one, and no other
    "(EXISTS (SELECT 1 FROM sqspider_origins WHERE origin = ?1)"
    " AND NOT EXISTS (SELECT 1 FROM sqspider_origins WHERE origin = ?1 AND NOT is_done))"
)
_ORIGIN: Final = "INSERT OR IGNORE INTO sqspider_origins VALUES (?, ?, 0)"
_ORIGIN_OF_REWRITTEN: Final = (  # it has what others had: where that was read, it is here, too
    f"INSERT OR IGNORE INTO sqspider_origins VALUES (?1, ?2, {_IS_DONE})"
)
_TAKEN: Final = "INSERT OR IGNORE INTO sqspider_taken VALUES (?, ?)"
_ITS: Final = "origin IN (SELECT origin FROM sqspider_origins WHERE name = ?1)"
_READ_OF_FILE: Final = (
    "(SELECT origin FROM sqspider_origins AS its WHERE name = ?1"
    " AND NOT EXISTS (SELECT 1 FROM sqspider_origins WHERE origin = its.origin AND NOT is_done))"
)


class Step(NamedTuple):
    """How far a file was read."""

    file: str
    start: int  # offset where reading it began
    end: int  # and behind what was read
    infos: tuple[str, ...] = ()  # ids of the ``warcinfo`` records that were met
    origin: str = ""  # of the capture: the id of such a record, or the file's name
    capture: str = ""  # its id; empty: there was none
    is_end: bool = False  # all of the file was read, and nobody writes it


class Pending(NamedTuple):
    """A capture whose record was open when it was read."""

    key: str  # of the record
    at: int  # of the capture, microseconds since the epoch


class Cursor:
    """How far an archive was read, as its owner has committed it. Raises ``sqlite3.Error``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Makes what is not there yet, in a transaction of its own if none is begun."""
        self._connection = connection
        for statement in _TABLES:
            connection.execute(statement)

    def clear(self) -> None:
        """Forget everything: the archive is to be read from its beginning."""
        for table in ("files", "origins", "taken", "shared", "pending", "made_with"):
            self._connection.execute(f"DELETE FROM sqspider_{table}")

    def reached(self, name: str) -> int | None:
        """Where a file is to be read on; none: it was read to its end."""
        row = self._connection.execute("SELECT offset, is_done FROM sqspider_files WHERE name = ?", (name,)).fetchone()
        if row is None:
            return 0
        return None if row[1] else int(row[0])

    def origins_in(self, name: str) -> set[str]:
        """The ids of the ``warcinfo`` records that were met in a file so far."""
        rows = self._connection.execute("SELECT origin FROM sqspider_origins WHERE name = ?", (name,))
        return {str(row[0]) for row in rows}

    def is_done(self, origin: str) -> bool:
        """Whether all captures of an origin were read, in whatever file they lay."""
        return bool(self._connection.execute(f"SELECT {_IS_DONE}", (origin,)).fetchone()[0])

    def others_with(self, origin: str, name: str) -> dict[str, bool]:
        """The other files in which an origin was met, and whether each was read to its end."""
        rows = self._connection.execute(
            "SELECT name, is_done FROM sqspider_origins WHERE origin = ? AND name != ?", (origin, name)
        )
        return {str(other): bool(is_done) for other, is_done in rows}

    def is_shared(self, origin: str) -> bool:
        """Whether several files were met that have an origin, or one that has it twice."""
        found = self._connection.execute("SELECT 1 FROM sqspider_shared WHERE origin = ?", (origin,)).fetchone()
        return found is not None

    def is_begun(self, origin: str) -> bool:
        """Whether captures of an origin are remembered one by one."""
        found = self._connection.execute("SELECT 1 FROM sqspider_taken WHERE origin = ? LIMIT 1", (origin,)).fetchone()
        return found is not None

    def has_taken(self, origin: str, capture: str) -> bool:
        """Whether a capture was taken, of an origin that is begun."""
        found = self._connection.execute(
            "SELECT 1 FROM sqspider_taken WHERE origin = ? AND capture = ?", (origin, key_of(capture))
        ).fetchone()
        return found is not None

    def take(self, steps: Iterable[Step]) -> None:
        """Remember steps, in the order in which they were made."""
        iterator = iter(steps)
        while some := list(islice(iterator, 1000)):
            reached = {step.file: step.end for step in some}
            for step in some:
                for info in step.infos:
                    self._meet(info, step.file)
            self._connection.executemany(_TAKEN, [(step.origin, key_of(step.capture)) for step in some if step.capture])
            self._connection.executemany(_REACHED, [(file, end, False) for file, end in reached.items()])
            for step in some:
                if step.is_end:
                    self._end(step)

    def _meet(self, origin: str, name: str) -> None:
        execute = self._connection.execute
        is_rewritten = mark_of_rewritten(name) is not None  # then the others are those that it was made of
        others = self.others_with(origin, name)
        added = execute(_ORIGIN_OF_REWRITTEN if is_rewritten else _ORIGIN, (origin, name)).rowcount
        if not added or (others and not is_rewritten):
            execute("INSERT OR IGNORE INTO sqspider_shared VALUES (?)", (origin,))

    def _end(self, step: Step) -> None:
        execute = self._connection.execute
        execute(_REACHED, (step.file, step.end, True))
        is_rewritten = mark_of_rewritten(step.file) is not None  # then it holds what others with these ids held
        execute(f"UPDATE sqspider_origins SET is_done = 1 WHERE {_ITS if is_rewritten else 'name = ?1'}", (step.file,))
        execute(f"DELETE FROM sqspider_taken WHERE origin = ?1 OR origin IN {_READ_OF_FILE}", (step.file,))

    def wait_for(self, captures: Iterable[Pending]) -> None:
        """Remember captures whose records are open."""
        self._connection.executemany("INSERT OR IGNORE INTO sqspider_pending VALUES (?, ?)", captures)

    def pending(self, after: Pending | None = None, most: int = 200) -> list[Pending]:
        """Some of those that wait, in the order of their keys, behind one of them."""
        rows = self._connection.execute(
            "SELECT key, at FROM sqspider_pending WHERE (key, at) > (?, ?) ORDER BY key, at LIMIT ?",
            (*(after or ("", 0)), most),
        )
        return [Pending(*row) for row in rows]

    def resolved(self, captures: Iterable[Pending]) -> None:
        """They wait no more."""
        self._connection.executemany("DELETE FROM sqspider_pending WHERE key = ? AND at = ?", captures)

    def count_pending(self) -> int:
        """How many wait."""
        return int(self._connection.execute("SELECT count(*) FROM sqspider_pending").fetchone()[0])

    def made_with(self) -> dict[str, str]:
        """What its owner noted of how it was made."""
        return dict(self._connection.execute("SELECT name, value FROM sqspider_made_with"))

    def note(self, **values: str) -> None:
        """Note something of how it is made: a digest of rules, an address."""
        self._connection.executemany("INSERT OR REPLACE INTO sqspider_made_with VALUES (?, ?)", values.items())
