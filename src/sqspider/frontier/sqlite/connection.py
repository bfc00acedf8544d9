"""A frontier's file that is open: one connection, and every write a transaction.

The caller's event loop waits for no write to the disk, and for no other process: several may share the file. Each write
is for its whole batch, so there is no half-way; what dies in the middle has not happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import msgspec

from sqspider.frontier.answers import counted_for
from sqspider.frontier.runner import Runner
from sqspider.frontier.sqlite import counters
from sqspider.frontier.sqlite.captures import CaptureFiles
from sqspider.frontier.sqlite.clock import notice_time
from sqspider.frontier.sqlite.errors import BUSY_SECONDS, classify, damaged, is_busy
from sqspider.frontier.sqlite.file import BUSY_PAUSE_SECONDS, leave_no_log, open_to_look, open_to_work
from sqspider.frontier.sqlite.rows import Parameters
from sqspider.frontier.values import Clock, FrontierError, FrontierSettings, FrontierUnavailableError

T = TypeVar("T")


class InPlace:
    """Runs steps on the event loop, and their ends in a thread, where they wait for the disk.

    A statement takes microseconds, and in a thread each waits for the interpreter's lock: that was a fifth of what a
    crawl costs. So a step waits for no other process: it is tried again.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frontier")
        self._one = asyncio.Lock()  # until a step's end is done nothing else is begun; who has come first is next

    async def run(self, work: Callable[[], T], end: Callable[[], None] | None = None) -> T:
        result = await self._begun(work)
        if end is None:
            self._one.release()
            await asyncio.sleep(0)  # who reads on and on lets others have their turn
            return result
        ended = asyncio.get_running_loop().run_in_executor(self._thread, end)
        ended.add_done_callback(lambda _: self._one.release())
        await asyncio.shield(ended)  # goes on to its end even if nobody waits for it any more
        return result

    async def _begun(self, work: Callable[[], T]) -> T:
        """Do a step, with nothing beside it from now on."""
        give_up_at = time.monotonic() + BUSY_SECONDS
        while True:
            await self._one.acquire()
            try:
                return work()
            except BaseException as error:
                self._one.release()
                is_locked = isinstance(error, sqlite3.OperationalError) and is_busy(error)
                if not is_locked or time.monotonic() > give_up_at:
                    raise
            await asyncio.sleep(BUSY_PAUSE_SECONDS)

    def close(self) -> None:
        self._thread.shutdown()


class Identity(NamedTuple):
    """Which file it is that lies at a path."""

    device: int
    inode: int


def identity_of(path: str) -> Identity | None:
    """The file at a path; none if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Identity(found.st_dev, found.st_ino)


class Transaction:
    """A write that is going on: what the steps of it share. All of them happen, or none."""

    def __init__(self, connection: sqlite3.Connection, now: float, file: OpenFile) -> None:
        self.connection = connection
        self.now = now  # when it began: not when it was asked for, for others may have been waited for
        self.settings = file.settings
        self.path = file.path
        self.files = CaptureFiles(connection)
        self._changes: Counter[str] = Counter()

    @functools.cached_property
    def generation(self) -> int:
        return counters.number(self.connection, "generation")

    def count(self, changes: Mapping[str, int]) -> None:
        """Note by how much the sums change."""
        for name, change in changes.items():
            self._changes[name] += change

    def count_records(self, crawl: str, changes: Mapping[str, int]) -> None:
        """Note by how much the sums of a crawl's records change, by the names of
        :func:`sqspider.frontier.answers.counted`.
        """
        self.count({counters.stored_name(name): change for name, change in counted_for(crawl, changes).items()})

    def write_counts(self) -> None:
        """Move the sums by what was noted: once for the whole transaction."""
        counters.add(self.connection, self._changes)
        self._changes.clear()

    def change_each(self, statement: str, parameters: Sequence[Parameters]) -> int:
        """Run a statement that changes rows for each; how many rows it changed."""
        return self.connection.executemany(statement, parameters).rowcount if parameters else 0


class Passed(NamedTuple):
    """Up to where nothing that is visible is a crawl's: see ``of_crawl``."""

    generation: int
    returned: int
    looked_at: float  # when all was
    id: int = 0  # of what is fresh
    moment: float = 0.0  # of what has a time


