"""A frontier whose records name captures: a real one, in a file, asked from code that blocks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqspider.cli.archive.blocking import BlockingFrontier
from sqspider.frontier import (
    ClaimRequest,
    Delivery,
    Entry,
    Finish,
    Frontier,
    FrontierSettings,
    Retry,
    Won,
    open_frontier,
)
from sqspider.message import Message, decode_message
from sqspider.record import CapturePlace, Kept, Outcome, Status, UrlRecord

from .small_warcs import NOON

SETTINGS = FrontierSettings(visibility_seconds=60)


class Known(BlockingFrontier):
    """Its records can be made to say what they are to."""

    def finish(self, outcomes: Mapping[str, Outcome], kept: Kept | None = None) -> None:
        """Visit these URLs once, each with this end."""
        self._runner.run(_finish(self._frontier, outcomes, kept))

    def retry(self, url: str, outcome: Outcome) -> None:
        """Visit a URL, and give it back: this is what was met."""
        self._runner.run(_retry(self._frontier, url, outcome))

    def put(self, *urls: str) -> None:
        """Put URLs in, to be visited."""
        self._runner.run(self._frontier.enqueue([Entry(url=url) for url in urls]))

    def reopen(self, *urls: str) -> None:
        assert all(self._runner.run(self._frontier.reopen(urls)))

    def all(self) -> dict[str, UrlRecord]:
        return {record.url: record for records in self.records() for record in records}

    def outcome(self, url: str) -> Outcome:
        outcome = self.all()[url].outcome
        assert outcome is not None
        return outcome

    def capture(self, url: str) -> CapturePlace:
        capture = self.outcome(url).capture
        assert capture is not None
        return capture


def outcome_of(place: CapturePlace | None) -> Outcome:
    return Outcome(status=Status.DONE, http_status=200, elapsed_ms=1, capture=place, unkept=place is None)


async def _finish(frontier: Frontier, outcomes: Mapping[str, Outcome], kept: Kept | None) -> None:
    ends = [
        Finish(claim=claim, outcome=outcomes[claim.url], delivery=delivery, kept=kept)
        for claim, delivery in await _won(frontier, outcomes)
    ]
    assert len(ends) == len(outcomes)
    assert all(await frontier.finish(ends))


async def _retry(frontier: Frontier, url: str, outcome: Outcome) -> None:
    ((claim, delivery),) = await _won(frontier, [url])
    assert await frontier.retry([Retry(claim=claim, delivery=delivery, at=NOON, tried=True, outcome=outcome)]) == [True]


async def _won(frontier: Frontier, urls: Collection[str]) -> list[tuple[Won, Delivery]]:
    """Claims of some URLs, recorded now if they were not yet."""
    await frontier.enqueue([Entry(url=url) for url in urls])
    deliveries = await frontier.receive(len(urls))
    requests = []
    for delivery in deliveries:
        message = decode_message(delivery.body)
        assert isinstance(message, Message)
        requests.append(ClaimRequest(delivery=delivery, message=message))
    claims = await frontier.claim(requests, worker_id="w", claim_id=uuid.uuid4().hex, lease_seconds=60)
    return [(claim, delivery) for claim, delivery in zip(claims, deliveries, strict=True) if isinstance(claim, Won)]


@contextmanager
def known(folder: Path, *, at: float = NOON) -> Iterator[Known]:
    """The frontier of a folder, as of a moment: made, if it is not there."""
    path = folder / "frontier.db"
    with asyncio.Runner() as runner:
        frontier = runner.run(open_frontier(f"sqlite:{path}", SETTINGS, clock=lambda: at))
        try:
            yield Known(runner, frontier)
        finally:
            runner.run(frontier.close())
