"""Figures over time, by CloudWatch: what workers did, what the queue held, how old its oldest message is."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from typing import Final

import structlog

from sqspider.figures import COUNTED, NAMESPACE, Point, Sample, embedded, metric_name
from sqspider.frontier import FrontierError, QueueStats
from sqspider.frontier.aws.batches import together
from sqspider.frontier.aws.part import Part, Shared
from sqspider.frontier.aws.traits import TRAITS
from sqspider.frontier.aws.transport import CLOUDWATCH

OLDEST_AGE_SECONDS: Final = 300  # CloudWatch's figures for a queue come every minute or five
QUEUE_METRICS: Final = {  # field of a point: SQS's own metric, and which statistic of it
    "visible": ("ApproximateNumberOfMessagesVisible", "Average"),
    "in_flight": ("ApproximateNumberOfMessagesNotVisible", "Average"),
    "received": ("NumberOfMessagesReceived", "Sum"),
    "oldest_age_seconds": ("ApproximateAgeOfOldestMessage", "Maximum"),
}

log = structlog.stdlib.get_logger(__name__)


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
        wanted = [
            *(("AWS/SQS", metric, statistic, field) for field, (metric, statistic) in QUEUE_METRICS.items()),
            *((NAMESPACE, metric_name(field), "Sum", field) for field in COUNTED if field != "received"),
            (NAMESPACE, metric_name("fetch_seconds"), "Average", "fetch_seconds"),
        ]
        series = await together(
            self._statistics(namespace, metric, statistic, since, until, period_seconds)
            for namespace, metric, statistic, _ in wanted
        )
        found: defaultdict[float, dict[str, float]] = defaultdict(dict)
        for (_, _, _, field), values in zip(wanted, series, strict=True):
            for at, value in values.items():
                found[at][field] = value
        return [Point(at=at, **fields) for at, fields in sorted(found.items())]

    async def _statistics(
        self, namespace: str, metric: str, statistic: str, since: float, until: float, period_seconds: int
    ) -> dict[float, float]:
        """Values of a metric of the queue by the start of their period."""
        answer = await self.client.call(
            CLOUDWATCH,
            "GetMetricStatistics",
            {
                "Namespace": namespace,
                "MetricName": metric,
                "Dimensions": [{"Name": "QueueName", "Value": self._queue.name}],
                "StartTime": int(since),
                "EndTime": math.ceil(until),
                "Period": period_seconds,
                "Statistics": [statistic],
            },
        )
        points = answer.body.get("Datapoints") or []
        return {_seconds(point["Timestamp"]): float(point[statistic]) for point in points}

    async def queue_stats(self) -> QueueStats:
        live, redrive = await self._queue.live_messages(), self._rules.redrive
        dead = sum(await redrive.dead_letters.live_messages()) if redrive else 0
        age = await self._oldest_age(self._clock()) if any(live) else None
        return QueueStats(**live._asdict(), dead=dead, oldest_age_seconds=age)

    async def _oldest_age(self, now: float) -> float | None:
        """The age in seconds of the oldest message that waits, by CloudWatch; none if it has no figure."""
        metric, statistic = QUEUE_METRICS["oldest_age_seconds"]
        since = now - OLDEST_AGE_SECONDS
        try:
            ages = await self._statistics("AWS/SQS", metric, statistic, since, now, TRAITS.finest_period_seconds)
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
