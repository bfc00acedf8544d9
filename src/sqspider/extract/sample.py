"""Rows of the first pages alone, to try rules on: made in this process, and nothing is remembered of them."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, redirect_stdout
from itertools import count, islice

from sqspider.archive.files import FileInfo
from sqspider.archive.originals import originals_of
from sqspider.archive.reading import files_to_read
from sqspider.extract.cursor import Cursor
from sqspider.extract.document import Document
from sqspider.extract.harvest import LOOKED_AT_ONCE, Came, Order
from sqspider.extract.tasks import ranges
from sqspider.extract.walking import look
from sqspider.extract.working import Result, Work, Worker
from sqspider.tables.columns import Row


def sample(
    order: Order,
    most: int,
    take: Callable[[Sequence[Row]], None],
    on_progress: Callable[[Came], None] = lambda _: None,
) -> Came:
    """Hand out the rows of so many pages, a page at a time. Raises as :class:`sqspider.extract.harvest.Harvest`."""
    began, came = time.monotonic(), Came()
    work = Work(order.archive, order.frontier, order.rules, order.selection, None)
    with Worker(work, lambda _: None) as worker:
        for document in islice(_documents(order, worker, came, on_progress), most):
            with redirect_stdout(sys.stderr):  # what one's own code prints is no row
                rows = worker.extractor.rows(document)
            take(rows)
        came.tally = worker.extractor.take_tally()
    came.seconds = time.monotonic() - began
    return came


def _documents(order: Order, worker: Worker, came: Came, on_progress: Callable[[Came], None]) -> Iterator[Document]:
    def looked(_: FileInfo) -> None:
        came.looked += 1
        if came.looked % LOOKED_AT_ONCE == 0:
            on_progress(came)

    files = files_to_read(order.archive)
    originals = originals_of(files)
    originals.on_record = looked
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        found = look(
            files,
            Cursor(connection),
            lambda error: came.damage.update({error.file or "": str(error)}),
        )
        for piece in ranges(found, count(), originals.spot if order.frontier is None else None):
            result = Result(piece.task.number)
            for _, document in worker.documents(piece.task, result):
                yield document
            came.captures += result.captures
            came.pending += len(result.pending)
