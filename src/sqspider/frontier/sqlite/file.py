"""How a frontier's file is opened: to work, it is made or brought up to date; to look, it is neither made nor written
to. Whatever is no frontier, of a newer version or damaged is refused.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from sqspider.frontier.sqlite.errors import BUSY_SECONDS, damaged, folder_of, has_frames, is_busy
from sqspider.frontier.sqlite.schema import SCHEMA, statements_of
from sqspider.frontier.values import FrontierUnavailableError

APPLICATION_ID: Final = 0x73717370  # "sqsp"
SCHEMA_VERSION: Final = 5  # of the key of a URL, too: see keys.key_of
OLDEST_SQLITE: Final = (3, 38, 0)  # the operator ->>
BUSY_PAUSE_SECONDS: Final = 0.001  # between two tries while others are in the way: a turn of theirs takes as long
CACHE_KIB: Final = 32_768  # bounded, whatever the file's size
CHECKED_BYTES: Final = 64 << 20  # of a file that is checked when it is opened: a third of a second
SOUND: Final = "ok"  # what SQLite's checks say then: https://sqlite.org/pragma.html#pragma_integrity_check
IN_MEMORY: Final = ":memory:"

COUNT_TABLES: Final = "SELECT count(*) FROM sqlite_schema"


def open_to_work(path: str, now: float) -> sqlite3.Connection:
    """Open a file that is to be written, made if it is absent; ``:memory:`` for none.

    Waits for no transaction of others but where the file is made or brought up to date. Raises
    :class:`FrontierUnavailableError` if it is no frontier, of a newer version or damaged, and ``sqlite3.Error`` for
    what :func:`~sqspider.frontier.sqlite.errors.classify` puts into words, such as a file that cannot be written.
    """
    _refuse_old_sqlite()
    was_left_open = has_frames(path)
    connection = _connect(path)
    try:
        _patiently(connection, lambda: _prepare(connection, path, now))
        _refuse_read_only(connection)
        if was_left_open:
            _check_quickly(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_look(path: str) -> sqlite3.Connection:
    """Open a file that is there, never to write to it nor to wait for those who do.

    Nothing is left behind beside it. That it cannot be written is no hindrance, unless somebody died
    and left a log of changes beside it. Raises as :func:`open_to_work` does.
    """
    if path == IN_MEMORY:
        return open_to_work(path, 0.0)
    _refuse_old_sqlite()
    if is_absent(path):
        raise FrontierUnavailableError(f"there is no frontier at {path}: a crawl or an enqueue makes one")
    connection = _connect(f"{Path(path).absolute().as_uri()}?{_way_to_look(path)}", is_uri=True)
    try:
        connection.execute("PRAGMA query_only = ON")
        _patiently(connection, lambda: _refuse_what_cannot_be_looked_at(connection, path))
    except BaseException:
        connection.close()
        raise
    return connection


def is_absent(path: str) -> bool:
    """Whether nobody has made the file, and it could be made."""
    return path != IN_MEMORY and not os.path.exists(path) and os.path.isdir(folder_of(path))


def leave_no_log(connection: sqlite3.Connection) -> None:
    """Move the log of changes into the file it belongs to, which lies at its path no more.

    Left where it is, the log would be taken for that of the file which lies there now: SQLite knows
    a log by its name alone.
    """
    with contextlib.suppress(sqlite3.Error):  # then others who have the file open do it
        connection.execute("PRAGMA busy_timeout = 1000")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _way_to_look(path: str) -> str:
    """How to open a file without a trace: https://sqlite.org/wal.html#readonly"""
    if has_frames(path):
        return "mode=ro"  # the last one to close a file it may write moves what a dead process left into it
    if hasattr(os, "statvfs") and os.path.exists(path) and os.statvfs(path).f_flag & os.ST_RDONLY:
        return "immutable=1"  # no -shm can be made, and nobody changes anything
    return "mode=rw"  # which cleans up beside the file; nothing is written, for query_only holds


def _refuse_old_sqlite() -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise FrontierUnavailableError(
            f"this Python's SQLite is {sqlite3.sqlite_version}; sqspider needs {oldest} or later"
        )


