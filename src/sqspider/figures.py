"""All that is counted over time: one table, from which samples, points and the names in CloudWatch are made.

What workers do is noted in samples, which the frontier keeps; samples, and what the queue held then, come to points.
Nothing here does I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.record import DEFAULT_CRAWL

NAMESPACE: Final = "sqspider"  # of our metrics in CloudWatch
KEPT_SECONDS: Final = 15 * 86_400.0  # as long as CloudWatch keeps points of a minute


class Joined(enum.StrEnum):
    """How several numbers of a figure come to one: by the names of CloudWatch's statistics."""

    SUM = "Sum"
    AVERAGE = "Average"
    MAXIMUM = "Maximum"


class Unit(enum.Enum):
    """What a figure is a number of."""

    ONE = enum.auto()
    BYTES = enum.auto()
    SECONDS = enum.auto()
    FRACTIONS = enum.auto()  # seconds, of which there are few: people read them as milliseconds


class Figure(NamedTuple):
    """One figure."""

    name: str  # of the field of a :class:`Point`; if workers count it, of a :class:`Sample` too
    joined: Joined
    heading: str  # of its column in the command ``metrics``; empty: it has none
    unit: Unit = Unit.ONE
    sqs: str | None = None  # SQS's own metric of it, which is true of all who receive

    @property
    def metric(self) -> str:
        """The name in CloudWatch under which workers publish it."""
        return metric_name(self.name)

    def join(self, numbers: Iterable[float | None]) -> float | None:
        """Several numbers as one; none if nobody noted any."""
        noted = [number for number in numbers if number is not None]
        if not noted:
            return None
        if self.joined is Joined.MAXIMUM:
            return max(noted)
        return sum(noted) / (len(noted) if self.joined is Joined.AVERAGE else 1)


def metric_name(name: str) -> str:
    """A field's name as CloudWatch's names are written: ``FetchSeconds``."""
    return name.title().replace("_", "")


FIGURES: Final = (
    Figure("visible", Joined.AVERAGE, "visible", sqs="ApproximateNumberOfMessagesVisible"),
    Figure("in_flight", Joined.AVERAGE, "hidden", sqs="ApproximateNumberOfMessagesNotVisible"),
    Figure("received", Joined.SUM, "taken", sqs="NumberOfMessagesReceived"),
    Figure("oldest_age_seconds", Joined.MAXIMUM, "oldest", Unit.SECONDS, sqs="ApproximateAgeOfOldestMessage"),
    Figure("done", Joined.SUM, "done"),
    Figure("failed", Joined.SUM, "failed"),
    Figure("blocked", Joined.SUM, "blocked"),
    Figure("retried", Joined.SUM, "again"),
    Figure("deferred", Joined.SUM, ""),
    Figure("lost", Joined.SUM, "lost"),
    Figure("bytes", Joined.SUM, "bytes", Unit.BYTES),
    Figure("fetch_seconds", Joined.AVERAGE, "fetch", Unit.FRACTIONS),
)

COUNTED: Final = tuple(figure.name for figure in FIGURES if figure.joined is Joined.SUM)
"""What workers count and what is summed up over time."""

OUTCOMES: Final = tuple(f for f in FIGURES if f.joined is Joined.SUM and f.unit is Unit.ONE and f.sqs is None)
"""What became of deliveries."""


# What is in a sample and in a point. The fields are written out, for types and for readers;
# ``tests/unit/test_figures.py`` holds them to the table.


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted in a while."""

    received: int = 0  # deliveries
    done: int = 0
    failed: int = 0
    blocked: int = 0
    retried: int = 0  # fetches that met trouble and are tried again
    deferred: int = 0
    lost: int = 0  # claims
    bytes: int = 0  # decoded
    fetches: int = 0
    fetch_seconds: float = 0.0  # of all of them together

    def named(self) -> dict[str, float]:
        """The figures by their names in CloudWatch."""
        numbers = {name: getattr(self, name) for name in COUNTED}
        if self.fetches:
            numbers["fetch_seconds"] = round(self.fetch_seconds / self.fetches, 4)
        return {metric_name(name): number for name, number in numbers.items()}


SAMPLED: Final = Counted.__struct_fields__
"""All that a sample counts."""

OF_CRAWLS: Final = tuple(figure for figure in FIGURES if figure.name in SAMPLED)
"""What is known of each crawl: what workers count. The queue's own figures are of all."""


class Sample(Counted, frozen=True, kw_only=True):
    """What one worker did in a while."""

    at: float  # when the while ended, seconds since the epoch
    seconds: float  # its length
    crawls: dict[str, Counted] = {}  # its parts, by crawl; none where all of it is of the default one's place

    def of(self, crawl: str | None) -> Counted | None:
        """What is of the crawl of a name; none: all of it."""
        if crawl is None or (crawl == DEFAULT_CRAWL and not self.crawls):
            return self
        return self.crawls.get(crawl)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one period. None: nobody noted it."""

    at: float  # when the period began
    visible: float | None = None  # messages, on average
    in_flight: float | None = None  # messages, on average
    received: float | None = None  # messages
    oldest_age_seconds: float | None = None  # of a message that waits, at most
    done: float | None = None
    failed: float | None = None
    blocked: float | None = None
    retried: float | None = None
    deferred: float | None = None
    lost: float | None = None
    bytes: float | None = None
    fetch_seconds: float | None = None  # on average


def embedded(numbers: dict[str, float], *, at: float, **dimensions: str) -> dict[str, Any]:
    """The fields of a log line from which CloudWatch makes metrics, each under all dimensions together.

    No dimension is a host: every host would be billed as metrics of its own.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name} for name in numbers],
    }
    return {
        **dimensions,
        **numbers,
        "_aws": {"Timestamp": round(at * 1000), "CloudWatchMetrics": [directive]},
    }
