"""Figures over time, by CloudWatch: what workers did, what the queue held, how old its oldest message is."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from typing import Final

from sqspider.figures import FIGURES, NAMESPACE, Figure, Point, Sample, embedded
from sqspider.frontier.aws.batches import together
from sqspider.frontier.aws.part import Part, Shared
from sqspider.frontier.aws.traits import TRAITS
from sqspider.frontier.aws.transport import CLOUDWATCH
from sqspider.frontier.values import FrontierError, QueueStats
from sqspider.log import get_logger

OLDEST_AGE_SECONDS: Final = 300  # CloudWatch's figures for a queue come every minute or five
OLDEST_AGE: Final = next(figure for figure in FIGURES if figure.name == "oldest_age_seconds")

log = get_logger(__name__)


class Points(Part):
    """The figures of the queue and of the workers."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._is_without_age = False  # CloudWatch did not tell a message's age the last time

    async def save_sample(self, sample: Sample) -> None:
        """Published as CloudWatch's embedded metrics, by the log: no call is made.

        Whatever brings the log (in JSON) to CloudWatch Logs, makes them metrics there.
        """
        log.info("sample", **embedded(sample.named(), at=sample.at, QueueName=self._queue.name))

    async def points(self, *, since: float, until: float, period_seconds: int) -> list[Point]:
        series = await together(self._statistics(figure, since, until, period_seconds) for figure in FIGURES)
        found: defaultdict[float, dict[str, float]] = defaultdict(dict)
        for figure, values in zip(FIGURES, series, strict=True):
            for at, value in values.items():
                found[at][figure.name] = value
        return [Point(at=at, **fields) for at, fields in sorted(found.items())]

    async def _statistics(self, figure: Figure, since: float, until: float, period_seconds: int) -> dict[float, float]:
        """Values of a figure by the start of their period: SQS's own if it has it, else what workers publish."""
        answer = await self.client.call(
            CLOUDWATCH,
            "GetMetricStatistics",
            {
                "Namespace": "AWS/SQS" if figure.sqs else NAMESPACE,
                "MetricName": figure.sqs or figure.metric,
                "Dimensions": [{"Name": "QueueName", "Value": self._queue.name}],
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


def _seconds(timestamp: float | str) -> float:
    """A time in CloudWatch's answer, which is a number in JSON 1.0, as seconds since the epoch."""
    return timestamp if isinstance(timestamp, float | int) else datetime.fromisoformat(timestamp).timestamp()
