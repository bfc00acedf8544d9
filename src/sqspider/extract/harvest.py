"""From an archive to a table: what was not read yet is handed to processes, and their rows are written with the cursor,
both or neither."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Final

import msgspec

from sqspider.archive.addresses import is_bucket
from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import FileInfo, Files
from sqspider.archive.originals import originals_of
from sqspider.archive.reading import files_to_read
from sqspider.extract.alone import alone
from sqspider.extract.cursor import Step
from sqspider.extract.extractor import Extractor
from sqspider.extract.ledger import Ledger
from sqspider.extract.picking import Picking, places_of
from sqspider.extract.pool import Pool
from sqspider.extract.rules import Rules
from sqspider.extract.selection import Selection
from sqspider.extract.tally import Tally
from sqspider.extract.tasks import Piece, ranges, waiting
from sqspider.extract.walking import look
from sqspider.extract.working import Result, Task, Work
from sqspider.tables.columns import chosen
from sqspider.tables.opening import PARQUET, format_of, is_folder, open_table
from sqspider.tables.target import How

LOOKED_AT_ONCE: Final = 100  # records, between two times that it is told


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be harvested, and where to. It can be sent to another process."""

    archive: str  # a folder, a WARC file, s3://BUCKET/PREFIX
    to: str
    rules: Rules
    selection: Selection = Selection()
    frontier: str | None = None  # whose records say what counts; none: all that is selected does
    format: str | None = None  # another one than the name says
    columns: tuple[str, ...] = ()  # these alone, in this order; none: all
    parts: bool = False  # a folder of them, whatever its name
    processes: int = 0  # none: as many as there are cores

    @property
    def goes_on(self) -> bool:
        """Whether it can be gone on with: a Parquet file is written from its end. Raises :class:`TableError`."""
        is_file = not self.parts and not is_folder(self.to)
        return not (is_file and format_of(self.to, self.format) == PARQUET)

    def check(self) -> None:
        """Raise ``ValueError`` for rules that cannot be followed here."""
        Extractor(self.rules)

    def made_with(self) -> dict[str, str]:
        """What has to be the same for who goes on."""
        rules = msgspec.json.encode((self.rules, self.selection, self.columns))
        return {
            "rules": hashlib.sha256(rules).hexdigest(),
            "records": "none" if self.frontier is None else "asked",
            "captures": self.archive if is_bucket(self.archive) else os.path.realpath(self.archive),
        }


class Came(msgspec.Struct):
    """What came of it. ``tally`` has what became of pages."""

    captures: int = 0  # that were read
    looked: int = 0  # records that were looked at for the originals of revisits
    tally: Tally = msgspec.field(default_factory=Tally)
    pending: int = 0  # whose records are open yet
    damage: dict[str, str] = msgspec.field(default_factory=dict)  # by file: why not all of it could be read
    rows_there: int = 0  # rows of the table, with those that it had before
    was_stopped: bool = False
    seconds: float = 0.0


