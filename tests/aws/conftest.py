from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .engines import Engines
from .faults import FaultProxy
from .store import AwsStore


@pytest.fixture
async def store(engines: Engines) -> AsyncIterator[AwsStore]:
    """A fresh store on ministack."""
    store = await AwsStore.create(engines.ministack(), engines.clock)
    yield store
    await store.close()


@pytest.fixture
async def proxy(store: AwsStore) -> AsyncIterator[FaultProxy]:
    """Stands in front of the store; it lets everything pass until a fault is set."""
    async with FaultProxy(store.environment, seed=1) as proxy:
        yield proxy
        proxy.fault = None
        await store.close_handles()


@pytest.fixture(autouse=True)
def nobody_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a removal waits for nobody."""
    monkeypatch.setattr("sqspider.frontier.aws.crawls.SEEN_SECONDS", 0.0)
