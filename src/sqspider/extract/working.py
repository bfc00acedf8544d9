"""What a process of its own does for a harvest: captures in, chunks of rows out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from sqspider.archive.dates import microseconds
from sqspider.archive.errors import ArchiveError, DamagedError, NoArchiveError
from sqspider.archive.files import FileInfo, Files
from sqspider.archive.originals import Spot
from sqspider.archive.reading import Captured, capture_at, captures_from, files_to_read
from sqspider.extract.cursor import Pending
from sqspider.extract.document import Document
from sqspider.extract.extractor import Extractor
from sqspider.extract.fetch_columns import fetch_values
from sqspider.extract.rules import Rules
from sqspider.extract.selection import Selection, Selector, visit_of
from sqspider.extract.sources import Asked, Named, Standing, asked, key_of_record
from sqspider.extract.tally import Tally, Trouble
from sqspider.frontier import FrontierError
from sqspider.log import get_logger
from sqspider.tables.columns import Row
from sqspider.tables.table import Encoder

log = get_logger(__name__)


class Work(NamedTuple):
    """What all tasks have in common. It can be sent to another process."""

    archive: str
    frontier: str | None
    rules: Rules
    selection: Selection
    encoder: Encoder | None  # none: no chunks are made, but documents asked for

    def worker(self, note: Callable[[int], None]) -> Worker:
        """Who does it."""
        return Worker(self, note)


class Task(msgspec.Struct):
    """Some captures: of a file, from an offset on; or those that waited, by what is known of them."""

    number: int
    file: str = ""
    start: int = 0  # offset
    captures: int = 0  # so many from there on
    waiting: tuple[Pending, ...] = ()
    originals: dict[int, tuple[Spot, ...]] = msgspec.field(default_factory=dict)  # of revisits, counted, as looked up
    killing: set[int] = msgspec.field(default_factory=set)  # which of its captures, counted, are not to be looked at


class Result(msgspec.Struct):
    """What came of a task."""

    number: int
    captures: int = 0
    is_gone: bool = False  # the file was packed, or erased: nothing came of it


ResultT = TypeVar("ResultT", bound=Result)


class Rows(Result):
    """What came of one that makes rows."""

    chunks: list[bytes] = msgspec.field(default_factory=list)
    tally: Tally = msgspec.field(default_factory=Tally)
    pending: list[Pending] = msgspec.field(default_factory=list)  # whose records are open
    damage: dict[str, str] = msgspec.field(default_factory=dict)  # by file, in words


class Worker:
    """Does tasks. A context manager. ``note`` is told which capture is looked at, before it is."""

    def __init__(self, work: Work, note: Callable[[int], None]) -> None:
        """Raises ``ValueError`` for rules that cannot be followed here."""
        self.extractor = Extractor(work.rules)
        self._files: Files = files_to_read(work.archive)
        self._work = work
        self._selector = Selector(work.selection)
        self._note = note
        self._opened: AbstractContextManager[Asked | None] = asked(work.frontier) if work.frontier else nullcontext()
        self._frontier: Asked | None = None

    def __enter__(self) -> Worker:
        self._frontier = self._opened.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.__exit__(None, None, None)

    def do(self, task: Task) -> Rows:
        """Raises :class:`sqspider.archive.errors.ArchiveError` and :class:`sqspider.frontier.FrontierError`."""
        result = Rows(task.number)
        documents = deque(self.documents(task, result))
        rows: list[Row] = []
        while documents:
            number, document = documents.popleft()  # the tree of one at a time
            self._note(number)
            if number in task.killing:
                why = "the process that read it died, twice: it takes too much memory, perhaps"
                rows.append(self._without(document, result.tally, Trouble.KILLED, why))
                continue
            try:
                rows += self.extractor.rows(document)
            except (ArchiveError, FrontierError):
                raise
            except Exception as error:  # one page is no reason to lose all behind it
                log.exception("extraction_fault", url=document.url)
                why = f"a fault of sqspider: {type(error).__name__}: {error}"
                rows.append(self._without(document, result.tally, Trouble.FAULT, why))
        self._note(-1)
        if rows and self._work.encoder is not None:
            result.chunks.append(self._work.encoder.encode(rows))
        result.tally.add(self.extractor.take_tally())
        return result

    def documents(self, task: Task, result: Rows) -> Iterable[tuple[int, Document]]:
        """The documents of a task that are to have rows, each with the number of its capture. Raises as :meth:`do`."""
        return self._that_waited(task, result) if task.waiting else self._in_range(task, result)

    def _without(self, document: Document, tally: Tally, trouble: Trouble, why: str) -> Row:
        """The row of a document of which nothing was made."""
        tally.documents += 1
        tally.rows += 1
        tally.errors[trouble] += 1
        values = fetch_values(document, None, why)
        return (*values, *(None for _ in self.extractor.columns[len(values) :]))

    def _in_range(self, task: Task, result: Rows) -> Sequence[tuple[int, Document]]:
        """The documents of a range of a file that are to have rows."""
        found = [
            (number, captured)
            for number, captured in captures_in_range(self._files, task, result, self._note)
            if self._selector.may_take(captured)
        ]
        if result.is_gone:
            return ()
        if self._frontier is None:
            return [(number, self._document(each)) for number, each in found if self._takes_answer(each)]
        return list(self._verified(self._frontier, found, result))

    def _verified(
        self, frontier: Asked, found: list[tuple[int, Captured]], result: Rows
    ) -> Iterator[tuple[int, Document]]:
        """Those that the frontier's records name; those whose records are open wait."""
        waits = [Pending(key_of_record(captured), microseconds(captured.at)) for _, captured in found]
        for (number, captured), wait, standing in zip(found, waits, frontier.standings(waits), strict=True):
            if standing is Standing.OPEN:
                result.pending.append(wait)
            elif isinstance(standing, Named):
                captured.original_place = standing.place.payload
                if self._takes_answer(captured):
                    yield number, self._document(captured, standing)

    def _that_waited(self, task: Task, result: Rows) -> Iterator[tuple[int, Document]]:
        """Those that records name by now. What has no answer yet goes on to wait."""
        assert self._frontier is not None
        for number, (wait, standing) in enumerate(
            zip(task.waiting, self._frontier.standings(task.waiting), strict=True)
        ):
            if standing is Standing.OPEN:
                result.pending.append(wait)
            elif isinstance(standing, Named):
                self._note(number)
                try:
                    captured = self._at(standing, wait)
                except DamagedError as error:
                    result.damage[standing.place.file] = str(error)
                    continue
                if captured is None:  # it is being moved just now
                    result.pending.append(wait)
                elif self._takes_answer(captured):
                    yield number, self._document(captured, standing)

    def _at(self, standing: Named, wait: Pending) -> Captured | None:
        """The capture at its place; none: it is being moved just now."""
        try:
            return capture_at(self._files, standing.place)
        except NoArchiveError as error:
            assert self._frontier is not None
            (now,) = self._frontier.standings([wait])
            if isinstance(now, Named) and now.place != standing.place:
                return None
            raise DamagedError(f"{error}, though a record names what lay in it") from error

    def _takes_answer(self, captured: Captured) -> bool:
        return captured.kind != "revisit" or self._selector.takes_answer(captured)

    def _document(self, captured: Captured, named: Named | None = None) -> Document:
        crawl, visit = (named.crawl, named.visit) if named is not None else (None, None)
        if named is not None and visit is None:  # others followed that failed: it is known by what it says itself
            visit = visit_of(captured)
        return Document(captured, crawl=crawl, visit=visit, max_bytes=self._work.rules.max_bytes)


def captures_in_range(
    files: Files, task: Task, result: Result, note: Callable[[int], None]
) -> Iterator[tuple[int, Captured]]:
    """The captures of a range of a file, counted, each once ``note`` was told of it.

    They are whole: whoever made the task has seen what follows on them. What lies behind them is not looked at. Where
    the file has gone, the result says so, and what came before is to be made by others.
    """
    if not task.captures:
        return
    there = (captured for captured, _, _ in captures_from(files, FileInfo(task.file, 0, 0.0), task.start) if captured)
    try:
        for captured in islice(there, task.captures):
            note(result.captures)
            captured.original_spots = task.originals.get(result.captures)
            yield result.captures, captured
            result.captures += 1
    except NoArchiveError:
        if files.info(task.file) is not None:
            raise
        result.is_gone = True