class Harvest:
    """One run: a context manager. Raises :class:`sqspider.ArchiveError`, :class:`sqspider.tables.table.TableError` and
    :class:`sqspider.frontier.FrontierError`; and ``ValueError`` for rules that cannot be followed here."""

    def __init__(
        self,
        order: Order,
        how: How = How.NEW,
        *,
        forks: bool = False,
        on_progress: Callable[[Came], None] = lambda _: None,
    ) -> None:
        """``forks``: nothing here has threads yet, nor connections that processes must not share."""
        self.came = Came()
        self._order = order
        self._how = how
        self._forks = forks
        self._on_progress = on_progress
        self._began = time.monotonic()
        self._numbers = count()
        self._is_whole = self._has_begun = False
        self._held = ExitStack()
        self._files: Files = files_to_read(order.archive)
        self._originals = originals_of(self._files)
        self._originals.on_record = self._looked
        self._columns = Extractor(order.rules).columns
        self._places = places_of(order.columns, self._columns)

    def __enter__(self) -> Harvest:
        return self if self._has_begun else self.begun()

    def begun(self) -> Harvest:
        """Open the table, and start the processes: what entering it does, for who may have to do so again."""
        order = self._order
        with ExitStack() as held:
            columns = chosen(self._columns, self._places)
            if order.goes_on:
                held.enter_context(alone(order.to))  # first: opening it may let go of what is there
            table = open_table(
                order.to, columns, how=self._how, format=order.format, parts=order.parts, in_place=order.goes_on
            )
            held.callback(lambda: table.close(is_whole=self._is_whole))
            self._ledger = held.enter_context(Ledger(order.to, table, self._how, order.made_with()))
            encoder = Picking(table.encoder, self._places) if order.columns else table.encoder
            work = Work(order.archive, order.frontier, order.rules, order.selection, encoder)
            self._pool = held.enter_context(Pool(work, order.processes or cores(), forks=self._forks))
            self._held = held.pop_all()
        self._has_begun = True
        self.came.rows_there = self._ledger.count(0)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._is_whole = kind is None and (self._ledger.table.can_rewind or not self.came.was_stopped)
        self._held.close()

    def stop(self) -> None:
        """End soon, with what is done: a signal's handler may say so."""
        self.came.was_stopped = True

    def run(self) -> Came:
        """Read all that there is, and what is written or moved while that is read."""
        while self.catch_up() and not self.came.was_stopped:
            pass
        return self.came

    def catch_up(self, *, may_be_none: bool = False) -> bool:
        """Read what there is now, and ask for those that wait; whether there was anything, or may be by now.
        ``may_be_none``: there need be no archive yet."""
        before, is_moved = self.came.captures, False
        cursor = self._ledger.cursor
        try:
            # A frontier's records say where originals lie. Else they are looked up here: once, and not in each process.
            spot_of = self._originals.spot if self._order.frontier is None else None
            is_moved = self._work_off(ranges(look(self._files, cursor, self._damaged), self._numbers, spot_of))
        except NoArchiveError:
            if not may_be_none:
                raise
        if self._order.frontier is not None:
            self._work_off(waiting(cursor, self._numbers))
            self.came.pending = cursor.count_pending()
        self.came.seconds = time.monotonic() - self._began
        return is_moved or self.came.captures > before

    def _work_off(self, pieces: Iterator[Piece]) -> bool:
        """Do tasks, and commit now and then, and at the end; whether files were moved before they could be read."""
        steps: dict[int, list[Step]] = {}
        gone = set[str]()

        def tasks() -> Iterator[Task]:
            for piece in pieces:
                if self.came.was_stopped:
                    return
                steps[piece.task.number] = piece.steps
                yield piece.task

        for task, result in self._pool.results(tasks()):
            made = steps.pop(task.number)
            if result.is_gone:
                gone.add(task.file)  # what it held lies in another file by now, and is not taken yet
            else:
                self._take(task, result, [step for step in made if not (step.is_end and step.file in gone)])
        self._ledger.commit()
        return bool(gone)

    def _take(self, task: Task, result: Result, steps: list[Step]) -> None:
        for chunk in result.chunks:
            self._ledger.table.write(chunk)
        still = set(result.pending)
        self._ledger.take(
            steps,
            waiting=[] if task.waiting else result.pending,
            resolved=[wait for wait in task.waiting if wait not in still],
        )
        self.came.captures += task.captures
        self.came.rows_there = self._ledger.count(result.tally.rows)
        self.came.damage.update(result.damage)
        self.came.tally.add(result.tally)
        self._ledger.commit_if_due()
        self._on_progress(self.came)

    def _looked(self, _: FileInfo) -> None:
        self.came.looked += 1
        if self.came.looked % LOOKED_AT_ONCE == 0:
            self._on_progress(self.came)

    def _damaged(self, error: DamagedError) -> None:
        self.came.damage[error.file or ""] = str(error)


def cores() -> int:
    """How many processes can work at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
