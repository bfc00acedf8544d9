"""Keeps the link table up: reads what was captured since, and adds it. Whatever dies here, the next one goes on."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Final

from sqspider.archive.addresses import is_bucket
from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import FileInfo
from sqspider.archive.originals import originals_of
from sqspider.archive.reading import files_to_read
from sqspider.extract.alone import BusyError, alone
from sqspider.extract.cursor import Cursor
from sqspider.extract.link_table import TABLES, VERSION, LinkWriter, index, prepare
from sqspider.extract.link_working import Links, LinkWork
from sqspider.extract.linked_page import LinkedPage
from sqspider.extract.pool import Here, Pool, cores
from sqspider.extract.tasks import Piece, ranges, worked_off
from sqspider.extract.walking import look
from sqspider.tables.table import TableError

BATCH_PAGES: Final = 2000  # that are committed together, at most
BATCH_LINKS: Final = 50_000
_BUSY_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.2  # between two looks whether somebody else has ended
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
    if name == "SQLITE_NOTADB":  # which may be somebody's text: only who named it knows
        return ": say --links FILE for another place; if it was a link table, remove it, and it is made anew"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_ERROR")):
        return ": remove it, and it is made anew from the archive"
    if name == "SQLITE_FULL":
        return ": make room there"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return ": somebody else writes it: try it again once he has ended"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return ": say --links FILE for another place"
    return ""


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if _is_prepared(connection, path):
        return
    connection.execute("BEGIN IMMEDIATE")
    if not _is_prepared(connection, path):  # nor by somebody who came first
        prepare(connection)
        Cursor(connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _is_prepared(connection: sqlite3.Connection, path: Path) -> bool:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if not version and not names:
        return False
    if not names >= TABLES:  # whatever its version: a frontier, say, that nobody is to remove
        raise LinkFileError(f"{path} is no link table: say --links FILE for another place")
    if version != VERSION:
        raise LinkFileError(
            f"{path} is a link table of another version: remove it, and it is made anew from the archive, or say "
            "--links FILE for another place"
        )
    return True


class Filling:
    """Adds to the table of an archive what was not read yet. A context manager: at its end its processes are gone.

    Captures and the steps that they were read by are one transaction. Raises :class:`sqspider.ArchiveError`, also where
    there is no archive, and :class:`LinkFileError`.
    """

    def __init__(
        self,
        archive: str,
        path: Path,
        connection: sqlite3.Connection,
        *,
        processes: int | None = 0,
        forks: bool = False,
        on_damage: Callable[[str], None] = lambda _: None,
        on_read: Callable[[int], None] = lambda _: None,
        on_record: Callable[[FileInfo], None] = lambda _: None,
    ) -> None:
        """``processes``: 0 are as many as there are cores; none: this one does it. ``forks``: nothing here has threads
        yet. ``on_damage`` is told once of each that it could not be read, ``on_read`` the captures so far, and
        ``on_record`` of each record that is looked at for the originals of revisits."""
        self._work = LinkWork(archive)
        self._files = files_to_read(archive)
        self._originals = originals_of(self._files)
        self._originals.on_record = on_record
        self._path = path
        self._batch = _Batch(connection)
        self._connection = connection
        self._processes = processes
        self._forks = forks and not is_bucket(archive)  # which has connections by then
        self._on_damage = on_damage
        self._on_read = on_read
        self._held = ExitStack()
        self._pool: Pool[Links] | Here[Links] | None = None
        self._numbers = count()
        self._told = set[str]()
        self._captures = 0

    def __enter__(self) -> Filling:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def read_new(self, on_wait: Callable[[], None] = lambda: None) -> int:
        """Add all that there is; how many captures. Whoever else adds to it just now is waited for, once ``on_wait``
        was told."""
        with self._waited_for(on_wait):
            while self._read():
                pass
            index(self._connection)
        return self._captures

    def keep_up(self, is_over: Callable[[], bool]) -> None:
        """Add what is written to the archive, as it is written, until that is over.

        ``is_over`` waits a while, and tells. Links are not found by their targets yet: :meth:`read_new` does that. An
        archive that is not there yet is waited for, and whoever else adds to it is let do so.
        """
        while not is_over():
            with suppress(NoArchiveError, BusyError), self._turn():
                self._read()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Within it nobody else adds to the table. Raises :class:`BusyError` where somebody does."""
        with ExitStack() as held:
            try:
                held.enter_context(alone(str(self._path)))
            except BusyError:
                raise
            except TableError as error:
                raise LinkFileError(f"{error}: say --links FILE for another place") from error
            yield

    @contextmanager
    def _waited_for(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """The same, once nobody else does."""
        with ExitStack() as held:
            for looks in count():
                try:
                    held.enter_context(self._turn())
                    break
                except BusyError:
                    if looks == 0:
                        on_wait()
                    time.sleep(_LOOK_SECONDS)
            yield

    def _read(self) -> bool:
        """Go through the archive as it is now; whether any captures were new, or may be by now."""
        before = self._captures
        looked = look(self._files, self._batch.cursor, self._damaged)
        is_moved = self._work_off(ranges(looked, self._numbers, self._originals.spot))
        return is_moved or self._captures > before

    def _work_off(self, pieces: Iterator[Piece]) -> bool:
        """Do tasks, and commit now and then, and at the end; whether files were moved before they could be read."""
        gone = set[str]()
        first = next(pieces, None)
        if first is None:  # no process is started for it
            return False
        for piece, links in worked_off(self._begun(), chain([first], pieces), gone):
            self._batch.take(links, piece)
            self._captures += piece.task.captures
            for why in links.lost:
                self._tell(why)
            self._on_read(self._captures)
        self._batch.commit()
        return bool(gone)

    def _begun(self) -> Pool[Links] | Here[Links]:
        """Who does the tasks."""
        if self._pool is None:
            if self._processes is None:
                self._pool = Here(self._work)
            else:
                self._pool = self._held.enter_context(Pool(self._work, self._processes or cores(), forks=self._forks))
        return self._pool

    def _damaged(self, error: DamagedError) -> None:
        self._tell(str(error))

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._on_damage(text)


class _Batch:
    """What is committed together."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.cursor = Cursor(connection)
        self._connection = connection
        self._writer = LinkWriter(connection)
        self._pages: list[LinkedPage] = []
        self._pieces: list[Piece] = []
        self._size = 0  # links

    def take(self, links: Links, piece: Piece) -> None:
        pages = links.pages()
        self._pages += pages
        self._pieces.append(piece)
        self._size += sum(len(page.links or ()) for page in pages)
        if sum(len(piece.steps) for piece in self._pieces) >= BATCH_PAGES or self._size >= BATCH_LINKS:
            self.commit()

    def commit(self) -> None:
        if not self._pieces:
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._writer.add(self._pages)
            self.cursor.take(step for piece in self._pieces for step in piece.steps)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._writer.forget()
            raise
        self._pages, self._pieces, self._size = [], [], 0
