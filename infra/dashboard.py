"""The dashboard: what waits, what came of it, how the function fares, what it costs."""

from __future__ import annotations

from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from functions import Functions
from queues import Queues
from sqspider.figures import NAMESPACE, OUTCOMES
from sqspider.frontier.aws.bill import (
    DOLLARS_A_GB_SECOND,
    DOLLARS_A_READ_UNIT,
    DOLLARS_A_SQS_REQUEST,
    DOLLARS_A_WRITE_UNIT,
    DOLLARS_AN_INVOCATION,
    DOLLARS_AN_S3_WRITE,
)

PERIOD: Final = Duration.minutes(1)
HOUR: Final = Duration.hours(1)


def dashboard_of(
    scope: Construct, queues: Queues, functions: Functions, memory_mb: int, *, has_archive: bool
) -> cloudwatch.Dashboard:
    """The dashboard of a stack."""
    dashboard = cloudwatch.Dashboard(scope, "Dashboard")
    counted = _Counted(queues.queue.queue_name)
    read = _graph("Read from the web", counted.sum("Bytes"))
    cost = _cost(queues, functions.crawl, memory_mb, counted, has_archive=has_archive)
    kept = _of_archive(counted) if has_archive else []
    dashboard.add_widgets(*_of_queues(queues), *_of_work(functions, counted), cost, read, *kept)
    return dashboard


class _Counted:
    """The figures that workers of a queue write into their logs."""

    def __init__(self, queue_name: str) -> None:
        self._dimensions = {"QueueName": queue_name}

    def sum(self, name: str, period: Duration = PERIOD) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map=self._dimensions,
            statistic="Sum",
            period=period,
            label=name,
        )


def _graph(title: str, *left: cloudwatch.IMetric, right: tuple[cloudwatch.IMetric, ...] = ()) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(left), right=list(right), width=8, height=6)


def _of_queues(queues: Queues) -> list[cloudwatch.IWidget]:
    queue, dead = queues
    return [
        _graph(
            "Messages",
            queue.metric_approximate_number_of_messages_visible(period=PERIOD, label="waiting"),
            queue.metric_approximate_number_of_messages_not_visible(period=PERIOD, label="in flight"),
            queue.metric_approximate_number_of_messages_delayed(period=PERIOD, label="delayed"),
            dead.metric_approximate_number_of_messages_visible(period=PERIOD, label="dead"),
        ),
        _graph(
            "Received, and the age of the oldest",
            queue.metric_number_of_messages_received(period=PERIOD, label="received"),
            right=(queue.metric_approximate_age_of_oldest_message(period=PERIOD, label="oldest (s)"),),
        ),
    ]


def _of_work(functions: Functions, counted: _Counted) -> list[cloudwatch.IWidget]:
    crawl, sweep = functions
    return [
        _graph("Outcomes", *(counted.sum(figure.metric) for figure in OUTCOMES)),
        _graph(
            "Duration",
            crawl.metric_duration(period=PERIOD, statistic="Average", label="average"),
            crawl.metric_duration(period=PERIOD, statistic="Maximum", label="longest"),
        ),
        _graph(
            "Errors",
            crawl.metric_errors(period=PERIOD),
            crawl.metric_throttles(period=PERIOD),
            sweep.metric_errors(period=PERIOD, label="errors of the sweep"),
            counted.sum("Unended"),
        ),
        _graph("Concurrency", crawl.metric("ConcurrentExecutions", period=PERIOD, statistic="Maximum")),
    ]


def _of_archive(counted: _Counted) -> list[cloudwatch.IWidget]:
    return [
        _graph("Kept in the archive: objects", counted.sum("S3Writes"), right=(counted.sum("ArchivedBytes"),)),
        _graph("Refused by the archive, and tried again or given back", counted.sum("S3Refused")),
    ]


def _cost(
    queues: Queues, crawl: lambda_.Function, memory_mb: int, counted: _Counted, *, has_archive: bool
) -> cloudwatch.IWidget:
    """In dollars, by the list prices of ``sqspider.frontier.aws.bill``."""
    gigabytes = memory_mb / 1024
    cost = cloudwatch.MathExpression(
        label="dollars an hour",
        period=HOUR,
        expression=(
            f"duration / 1000 * {gigabytes * DOLLARS_A_GB_SECOND:.12f} + invocations * {DOLLARS_AN_INVOCATION:.10f}"
            f" + writes * {DOLLARS_A_WRITE_UNIT:.10f} + reads * {DOLLARS_A_READ_UNIT:.10f}"
            f" + (requests + received / 5) * {DOLLARS_A_SQS_REQUEST:.10f}"
            f"{f' + FILL(puts, 0) * {DOLLARS_AN_S3_WRITE:.10f}' if has_archive else ''}"
        ),
        using_metrics={
            "duration": crawl.metric_duration(statistic="Sum", period=HOUR),
            "invocations": crawl.metric_invocations(period=HOUR),
            "writes": counted.sum("WriteUnits", HOUR),
            "reads": counted.sum("ReadUnits", HOUR),
            "requests": counted.sum("SqsRequests", HOUR),
            # Lambda takes and deletes ten at a time
            "received": queues.queue.metric_number_of_messages_received(period=HOUR),
            **({"puts": counted.sum("S3Writes", HOUR)} if has_archive else {}),
        },
    )
    return _graph("Cost (this function, its table, queue and puts; not what is stored, nor the logs)", cost)
