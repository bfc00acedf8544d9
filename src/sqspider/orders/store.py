"""The store that a worker's start names: opened where the worker is made, after any fork, and closed by whoever did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqspider.archive.errors import ArchiveError
from sqspider.capture import Store, StoreError
from sqspider.log import get_logger
from sqspider.orders.start import ArchivePlace, Start

log = get_logger(__name__)


@asynccontextmanager
async def store_opened(start: Start) -> AsyncIterator[Store | None]:
    """Within it pages are kept where a start says, or nowhere. Each process has files of its own there.

    Raises :class:`StoreError` where they cannot be. What was only noted, and could not be kept at its end, is told: no
    record waits for it.
    """
    if start.archive is None:
        yield None
        return
    store = _opened(start, start.archive)
    try:
        yield store
    finally:
        try:
            await store.close()
        except StoreError as error:
            log.warning("not_stored", during="close", archive=start.archive.address, error=str(error))


def _opened(start: Start, place: ArchivePlace) -> Store:
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
