"""A queue and a table of the fake AWS, made for one test."""

from __future__ import annotations

import asyncio
import random

from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from tests.frontier.kit import SETTINGS, FakeClock, Store

from .fake_aws import ENVIRONMENT, FAIR, FakeAws, FakeTransport, Weather


async def _let_others() -> None:
    """Calls that are made at the same time arrive in turn, not one after the other has been answered and gone on from."""
    await asyncio.sleep(0)


class FakeAwsStore(Store):
    """Under a clock that the test moves. ``page_bytes``: of a table's answers, so small that there are several."""

    def __init__(self, *, weather: Weather = FAIR, seed: int = 0, page_bytes: int = 20_000) -> None:
        self._fake_clock = FakeClock()
        self.clock = self._fake_clock
        self.environment = ENVIRONMENT
        self.aws = FakeAws(
            clock=self.clock,
            rng=random.Random(f"aws {seed}"),
            weather=weather,
            visibility_seconds=SETTINGS.visibility_seconds,
            max_receives=SETTINGS.max_receives,
            page_bytes=page_bytes,
        )
        self._seed = seed
        self._handles: list[AwsFrontier] = []

    async def open(self, settings: FrontierSettings = SETTINGS) -> AwsFrontier:
        handle = await AwsFrontier.open(
            settings,
            clock=self.clock,
            rng=random.Random(f"handle {self._seed} {len(self._handles)}"),
            environment=self.environment,
            transport=FakeTransport(self.aws, before=_let_others),
        )
        self._handles.append(handle)
        return handle

    async def elapse(self, seconds: float) -> None:
        self._fake_clock.now += seconds
        for queue in (self.aws.queue, self.aws.dead_letters):
            queue.tell()

    async def close(self) -> None:
        for handle in self._handles:
            await handle.close()
