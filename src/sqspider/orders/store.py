"""The store that a worker's start names: opened where the worker is made, after any fork, and closed by whoever did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqspider.archive.addresses import is_bucket
from sqspider.archive.errors import ArchiveError
from sqspider.capture import Store, StoreError
from sqspider.frontier import Frontier
from sqspider.log import get_logger
from sqspider.orders.start import ArchivePlace, Start

if TYPE_CHECKING:
    from sqspider.archive.store import ArchiveStore

log = get_logger(__name__)


@asynccontextmanager
async def store_opened(start: Start, frontier: Frontier) -> AsyncIterator[Store | None]:
    """Within it pages are kept where a start says, or nowhere. Each process has files of its own there. What is asked
    of a bucket is on the bill of its frontier.

    Raises :class:`StoreError` where they cannot be. What was only noted, and could not be kept at its end, is told: no
    record waits for it.
    """
    if start.archive is None:
        yield None
        return
    store = _opened(start, start.archive)
    if is_bucket(start.archive.address):
        _put_on_bill(store, frontier)
    try:
        yield store
    finally:
        try:
            await store.close()
        except StoreError as error:
            log.warning("not_stored", during="close", archive=start.archive.address, error=str(error))


def _put_on_bill(store: ArchiveStore, frontier: Frontier) -> None:
    from sqspider.archive.bucket_sink import BucketSink  # here, as below
    from sqspider.frontier.aws import AwsFrontier

    if isinstance(store.sink, BucketSink) and isinstance(frontier, AwsFrontier):
        store.sink.observers.append(frontier.usage.see)


def _opened(start: Start, place: ArchivePlace) -> ArchiveStore:
    from sqspider.archive.store import open_store  # here: who keeps nothing needs none of it

    try:
        return open_store(
            place.address,
            place.coding,
            place.max_bytes,
            operator=start.fetch.contact,
            user_agent=start.fetch.user_agent,
        )
    except ArchiveError as error:
        raise StoreError(str(error)) from None
