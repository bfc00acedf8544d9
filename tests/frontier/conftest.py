from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sqspider.frontier import Frontier
from tests.aws.engines import Engines
from tests.aws.store import AwsStore
from tests.simulation.fake_store import FakeAwsStore

from .kit import InMemoryStore, SqliteStore, Store


async def _make(engine: str, folder: Path, engines: Engines) -> Store:
    if engine == "memory":
        return InMemoryStore()
    if engine == "fake-aws":
        return FakeAwsStore()
    if engine == "sqlite":
        return SqliteStore(folder)
    if engine == "ministack":
        return await AwsStore.create(engines.ministack(), engines.clock)
    return await AwsStore.create(engines.dynamodb_local_and_fauxqs())


@pytest.fixture(params=["sqlite", "memory", "fake-aws", "ministack", "dynamodb-local+fauxqs"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, engines: Engines) -> AsyncIterator[Store]:
    """A fresh store of each engine."""
    store = await _make(request.param, tmp_path, engines)
    yield store
    await store.close()


@pytest.fixture
async def frontier(store: Store) -> Frontier:
    return await store.open()


@pytest.fixture
async def other(store: Store) -> Frontier:
    """A second handle on the same store, as another worker has it."""
    return await store.open()


@pytest.fixture(autouse=True)
def nobody_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a removal waits for nobody."""
    monkeypatch.setattr("sqspider.frontier.aws.crawls.SEEN_SECONDS", 0.0)
