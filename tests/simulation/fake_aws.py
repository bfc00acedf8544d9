"""AWS in this process, as far as the crawler asks it: a queue, its dead-letter queue, a table, and one figure.

It stands behind the client's transport, so all that is ours runs as it does before AWS itself. What makes
AWS hard comes by seed, as :class:`Weather`: calls are throttled in part and in whole, answers are lost after
the work was done, messages come twice and in any order, and what need not be consistent is not.
"""

from __future__ import annotations

import asyncio
import calendar
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final

import msgspec

from sqspider.frontier import Clock
from sqspider.frontier.aws.transport import CLOUDWATCH, DYNAMODB, NoAnswerError, Received, Sent

from .fake_dynamodb import FakeTable
from .fake_service import FAIR as FAIR
from .fake_service import Fates, RefusedError
from .fake_service import Weather as Weather
from .fake_sqs import FakeQueue

REGION: Final = "us-east-1"
QUEUE_URL: Final = f"https://sqs.{REGION}.amazonaws.com/000000000000/crawl"
TABLE: Final = "crawl"
ENVIRONMENT: Final = {
    "QUEUE_URL": QUEUE_URL,
    "TABLE_NAME": TABLE,
    "AWS_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "000000000000",
    "AWS_SECRET_ACCESS_KEY": "test",
}
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
SKEW_SECONDS: Final = 300.0  # a signature of another time is not taken
DESCRIPTION: Final[dict[str, Any]] = {
    "AttributeDefinitions": [
        {"AttributeName": "url", "AttributeType": "S"},
        {"AttributeName": "due_shard", "AttributeType": "S"},
        {"AttributeName": "due_at", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "url", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "due",
            "KeySchema": [
                {"AttributeName": "due_shard", "KeyType": "HASH"},
                {"AttributeName": "due_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
    ],
}


Pause = Callable[[], Awaitable[None]]


async def _at_once() -> None:
    await asyncio.sleep(0)


class FakeAws:
    """One account: to be given to each transport that shares it."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: random.Random,
        weather: Weather = FAIR,
        visibility_seconds: float = 60.0,
        max_receives: int = 5,
        page_bytes: int = 1024 * 1024,
    ) -> None:
        self.clock, self.rng, self.weather = clock, rng, weather
        self.table = FakeTable(
            TABLE,
            DESCRIPTION,
            clock=clock,
            rng=rng,
            weather=weather,
            page_bytes=page_bytes,
        )
        self.dead_letters = FakeQueue(QUEUE_URL + "-dead", clock=clock, rng=rng, visibility_seconds=30.0)
        self.queue = FakeQueue(
            QUEUE_URL,
            clock=clock,
            rng=rng,
            visibility_seconds=visibility_seconds,
            dead_letters=self.dead_letters,
            max_receives=max_receives,
            weather=weather,
        )

    async def answer(self, sent: Sent, fates: Fates) -> Received:
        """What AWS says to a request; a long poll takes its time."""
        try:
            self._see(sent)
            request = msgspec.json.decode(sent.document)
            if sent.service is CLOUDWATCH:
                document = self._get_metric_statistics(sent.action, request)
            elif sent.service is DYNAMODB:
                document = self.table.perform(sent.action, request, fates)
            else:
                document = await self._ask_queue(sent.action, request, fates)
        except RefusedError as error:
            return self.refusal(error)
        return Received(200, self._headers(), msgspec.json.encode(document))

    def _headers(self) -> dict[str, str]:
        return {"date": _date_of(int(self.clock())), "content-type": "application/x-amz-json-1.0"}

    def refusal(self, error: RefusedError) -> Received:
        """How AWS writes an error. The codes that SQS had before JSON stand in a header of their own."""
        namespace, _, code = error.code.rpartition("SimpleQueueService.")
        document = {"__type": f"com.amazonaws#{code}", "message": str(error)}
        older = {"x-amzn-query-error": f"{error.code};Sender"} if namespace else {}
        return Received(error.status, self._headers() | older, msgspec.json.encode(document))

    def _see(self, sent: Sent) -> None:
        """Raise unless a request is signed, by now, for what it asks."""
        asked = f"{sent.service.target}.{sent.action}"
        if sent.headers.get("x-amz-target") != asked or "authorization" not in sent.headers:
            raise RefusedError("MissingAuthenticationTokenException", f"{asked} is not signed")
        if abs(_signed_at(sent.headers["x-amz-date"]) - self.clock()) > SKEW_SECONDS:
            raise RefusedError("InvalidSignatureException", "Signature expired, or not yet current")
        if len(sent.document) > MAX_REQUEST_BYTES:
            raise RefusedError("RequestEntityTooLargeException", "the request is too large", status=413)

    async def _ask_queue(self, action: str, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        queue = next((q for q in (self.queue, self.dead_letters) if q.url == request["QueueUrl"]), None)
        if queue is None:
            raise RefusedError("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
        answer = queue.perform(action, request, fates)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + request.get("WaitTimeSeconds", 0)
        while action == "ReceiveMessage" and not answer and (left := give_up_at - loop.time()) > 0:
            news = queue.news
            try:
                async with asyncio.timeout(min(left, max(queue.next_visible() - self.clock(), 0.001))):
                    await news.wait()
            except TimeoutError:
                pass
            answer = queue.perform(action, request, fates)
        return answer

    def _get_metric_statistics(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """CloudWatch has one figure here: the age of the oldest message."""
        if action != "GetMetricStatistics":
            raise RefusedError("UnknownOperationException", f"the fake has no {action}")
        named = request["Dimensions"][0]["Value"]
        if (request["MetricName"], named) != ("ApproximateAgeOfOldestMessage", self.queue.name):
            return {"Datapoints": []}
        ages = self.queue.oldest_ages(request["StartTime"], request["EndTime"])
        return {"Datapoints": [{"Timestamp": minute, "Maximum": age} for minute, age in ages.items()]}


@lru_cache
def _signed_at(date: str) -> float:
    return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))


@lru_cache
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)


class FakeTransport:
    """The way to a fake: the client's :class:`~sqspider.frontier.aws.transport.Transport`.

    ``before`` is awaited before a request arrives and ``after`` before its answer does: there a simulator lets
    time pass, or the process die. ``weather``: what happens to calls; none: the account's own.
    """

    def __init__(
        self, aws: FakeAws, *, before: Pause = _at_once, after: Pause = _at_once, weather: Weather | None = None
    ) -> None:
        self._aws = aws
        self._weather = aws.weather if weather is None else weather
        self._before, self._after = before, after

    async def post(self, sent: Sent) -> Received:
        aws, rng, weather = self._aws, self._aws.rng, self._weather
        await self._before()
        fate = self._fate()
        if fate == "throttled":
            refusal = RefusedError(rng.choice(("ThrottlingException", "RequestLimitExceeded")), "injected")
            received = aws.refusal(refusal)
        elif fate == "unreached":
            raise NoAnswerError("injected: it cannot be reached", may_have_arrived=False)
        elif fate == "failed" and rng.random() < 0.5:
            received = aws.refusal(RefusedError("InternalServerError", "injected", status=500))
        else:
            received = await aws.answer(sent, Fates(weather.partial, rng))
        await self._after()
        if fate == "failed":
            return aws.refusal(RefusedError("ServiceUnavailable", "injected", status=503))
        if fate == "lost":
            raise NoAnswerError("injected: the answer was lost")
        return received

    def _fate(self) -> str:
        chances = ("throttled", "unreached", "failed", "lost")
        if not any(getattr(self._weather, name) for name in chances):
            return ""
        drawn = self._aws.rng.random()
        for name in chances:
            drawn -= getattr(self._weather, name)
            if drawn < 0:
                return name
        return ""

    async def wake(self) -> None:
        pass

    async def close(self) -> None:
        pass