def _connect(database: str, *, is_uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        database, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=is_uri
    )
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    # Debian's SQLite overwrites what is deleted: every page of a table that is emptied would go through the log.
    connection.execute("PRAGMA secure_delete = OFF")
    return connection


class _Head(NamedTuple):
    """What a file says that it is."""

    application: int
    version: int
    is_empty: bool
    is_whole: bool  # nothing is missing that came to a version later


def _head_of(connection: sqlite3.Connection) -> _Head:
    """Read all of it in one transaction: another process may be making the file just now."""
    connection.execute("BEGIN")
    try:
        return _read_head(connection)
    finally:
        connection.execute("ROLLBACK")


def _read_head(connection: sqlite3.Connection) -> _Head:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_empty = connection.execute(COUNT_TABLES).fetchone()[0] == 0
    is_whole = any(column[1] == "barred" for column in connection.execute("PRAGMA table_info(worker)"))
    return _Head(application, version, is_empty, is_whole)


def _refuse_others(head: _Head, path: str) -> None:
    """Raise for files that are not ours to read."""
    if not head.is_empty and head.application != APPLICATION_ID:
        raise FrontierUnavailableError(f"{path} is a SQLite database, but not of sqspider: name another file")
    if head.version > SCHEMA_VERSION:
        raise FrontierUnavailableError(
            f"{path} was written by a newer sqspider (schema {head.version}, this one knows "
            f"{SCHEMA_VERSION}): use that version, or name another file"
        )


def _refuse_what_cannot_be_looked_at(connection: sqlite3.Connection, path: str) -> None:
    head = _head_of(connection)
    _refuse_others(head, path)
    if head.is_empty:
        raise FrontierUnavailableError(f"{path} is empty: a crawl or an enqueue makes a frontier of it")
    if head.version < SCHEMA_VERSION:
        raise FrontierUnavailableError(
            f"{path} was written by an older sqspider (schema {head.version}, this one knows {SCHEMA_VERSION}), "
            "and looking changes nothing: `sqspider sweep` brings it up to date, as every command does that works on it"
        )


def _prepare(connection: sqlite3.Connection, path: str, now: float) -> None:
    """See that there are tables as this version knows them. Doing it twice does no harm."""
    head = _head_of(connection)
    _refuse_others(head, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if not head.is_whole or head.version < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        head = _read_head(connection)  # somebody else may just have done it
        if head.is_empty:
            for statement in statements_of(SCHEMA):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        elif head.version < SCHEMA_VERSION:
            from sqspider.frontier.sqlite.upgrade import upgrade  # here, and below: few files are old

            upgrade(connection, path, head.version, now)
        if not _read_head(connection).is_whole:
            from sqspider.frontier.sqlite.upgrade import complete

            complete(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
        if 0 < head.version < SCHEMA_VERSION:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds the whole file now


def _patiently(connection: sqlite3.Connection, work: Callable[[], None]) -> None:
    """Do something again while others are in the way.

    SQLite waits by itself for a transaction, but not to switch a new file to WAL, nor in every
    moment of a recovery: https://sqlite.org/wal.html, "Sometimes queries return SQLITE_BUSY".
    """
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            work()
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not is_busy(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(BUSY_PAUSE_SECONDS)
        else:
            return


def _refuse_read_only(connection: sqlite3.Connection) -> None:
    """Find out now, not in the middle of a crawl, that a file cannot be written; wait for nobody."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")  # which a file that cannot be written takes for BEGIN alone
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        # Whoever holds the lock is writing: so it can be written.
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")


def _check_quickly(connection: sqlite3.Connection, path: str) -> None:
    """Look for damage in a file that was not closed, as far as that takes no time worth mentioning.

    A process that dies damages nothing; a machine that loses power may, if its disk lies. A large
    file is not checked here: nobody shall wait minutes for a crawl to go on. `status --check` does it.
    """
    if os.path.getsize(path) > CHECKED_BYTES:
        return
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != SOUND:
        raise damaged(path, " ".join(found.split()))