class OpenFile:
    """A file that is open: what the parts of a frontier share."""

    def __init__(self, path: str, settings: FrontierSettings, *, clock: Clock, runner: Runner | None = None) -> None:
        self.path = path
        self.settings = settings
        self.clock = clock
        self.generation = 0  # as of the last look at it
        self.news = asyncio.Event()  # something was sent from this process
        self.passed: dict[str, Passed] = {}  # by crawl, of those that somebody here works for alone
        self.connection: sqlite3.Connection
        self._runner = runner or InPlace()
        self._place = os.path.abspath(path)  # wherever this process goes
        self._identity: Identity | None = None

    async def open(self, *, looking: bool) -> None:
        """Open it. Raises :class:`FrontierUnavailableError` if that cannot be."""
        try:
            await self._run(_nothing, self._look if looking else self._open)
        except FrontierError as error:
            self._runner.close()
            raise FrontierUnavailableError(str(error)) from error

    def _open(self) -> None:
        self.connection = open_to_work(self.path, self.clock())
        self._identity = identity_of(self.path)
        notice_time(self.connection, self.clock)
        self.connection.execute("PRAGMA busy_timeout = 0")

    def _look(self) -> None:
        self.connection = open_to_look(self.path)
        self.connection.execute("PRAGMA busy_timeout = 0")
        self._identity = identity_of(self.path)

    async def close(self) -> None:
        await self._runner.run(_nothing, self._close)
        self._runner.close()

    def _close(self) -> None:
        if self._is_elsewhere():
            leave_no_log(self.connection)
        self.connection.close()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run something that only reads."""

        def reading() -> T:
            self._see_that_it_is_here()
            return work(self.connection)

        return await self._run(reading)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run one write transaction; whatever goes wrong, it has not happened."""

        connection = self.connection

        def writing() -> T:
            connection.execute("BEGIN IMMEDIATE")
            with self._undone_if_it_fails():
                self._see_that_it_is_here()
                transaction = Transaction(connection, self.clock(), self)
                result = work(transaction)
                transaction.write_counts()
            return result

        def commit() -> None:
            with self._undone_if_it_fails():
                connection.execute("COMMIT")

        return await self._run(writing, commit)

    @contextlib.contextmanager
    def _undone_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):  # whoever could not begin may try again, and nobody else
                raise classify(error, self.path) from error
            raise

    async def rows(self, statement: str, parameters: Parameters = ()) -> list[Any]:
        """What one statement reads."""
        return await self.read(lambda connection: connection.execute(statement, parameters).fetchall())

    async def change(self, statement: str, parameters: Parameters = ()) -> int:
        """Run one statement that changes rows, as a transaction; how many it changed."""
        return await self.write(lambda t: t.connection.execute(statement, parameters).rowcount)

    async def _run(self, work: Callable[[], T], end: Callable[[], None] | None = None) -> T:
        try:
            return await self._runner.run(work, end)
        except sqlite3.Error as error:
            raise classify(error, self.path) from error
        except msgspec.DecodeError as error:  # a number that is none, say, or no JSON
            raise damaged(self.path, str(error)) from error

    def _is_elsewhere(self) -> bool:
        """Whether the file that was opened lies at its path no more. Looking costs microseconds."""
        return self._identity is not None and identity_of(self._place) != self._identity

    def _see_that_it_is_here(self) -> None:
        """Raise if another file, or none, lies where ours was: what goes on there is none of our business."""
        if not self._is_elsewhere():
            return
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        leave_no_log(self.connection)
        raise FrontierUnavailableError(
            f"{self.path} was {'replaced' if os.path.exists(self._place) else 'moved away or deleted'} while it was in "
            "use: this ends here, so that the two are not mixed up. What was done so far is in the file that lay there"
        )


def _nothing() -> None: ...


class Part:
    """A part of the frontier. All of them work on one open file."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
