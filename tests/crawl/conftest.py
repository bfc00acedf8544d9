"""What tests of several files here share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sqspider.frontier import Frontier, FrontierSettings, open_frontier
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from tests.sites import Site


@pytest.fixture(params=["memory", "sqlite"])
async def frontier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Frontier]:
    opened: Frontier
    if request.param == "memory":
        opened = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=time.time)
    else:
        opened = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=time.time)
    yield opened
    await opened.close()


@pytest.fixture
def host() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()
