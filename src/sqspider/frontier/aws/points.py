"""Figures over time, by CloudWatch: what workers did, what the queue held, how old its oldest message is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqspider.figures import FIGURES, NAMESPACE, OF_CRAWLS, Figure, Joined, Point, Sample, embedded
from sqspider.frontier.aws.batches import together
from sqspider.frontier.aws.crawl_rows import CrawlRows
from sqspider.frontier.aws.part import Shared
from sqspider.frontier.aws.traits import TRAITS
from sqspider.frontier.aws.transport import CLOUDWATCH
from sqspider.frontier.values import FrontierError, QueueStats
from sqspider.log import get_logger
from sqspider.record import DEFAULT_CRAWL

OLDEST_AGE_SECONDS: Final = 300  # CloudWatch's figures for a queue come every minute or five
OLDEST_AGE: Final = next(figure for figure in FIGURES if figure.name == "oldest_age_seconds")

OF_WORKERS: Final = tuple(figure._replace(sqs=None) for figure in OF_CRAWLS)  # as they count it, not SQS

log = get_logger(__name__)


_Asked = tuple[float, float, int]  # since when, until when, of which period
_Series = tuple[Figure, dict[float, float]]  # its values by the start of their period


class Points(CrawlRows):
    """The figures of the queue and of the workers."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._is_without_age = False  # CloudWatch did not tell a message's age the last time

    async def save_sample(self, sample: Sample) -> None:
        """Published as CloudWatch's embedded metrics, by the log: no call is made.

        Whatever brings the log (in JSON) to CloudWatch Logs, makes them metrics there. Those of a crawl with a name of
        its own are metrics beside these: each costs something in every month in which it is published.
        """
        log.info("sample", **embedded(sample.named(), at=sample.at, QueueName=self._queue.name))
        for crawl, part in sample.crawls.items():
            if crawl != DEFAULT_CRAWL:
                log.info("sample", **embedded(part.named(), at=sample.at, QueueName=self._queue.name, Crawl=crawl))

    async def points(self, *, since: float, until: float, period_seconds: int, crawl: str | None = None) -> list[Point]:
        asked: _Asked = (since, until, period_seconds)
        if crawl is None:
            return _points(await self._series(FIGURES, asked))
        if crawl != DEFAULT_CRAWL:
            return _points(await self._series(OF_WORKERS, asked, crawl))
        names = [row.name for row in await self.crawls() if row.name != DEFAULT_CRAWL]
        figures = tuple(figure for figure in OF_WORKERS if figure.joined is Joined.SUM or not names)
        whole = await self._series(figures, asked)
        for name in names:  # what they did is published by crawl: the rest is the default one's
            for (_, of_all), (_, part) in zip(whole, await self._series(figures, asked, name), strict=True):
                of_all.update({at: of_all.get(at, 0.0) - value for at, value in part.items()})
        return _points(whole)

    async def _series(self, figures: Sequence[Figure], asked: _Asked, crawl: str | None = None) -> list[_Series]:
        found = await together(self._statistics(figure, *asked, crawl) for figure in figures)
        return list(zip(figures, found, strict=True))

    async def _statistics(
        self, figure: Figure, since: float, until: float, period_seconds: int, crawl: str | None = None
    ) -> dict[float, float]:
        """Values of a figure by the start of their period: SQS's own if it has it, else what workers publish."""
        dimensions = {"QueueName": self._queue.name} | ({} if crawl is None else {"Crawl": crawl})
        answer = await self.client.call(
            CLOUDWATCH,
            "GetMetricStatistics",
            {
                "Namespace": "AWS/SQS" if figure.sqs else NAMESPACE,
                "MetricName": figure.sqs or figure.metric,
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                "StartTime": int(since),
                "EndTime": math.ceil(until),
                "Period": period_seconds,
                "Statistics": [figure.joined],
            },
        )
        points = answer.body.get("Datapoints") or []
        return {_seconds(point["Timestamp"]): float(point[figure.joined]) for point in points}

    async def queue_stats(self) -> QueueStats:
        live, redrive = await self._queue.live_messages(), self._rules.redrive
        dead = sum(await redrive.dead_letters.live_messages()) if redrive else 0
        age = await self._oldest_age(self._clock()) if any(live) else None
        return QueueStats(**live._asdict(), dead=dead, oldest_age_seconds=age)

    async def _oldest_age(self, now: float) -> float | None:
        """The age in seconds of the oldest message that waits, by CloudWatch; none if it has no figure."""
        since = now - OLDEST_AGE_SECONDS
        try:
            ages = await self._statistics(OLDEST_AGE, since, now, TRAITS.finest_period_seconds)
        except FrontierError as error:  # it is one figure: all the rest is done without it
            if not self._is_without_age:
                log.warning("no_figure", figure="oldest_age_seconds", why=str(error))
            self._is_without_age = True
            return None
        self._is_without_age = False
        return max(ages.values(), default=None)


def _points(series: Sequence[_Series]) -> list[Point]:
    found: defaultdict[float, dict[str, float]] = defaultdict(dict)
    for figure, values in series:
        for at, value in values.items():
            found[at][figure.name] = value
    return [Point(at=at, **fields) for at, fields in sorted(found.items())]


def _seconds(timestamp: float | str) -> float:
    """A time in CloudWatch's answer, which is a number in JSON 1.0, as seconds since the epoch."""
    return timestamp if isinstance(timestamp, float | int) else datetime.fromisoformat(timestamp).timestamp()
