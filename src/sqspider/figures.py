"""What workers did over time: samples, the points they add up to, and CloudWatch's embedded metrics.

Samples are kept by the frontier; nothing here does I/O.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

NAMESPACE: Final = "sqspider"  # of our metrics in CloudWatch
KEPT_SECONDS: Final = 15 * 86_400.0  # as long as CloudWatch keeps points of a minute


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker did in a while."""

    at: float  # when the while ended, seconds since the epoch
    seconds: float  # its length
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


COUNTED: Final = ("received", "done", "failed", "blocked", "retried", "deferred", "lost", "bytes")
"""The fields of a sample that are summed up over time."""


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


def metric_name(name: str) -> str:
    """A field's name as CloudWatch's names are written: ``FetchSeconds``."""
    return name.title().replace("_", "")


def embedded(numbers: dict[str, float], *, at: float, **dimensions: str) -> dict[str, Any]:
    """The fields of a log line from which CloudWatch makes metrics, each under each dimension.

    No dimension is a host: every host would be billed as metrics of its own.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [[name] for name in dimensions],
        "Metrics": [{"Name": name} for name in numbers],
    }
    return {
        **dimensions,
        **numbers,
        "_aws": {"Timestamp": round(at * 1000), "CloudWatchMetrics": [directive]},
    }
