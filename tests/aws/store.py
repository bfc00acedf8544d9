"""A queue, its dead-letter queue and a table on an engine that stands in for AWS, made for one test."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import time
from collections.abc import Mapping
from typing import Any, Final

import pytest

from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.client import AwsClient
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.credentials import KeySource, find_keys
from sqspider.frontier.aws.place import endpoints_for
from sqspider.frontier.aws.table import INDEX
from sqspider.frontier.aws.transport import DYNAMODB, SQS, HttpTransport
from tests.aws.engines import EngineClock
from tests.frontier.kit import SETTINGS, Store

RETENTION_SECONDS: Final = 14 * 86_400
LONGEST_WAIT_SECONDS: Final = 10.0
TABLE: Final[dict[str, Any]] = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": "url", "AttributeType": "S"},
        {"AttributeName": "due_shard", "AttributeType": "S"},
        {"AttributeName": "due_at", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "url", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": INDEX,
            "KeySchema": [
                {"AttributeName": "due_shard", "KeyType": "HASH"},
                {"AttributeName": "due_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
    ],
}

_numbers = itertools.count(1)


def client_for(environment: Mapping[str, str], keys: KeySource | None = None) -> AwsClient:
    """A client of its own, for what tests do past the frontier."""
    endpoints = endpoints_for(environment["AWS_REGION"], environment)
    return AwsClient(
        keys or find_keys(environment),
        region=environment["AWS_REGION"],
        endpoints=endpoints,
        transport=HttpTransport(endpoints, clock=time.time),
        rng=random.Random(0),
        clock=AwsClock(time.time),
    )


async def create(environment: Mapping[str, str], settings: FrontierSettings) -> dict[str, str]:
    """Make a queue, its dead-letter queue and a table; the environment that names them."""
    name = f"crawl-{os.getpid()}-{next(_numbers)}"
    client = client_for(environment)
    try:
        attributes = {"MessageRetentionPeriod": str(RETENTION_SECONDS)}
        request: dict[str, Any] = {"QueueName": f"{name}-dead", "Attributes": attributes}
        dead_url = (await client.call(SQS, "CreateQueue", request)).body["QueueUrl"]
        request = {"QueueUrl": dead_url, "AttributeNames": ["QueueArn"]}
        dead_arn = (await client.call(SQS, "GetQueueAttributes", request)).body["Attributes"]["QueueArn"]
        attributes = {
            **attributes,
            "VisibilityTimeout": str(round(settings.visibility_seconds)),
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": settings.max_receives}),
        }
        answer = await client.call(SQS, "CreateQueue", {"QueueName": name, "Attributes": attributes})
        await client.call(DYNAMODB, "CreateTable", {"TableName": name, **TABLE})
        return {**environment, "QUEUE_URL": answer.body["QueueUrl"], "TABLE_NAME": name}
    finally:
        await client.close()


async def drop(environment: Mapping[str, str]) -> None:
    """Delete what :func:`create` made."""
    client = client_for(environment)
    try:
        for queue_url in (environment["QUEUE_URL"], environment["QUEUE_URL"] + "-dead"):
            await client.call(SQS, "DeleteQueue", {"QueueUrl": queue_url})
        await client.call(DYNAMODB, "DeleteTable", {"TableName": environment["TABLE_NAME"]})
    finally:
        await client.close()


class AwsStore(Store):
    """Made by :meth:`create`. ``clock``: the engine's, if it can be moved; else time is real."""

    def __init__(self, environment: Mapping[str, str], clock: EngineClock | None) -> None:
        self.environment = {**os.environ, **environment}
        self.clock = clock or time.time
        self.address = "aws:"
        self._engine_clock = clock
        self._handles: list[AwsFrontier] = []

    @classmethod
    async def create(
        cls, environment: Mapping[str, str], clock: EngineClock | None = None, settings: FrontierSettings = SETTINGS
    ) -> AwsStore:
        return cls(await create(environment, settings), clock)

    async def open(self, settings: FrontierSettings = SETTINGS) -> AwsFrontier:
        return await self.open_in(self.environment, settings)

    async def open_in(self, environment: Mapping[str, str], settings: FrontierSettings = SETTINGS) -> AwsFrontier:
        """A handle by another environment, as one behind a proxy."""
        self._handles.append(await AwsFrontier.open(settings, clock=self.clock, environment=environment))
        return self._handles[-1]

    async def elapse(self, seconds: float) -> None:
        if self._engine_clock is not None:
            self._engine_clock.advance(seconds)
        elif seconds > LONGEST_WAIT_SECONDS:
            pytest.skip(f"this engine's clock cannot be moved: {seconds:g} s would be too long to wait")
        else:
            await asyncio.sleep(seconds)

    async def close_handles(self) -> None:
        for handle in self._handles:
            await handle.close()
        self._handles.clear()

    async def close(self) -> None:
        await self.close_handles()
        await drop(self.environment)
