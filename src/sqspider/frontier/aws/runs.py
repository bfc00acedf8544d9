"""The rows of runs: what may be taken in all, and how workers share it.

A row is written where nobody else has written it since it was read. Marks tell an own write whose answer was lost: it
is made once, or what was spent would be counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec

from sqspider.frontier.answers import spent_by_run
from sqspider.frontier.aws.attributes import Item, s, text
from sqspider.frontier.aws.items import key_of
from sqspider.frontier.aws.part import Part, Shared
from sqspider.frontier.aws.table import Statement, mark_by
from sqspider.frontier.shares import Ask, Portion, Run, Spent, after, decode_run, encode_run, freed, shared
from sqspider.frontier.values import Finish, FrontierBusyError, FrontierError
from sqspider.log import get_logger

KEPT_MARKS: Final = 16  # of the last who wrote a run's row
CHANGE_RUN: Final = 'UPDATE "{table}" SET "row" = ? SET "marks" = ? WHERE "url" = ? AND "marks" = ?'

T = TypeVar("T")
Change = Callable[[Run | None], tuple[Run | None, T]]
"""Takes a run's row, none if there is none, gives the row that shall be and an answer. None again: no write."""

log = get_logger(__name__)


class Runs(Part):
    """What is shared of runs, and what was spent."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._untold: dict[str, dict[str, Spent]] = {}  # what was spent, by run and worker, and could not be written

    async def share(self, asks: Sequence[Ask]) -> list[Portion]:
        await self._tell()  # or what was spent would be shared out once more
        changes: dict[str, list[Ask]] = {}
        for ask in asks:
            changes.setdefault(ask.run, []).append(ask)
        portions = await self._change_runs({run: partial(self._shared, of_run) for run, of_run in changes.items()})
        in_order = {run: iter(of_run) for run, of_run in portions.items()}
        return [next(in_order[ask.run]) for ask in asks]

    def _shared(self, asks: Sequence[Ask], run: Run | None) -> tuple[Run | None, list[Portion]]:
        portions, now = [], self._clock()
        for ask in asks:
            run, portion = shared(run, ask, now)
            portions.append(portion)
        return run, portions

    async def free(self, run: str, spent: Spent) -> None:
        await self._change_runs({run: lambda row: (row and freed(row, spent), None)})

    async def runs(self, names: Sequence[str]) -> dict[str, Run]:
        items = await self._table.read(map(_key, names))
        return {name: _run_in(items[_key(name)]) for name in names if _key(name) in items}

    async def _spend(self, finishes: Iterable[Finish]) -> None:
        """Note what ends have spent that were made; what AWS is too busy for, with the next, or before a share."""
        for run, workers in spent_by_run(finishes).items():
            self._note_untold(run, workers)
        try:
            await self._tell()
        except FrontierBusyError as error:
            log.warning("frontier_busy", during="shares", error=str(error))

    async def _tell(self) -> None:
        """Write what was spent, and is not written yet."""
        if not self._untold:
            return
        told, self._untold = self._untold, {}
        try:
            await self._change_runs({run: partial(_spent, workers) for run, workers in told.items()})
        except FrontierBusyError:  # some may be written: what is told twice is spent sooner, never later
            for run, workers in told.items():
                self._note_untold(run, workers)
            raise

    def _note_untold(self, run: str, workers: Mapping[str, Spent]) -> None:
        known = self._untold.setdefault(run, {})
        for worker_id, spent in workers.items():
            known[worker_id] = known.get(worker_id, Spent()).and_(spent)

    async def _change_runs(self, changes: Mapping[str, Change[T]]) -> dict[str, T]:
        """Change the rows of runs, each atomically; the answers by run."""
        answers: dict[str, T] = {}
        tried: dict[str, dict[str, T]] = {run: {} for run in changes}  # by mark, what would be answered
        backoff = self.client.backoff("BatchExecuteStatement")
        while waiting := [run for run in changes if run not in answers]:
            items = await self._table.read(map(_key, waiting))
            statements: dict[str, Statement] = {}
            for run in waiting:
                item = items.get(_key(run))
                if (mark := next((mark for mark in _marks_in(item) if mark in tried[run]), None)) is not None:
                    answers[run] = tried[run][mark]
                    continue
                row, answer = changes[run](None if item is None else _run_in(item))
                if row is None:
                    answers[run] = answer
                    continue
                mark = mark_by(self._rng)
                tried[run][mark] = answer
                statements[run] = self._statement(run, row, item, mark)
            written = await self._table.write(list(statements.values()))
            for run, w in zip(statements, written, strict=True):
                if w.is_done:
                    answers[run] = next(reversed(tried[run].values()))
            if len(answers) < len(changes):
                await backoff.wait("the shares of runs are changed by others all the time")
        return answers

    def _statement(self, run: str, row: Run, before: Item | None, mark: str) -> Statement:
        """What writes a run's row, if the marks are those that were read."""
        key, marks = _key(run), " ".join([*_marks_in(before), mark][-KEPT_MARKS:])
        if before is None:
            return self._table.insert({"url": s(key), "row": s(encode_run(row)), "marks": s(marks)})
        values = [s(encode_run(row)), s(marks), s(key), s(text(before, "marks") or "")]
        return self._table.statement(CHANGE_RUN, key, values)


def _spent(workers: Mapping[str, Spent], run: Run | None) -> tuple[Run | None, None]:
    """A run that is not there was cleared."""
    return None if run is None else after(run, workers), None


def _key(run: str) -> str:
    return key_of("share", run)


def _run_in(item: Item) -> Run:
    try:
        return decode_run(text(item, "row") or encode_run(Run()))
    except msgspec.MsgspecError as error:
        raise FrontierError(f"the item {text(item, 'url')} is damaged, or a later version's: {error}") from error


def _marks_in(item: Item | None) -> list[str]:
    return [] if item is None else (text(item, "marks") or "").split()
