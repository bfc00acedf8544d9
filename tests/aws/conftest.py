from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sqspider.archive.s3_place import S3Place

from .buckets import bucket
from .engines import Engines
from .faults import FaultProxy
from .s3_faults import S3Proxy
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


@pytest.fixture
async def s3_proxy(engines: Engines) -> AsyncIterator[S3Proxy]:
    """Stands in front of S3; likewise."""
    async with S3Proxy(engines.ministack(), seed=1) as proxy:
        yield proxy


@pytest.fixture
async def place(s3_proxy: S3Proxy) -> AsyncIterator[S3Place]:
    """A place in a bucket of the test's own."""
    async with bucket({**s3_proxy.environment, "AWS_ENDPOINT_URL_S3": s3_proxy.upstream}) as place:
        yield place


@pytest.fixture(autouse=True)
def nobody_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a removal waits for nobody."""
    monkeypatch.setattr("sqspider.frontier.aws.crawls.SEEN_SECONDS", 0.0)
