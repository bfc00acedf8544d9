"""What happened over time on AWS: published by the log, read from CloudWatch."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
import structlog

from sqspider.crawl_row import Crawl
from sqspider.figures import Counted, Point, Sample
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


async def test_a_named_crawls_part_is_a_metric_of_its_own(store: AwsStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside those of the queue, which stay as they are; what is the default one's costs nothing more."""
    frontier = await store.open()
    parts = {"news": Counted(received=4, done=3), "default": Counted(received=5, done=2)}
    try:
        start_logging("info", "json")
        await frontier.save_sample(msgspec.structs.replace(SAMPLE, crawls=parts))
    finally:
        structlog.reset_defaults()
    whole, part = map(json.loads, capsys.readouterr().err.splitlines())
    dimensions = [line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] for line in (whole, part)]
    assert dimensions == [[["QueueName"]], [["QueueName", "Crawl"]]]
    assert (whole["Done"], part["Done"], part["Crawl"], part["QueueName"]) == (5, 3, "news", frontier.queue_name)
    assert "Crawl" not in whole


async def test_points_of_a_crawl_come_from_cloudwatch(store: AwsStore) -> None:
    """Those of the default one are what the others leave."""
    frontier = await store.open()
    client = client_for(store.environment)
    minute = int(time.time()) // 60 * 60 - 600
    queue = {"Name": "QueueName", "Value": frontier.queue_name}
    news = {"Name": "Crawl", "Value": "news"}
    for name, value, dimensions in (
        ("Done", 5.0, [queue]),
        ("FetchSeconds", 0.5, [queue]),
        ("Received", 9.0, [queue]),
        ("Done", 3.0, [queue, news]),
        ("FetchSeconds", 0.25, [queue, news]),
    ):
        datum = {"MetricName": name, "Timestamp": minute, "Value": value, "Dimensions": dimensions}
        await client.call(CLOUDWATCH, "PutMetricData", {"Namespace": "sqspider", "MetricData": [datum]})
    await client.close()

    async def points_of(crawl: str) -> list[Point]:
        return await frontier.points(since=minute, until=minute + 300, period_seconds=60, crawl=crawl)

    assert await points_of("news") == [Point(at=minute, done=3.0, fetch_seconds=0.25)]
    assert await points_of("default") == [Point(at=minute, received=9.0, done=5.0, fetch_seconds=0.5)]
    assert await frontier.save_crawl(Crawl(name="news", id="1"))
    assert await points_of("default") == [Point(at=minute, received=9.0, done=2.0)]


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
