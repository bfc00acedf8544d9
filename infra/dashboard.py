"""The dashboard: what waits, what came of it, how the function fares, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from settings import StackSettings
from sqspider.figures import NAMESPACE
from sqspider.frontier.aws.bill import (
    DOLLARS_A_GB_SECOND,
    DOLLARS_A_READ_UNIT,
    DOLLARS_A_SQS_REQUEST,
    DOLLARS_A_WRITE_UNIT,
    DOLLARS_AN_INVOCATION,
)

if TYPE_CHECKING:
    from stack import CrawlerStack

PERIOD: Final = Duration.minutes(1)
# Dollars, in us-east-1, on demand, 2026.


def dashboard_of(stack: CrawlerStack, settings: StackSettings) -> cloudwatch.Dashboard:
    """A dashboard for a stack's parts."""
    dashboard = cloudwatch.Dashboard(stack, "Dashboard")
    queue, dead, crawl = stack.queue, stack.dead_letters, stack.crawl

    def counted(name: str, period: Duration = PERIOD) -> cloudwatch.Metric:
        """A figure that workers write into their logs."""
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"QueueName": queue.queue_name},
            statistic="Sum",
            period=period,
            label=name,
        )

    def graph(title: str, *left: cloudwatch.IMetric, right: tuple[cloudwatch.IMetric, ...] = ()) -> None:
        widgets.append(cloudwatch.GraphWidget(title=title, left=list(left), right=list(right), width=8, height=6))

    widgets: list[cloudwatch.IWidget] = []
    graph(
        "Messages",
        queue.metric_approximate_number_of_messages_visible(period=PERIOD, label="waiting"),
        queue.metric_approximate_number_of_messages_not_visible(period=PERIOD, label="in flight"),
        queue.metric_approximate_number_of_messages_delayed(period=PERIOD, label="delayed"),
        dead.metric_approximate_number_of_messages_visible(period=PERIOD, label="dead"),
    )
    graph(
        "Received, and the age of the oldest",
        queue.metric_number_of_messages_received(period=PERIOD, label="received"),
        right=(queue.metric_approximate_age_of_oldest_message(period=PERIOD, label="oldest (s)"),),
    )
    graph("Outcomes", *(counted(name) for name in ("Done", "Failed", "Blocked", "Retried", "Deferred", "Lost")))
    graph(
        "Duration",
        crawl.metric_duration(period=PERIOD, statistic="Average", label="average"),
        crawl.metric_duration(period=PERIOD, statistic="Maximum", label="longest"),
    )
    graph(
        "Errors",
        crawl.metric_errors(period=PERIOD),
        crawl.metric_throttles(period=PERIOD),
        stack.sweep.metric_errors(period=PERIOD, label="errors of the sweep"),
        counted("Unended"),
    )
    graph("Concurrency", crawl.metric("ConcurrentExecutions", period=PERIOD, statistic="Maximum"))
    hour = Duration.hours(1)
    gigabytes = settings.memory_mb / 1024
    cost = cloudwatch.MathExpression(
        label="dollars an hour",
        period=hour,
        expression=(
            f"duration / 1000 * {gigabytes * DOLLARS_A_GB_SECOND:.12f} + invocations * {DOLLARS_AN_INVOCATION:.10f}"
            f" + writes * {DOLLARS_A_WRITE_UNIT:.10f} + reads * {DOLLARS_A_READ_UNIT:.10f}"
            f" + (requests + received / 5) * {DOLLARS_A_SQS_REQUEST:.10f}"
        ),
        using_metrics={
            "duration": crawl.metric_duration(statistic="Sum", period=hour),
            "invocations": crawl.metric_invocations(period=hour),
            "writes": counted("WriteUnits", hour),
            "reads": counted("ReadUnits", hour),
            "requests": counted("SqsRequests", hour),
            "received": queue.metric_number_of_messages_received(period=hour),  # Lambda takes and deletes ten at a time
        },
    )
    graph("Cost (this function, its table and queue; not the logs)", cost)
    graph("Read from the web", counted("Bytes"))
    dashboard.add_widgets(*widgets)
    return dashboard
