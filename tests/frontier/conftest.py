from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sqspider.frontier import Frontier

from .kit import SqliteStore, Store

ENGINES: dict[str, Callable[[Path], Store]] = {"sqlite": SqliteStore}


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store of each engine."""
    store = ENGINES[request.param](tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def frontier(store: Store) -> Frontier:
    return await store.open()


@pytest.fixture
async def other(store: Store) -> Frontier:
    """A second handle on the same store, as another worker has it."""
    return await store.open()
