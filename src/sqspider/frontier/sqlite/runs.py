"""The rows of runs: what may be taken in all, and how workers share it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from sqspider.crawl_row import CrawlRef
from sqspider.frontier.answers import spent_by_run
from sqspider.frontier.shares import Ask, Portion, Run, Spent, after, decode_run, encode_run, freed, shared
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.rows import STEP
from sqspider.frontier.values import Finish

RUNS: Final = "SELECT r.name, r.row FROM json_each(?) AS e CROSS JOIN run AS r ON r.name = e.value"
SAVE_RUN: Final = "INSERT INTO run (name, row) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET row = excluded.row"
# Those of a crawl are named by it, a blank, and more.
SOME_RUNS: Final = "SELECT name FROM run WHERE name >= ? AND name < ? LIMIT ?"
REMOVE_RUN: Final = "DELETE FROM run WHERE name = ?"


class Runs(Part):
    """What is shared of runs, and what was spent."""

    async def share(self, asks: Sequence[Ask]) -> list[Portion]:
        return await self._file.write(partial(_share, asks=asks))

    async def free(self, run: str, spent: Spent) -> None:
        await self._file.write(partial(_free, run=run, spent=spent))

    async def runs(self, names: Sequence[str]) -> dict[str, Run]:
        return await self._file.read(partial(_runs, names=names))


def _runs(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, Run]:
    rows = connection.execute(RUNS, (json.dumps(list(names)),)).fetchall()
    return {name: decode_run(row) for name, row in rows}


def _save(transaction: Transaction, runs: dict[str, Run]) -> None:
    transaction.change_each(SAVE_RUN, [(name, encode_run(run)) for name, run in runs.items()])


def _share(transaction: Transaction, asks: Sequence[Ask]) -> list[Portion]:
    runs, portions = _runs(transaction.connection, {ask.run for ask in asks}), []
    for ask in asks:
        runs[ask.run], portion = shared(runs.get(ask.run), ask, transaction.now)
        portions.append(portion)
    _save(transaction, runs)
    return portions


def _free(transaction: Transaction, run: str, spent: Spent) -> None:
    _save(transaction, {name: freed(row, spent) for name, row in _runs(transaction.connection, [run]).items()})


def spend(transaction: Transaction, finishes: Iterable[Finish]) -> None:
    """Note what ends have spent that were made. A run that is not there was cleared."""
    if spent := spent_by_run(finishes):
        runs = _runs(transaction.connection, spent)
        _save(transaction, {name: after(run, spent[name]) for name, run in runs.items()})


def remove_runs(transaction: Transaction, ref: CrawlRef) -> int:
    """Remove some runs of a crawl; how many."""
    some = transaction.connection.execute(SOME_RUNS, (f"{ref} ", f"{ref}!", STEP)).fetchall()
    return transaction.change_each(REMOVE_RUN, some)
