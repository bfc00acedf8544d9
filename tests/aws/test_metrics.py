"""What happened over time on AWS: published by the log, read from CloudWatch."""

from __future__ import annotations

import json
import time

import pytest
import structlog

from sqspider.figures import Point, Sample
from sqspider.frontier.aws.transport import CLOUDWATCH
from sqspider.log import start_logging

from .store import AwsStore, client_for

SAMPLE = Sample(at=1_700_000_000.0, seconds=10.0, received=9, done=5, failed=1, lost=2, bytes=777, fetches=6, fetch_seconds=3.0)  # fmt: skip


async def test_a_sample_is_an_embedded_metric_of_the_queue(store: AwsStore, capsys: pytest.CaptureFixture[str]) -> None:
    frontier = await store.open()
    try:
        start_logging("info", "json")
        await frontier.save_sample(SAMPLE)
    finally:
        structlog.reset_defaults()
    [line] = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["Received"], event["Done"], event["Lost"], event["Bytes"], event["FetchSeconds"]) == (
        9,
        5,
        2,
        777,
        0.5,
    )
    # As the specification of the format has it.
    [directive] = event["_aws"]["CloudWatchMetrics"]
    assert event["_aws"]["Timestamp"] == 1_700_000_000_000
    assert directive["Namespace"] == "sqspider"
    assert directive["Dimensions"] == [["QueueName"]]
    assert event["QueueName"] == frontier.queue_name
    assert all(isinstance(event[metric["Name"]], int | float) for metric in directive["Metrics"])


async def test_points_come_from_cloudwatch(store: AwsStore) -> None:
    frontier = await store.open()
    client = client_for(store.environment)
    minute = int(time.time()) // 60 * 60 - 600
    dimensions = [{"Name": "QueueName", "Value": frontier.queue_name}]
    other = [{"Name": "QueueName", "Value": "another"}]
    data = [
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", minute, 40.0, dimensions),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", minute, 999.0, other),
        ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", minute, 7.0, dimensions),
        ("AWS/SQS", "NumberOfMessagesReceived", minute, 30.0, dimensions),
        ("AWS/SQS", "NumberOfMessagesReceived", minute + 20, 12.0, dimensions),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", minute + 120, 33.0, dimensions),
        ("sqspider", "Done", minute, 5.0, dimensions),
        ("sqspider", "Done", minute + 30, 6.0, dimensions),
        ("sqspider", "FetchSeconds", minute, 0.5, dimensions),
    ]
    for namespace, name, at, value, dimension in data:
        datum = {"MetricName": name, "Timestamp": at, "Value": value, "Dimensions": dimension}
        await client.call(CLOUDWATCH, "PutMetricData", {"Namespace": namespace, "MetricData": [datum]})
    await client.close()

    assert await frontier.points(since=minute, until=minute + 300, period_seconds=60) == [
        Point(at=minute, visible=40.0, in_flight=7.0, received=42.0, done=11.0, fetch_seconds=0.5),
        Point(at=minute + 120, oldest_age_seconds=33.0),
    ]
    assert await frontier.points(since=minute - 600, until=minute, period_seconds=60) == []
