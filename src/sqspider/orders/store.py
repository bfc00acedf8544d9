"""The store that a worker's start names: opened where the worker is made, after any fork, and closed by whoever did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqspider.archive.errors import ArchiveError
from sqspider.capture import Store, StoreError
from sqspider.log import get_logger
from sqspider.orders.start import ArchivePlace

log = get_logger(__name__)


@asynccontextmanager
async def store_opened(place: ArchivePlace | None) -> AsyncIterator[Store | None]:
    """Within it pages are kept in a place; nowhere without one. Each process has files of its own there.

    Raises :class:`StoreError` where they cannot be. What was only noted, and could not be kept at its end, is told: no
    record waits for it.
    """
    if place is None:
        yield None
        return
    store = _opened(place)
    try:
        yield store
    finally:
        try:
            await store.close()
        except StoreError as error:
            log.warning("not_stored", during="close", archive=place.address, error=str(error))


def _opened(place: ArchivePlace) -> Store:
    from sqspider.archive.store import open_store  # here: who keeps nothing needs none of it

    try:
        return open_store(place.address, place.coding, place.max_bytes)
    except ArchiveError as error:
        raise StoreError(str(error)) from None
