"""Extraction behind whoever writes an archive: it reads what is written, as it is written, and to the end once that is
over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sqspider.archive.addresses import is_bucket
from sqspider.extract.alone import BusyError
from sqspider.extract.harvest import Came, Harvest, Order
from sqspider.tables.opening import check_target
from sqspider.tables.table import TableError
from sqspider.tables.target import How

PAUSE_SECONDS: Final = 1.0  # between two looks at a folder
S3_PAUSE_SECONDS: Final = 15.0  # a look at a bucket costs money
PATIENCE_SECONDS: Final = 60.0  # with another one that has not ended yet: of a crawl that was killed

Waiting = Callable[[float], bool]
"""Waits so many seconds, or less; whether it is over by then."""


def follow(
    order: Order, is_over: Waiting, *, forks: bool = False, on_progress: Callable[[Came], None] = lambda _: None
) -> Came:
    """Go on with a table as its archive grows, until that is over; then read to its end. Raises as :class:`Harvest`
    does, and :class:`TableError` for a table that cannot be gone on with."""
    check_going_on(order)
    pause = S3_PAUSE_SECONDS if is_bucket(order.archive) else PAUSE_SECONDS
    with _patiently(order, is_over, forks=forks, on_progress=on_progress) as harvest:
        while not harvest.came.was_stopped:
            has_ended = is_over(pause)
            is_new = harvest.catch_up(may_be_none=True)
            if has_ended and not is_new:
                break
        return harvest.came


def check_going_on(order: Order) -> None:
    """Raise :class:`TableError` for a table that cannot be gone on with."""
    if not order.goes_on:
        raise TableError(
            f"{order.to}: a Parquet file cannot be gone on with: name a folder, {order.to}/, for its parts"
        )
    check_target(order.to)


def _patiently(order: Order, is_over: Waiting, *, forks: bool, on_progress: Callable[[Came], None]) -> Harvest:
    """A harvest, begun once nobody else is at it."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return Harvest(order, How.APPEND, forks=forks, on_progress=on_progress).begun()
        except BusyError:
            if time.monotonic() >= until:
                raise
            if is_over(PAUSE_SECONDS):
                time.sleep(PAUSE_SECONDS)
