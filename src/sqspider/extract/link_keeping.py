"""Keeps the link table up: reads what was captured since, and adds it. Whatever dies here, the next one goes on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import Files
from sqspider.extract.cursor import Cursor, Step
from sqspider.extract.document import Document
from sqspider.extract.link_table import VERSION, LinkWriter, index, prepare
from sqspider.extract.linked_page import LinkedPage, linked_page
from sqspider.extract.walking import walk

BATCH_PAGES: Final = 2000  # that are committed together, at most
BATCH_LINKS: Final = 50_000
_BUSY_SECONDS: Final = 60.0
_CACHE_KIB: Final = 64 * 1024


class LinkFileError(Exception):
    """The file of a link table cannot be used: which, why, and what to do."""


@contextmanager
def open_links(path: Path) -> Iterator[sqlite3.Connection]:
    """The link table in a file, which is made if it is not there: for its owner alone, as the archive's are.

    Raises :class:`LinkFileError`.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise LinkFileError(f"{path} cannot be opened: {error.strerror}: say --links FILE for another place") from error
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            _prepare(connection, path)
            # A power cut may take the last transactions, whole: captures and the step that they were read by.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection
    except sqlite3.Error as error:
        raise LinkFileError(f"{path}: {error}{_advice(error)}") from error


def _advice(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")  # none: it is not SQLite that says it
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
        return ": remove it, and it is made anew from the archive"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return ": somebody else writes it: try it again once he has ended"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return ": say --links FILE for another place"
    return ""


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    if version or connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        raise LinkFileError(f"{path} is no link table of this version: remove it, and it is made anew, or say --links")
    connection.execute("BEGIN IMMEDIATE")
    prepare(connection)
    Cursor(connection)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def read_new(
    files: Files,
    connection: sqlite3.Connection,
    on_damage: Callable[[DamagedError], None],
    on_read: Callable[[int], None] = lambda _: None,
) -> int:
    """Add to the table what is in the archive and was not read yet; how many captures.

    Captures and the step that they were read by are one transaction. ``on_read`` gets the number so far. Raises
    :class:`sqspider.ArchiveError` where there is no archive.
    """
    batch = _Batch(connection)
    damaged: set[str] = set()

    def tell(error: DamagedError) -> None:
        if str(error) not in damaged:
            damaged.add(str(error))
            on_damage(error)

    total = 0
    while number := _read_once(files, batch, tell, on_read, total):
        total += number
    index(connection)
    return total


def keep_up(files: Files, connection: sqlite3.Connection, is_over: Callable[[], bool]) -> None:
    """Add to the table what is written to the archive, as it is written, until that is over.

    ``is_over`` waits a while, and tells. Links are not found by their targets yet, and what is damaged is not told:
    :func:`read_new` does both. Raises as that does, but waits for an archive that is not there yet.
    """
    batch = _Batch(connection)
    while not is_over():
        with suppress(NoArchiveError):
            _read_once(files, batch, lambda _: None, lambda _: None, 0)


def _read_once(
    files: Files,
    batch: _Batch,
    on_damage: Callable[[DamagedError], None],
    on_read: Callable[[int], None],
    before: int,
) -> int:
    """Go through the archive as it is now; how many captures were new. ``before``: how many there were already."""
    number = 0
    for captured, step in walk(files, batch.cursor, on_damage):
        page = None if captured is None else linked_page(Document(captured))
        batch.take(page, step)
        number += captured is not None
        on_read(before + number)
    batch.commit()
    return number


class _Batch:
    """What is committed together."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.cursor = Cursor(connection)
        self._connection = connection
        self._writer = LinkWriter(connection)
        self._pages: list[LinkedPage] = []
        self._steps: list[Step] = []
        self._links = 0

    def take(self, page: LinkedPage | None, step: Step) -> None:
        self._steps.append(step)
        if page is not None:
            self._pages.append(page)
            self._links += len(page.links or ())
        if len(self._steps) >= BATCH_PAGES or self._links >= BATCH_LINKS:
            self.commit()

    def commit(self) -> None:
        if not self._steps:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._writer.add(self._pages)
            self.cursor.take(self._steps)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._writer.forget()
            raise
        self._pages, self._steps, self._links = [], [], 0
