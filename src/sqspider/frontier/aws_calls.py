"""One table and one queue on AWS, in batches: what failed in part is tried again in part.

Every statement of a batch has an answer of its own, and so has every message. Only a condition that
did not hold is an outcome; what was throttled or failed is tried again, and raised in the end. What
the items and messages say is not here: see ``aws``.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from sqspider.frontier import FrontierBusyError
from sqspider.frontier.aws_client import (
    ACCESS_CODES,
    DYNAMODB,
    SQS,
    THROTTLING_CODES,
    UNSURE_CODES,
    Answer,
    AwsClient,
    AwsError,
    Call,
    access_denied,
)
from sqspider.prices import DOLLARS_A_READ_UNIT, DOLLARS_A_SQS_REQUEST, DOLLARS_A_WRITE_UNIT

T = TypeVar("T")
Item = dict[str, dict[str, Any]]  # an item in DynamoDB's JSON: name -> {type: value}

INDEX: Final = "due"
WRITE_BATCH: Final = 25  # BatchExecuteStatement, BatchWriteItem
READ_BATCH: Final = 100  # BatchGetItem
SQS_BATCH: Final = 10
MAX_SEND_BYTES: Final = 1_000_000  # SQS takes 1 MiB in all messages of a batch

# A failed condition and a key that exists are the only refusals of a statement that are an outcome.
LOST_CODES: Final = frozenset({"ConditionalCheckFailed", "DuplicateItem"})


class Statement(NamedTuple):
    """One statement of a PartiQL batch. ``url``: the key that it writes."""

    url: str
    text: str
    parameters: list[dict[str, Any]]


class Written(NamedTuple):
    """What became of a statement."""

    is_done: bool  # false: its condition did not hold
    is_unsure: bool  # an earlier try got no clear answer: that may be why it did not hold
    item: Item | None  # what it returned


class Outgoing(NamedTuple):
    """A message to be sent."""

    body: str
    host: str | None  # the message's group: SQS serves groups fairly
    delay_seconds: int = 0


class Usage(msgspec.Struct):
    """What was asked of AWS so far: the base of the bill."""

    calls: float = 0
    sqs_requests: float = 0  # as billed: one for each 64 KiB begun
    read_units: float = 0.0
    write_units: float = 0.0

    @property
    def dollars(self) -> float:
        """What it costs by list price (us-east-1, on demand): see docs/costs.md."""
        return (
            self.sqs_requests * DOLLARS_A_SQS_REQUEST
            + self.read_units * DOLLARS_A_READ_UNIT
            + self.write_units * DOLLARS_A_WRITE_UNIT
        )

    def minus(self, earlier: Usage) -> Usage:
        """What was asked since an earlier moment."""
        return Usage(**{name: getattr(self, name) - getattr(earlier, name) for name in self.__struct_fields__})

    def plus(self, more: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(more, name) for name in self.__struct_fields__})

    def see(self, call: Call) -> None:
        """Add a call."""
        self.calls += 1
        if call.service is SQS:
            self.sqs_requests += max(1, math.ceil(_payload_bytes(call.request) / 65_536))
        elif call.service is DYNAMODB and call.answer:
            used = call.answer.get("ConsumedCapacity") or []
            units = sum(part.get("CapacityUnits", 0.0) for part in (used if isinstance(used, list) else [used]))
            if call.action in ("BatchGetItem", "Query", "Scan"):
                self.read_units += units
            else:
                self.write_units += units


class Table:
    """A DynamoDB table whose key is ``url``."""

    def __init__(self, client: AwsClient, name: str) -> None:
        self.name = name
        self._client = client

    async def call(self, action: str, request: dict[str, Any]) -> Answer:
        """Call an action that tells what it consumed."""
        return await self._client.call(DYNAMODB, action, {**request, "ReturnConsumedCapacity": "TOTAL"})

    async def describe(self) -> dict[str, Any]:
        answer = await self._client.call(DYNAMODB, "DescribeTable", {"TableName": self.name})
        description: dict[str, Any] = answer.body["Table"]
        return description

    async def write(self, statements: Sequence[Statement]) -> list[Written]:
        """Run statements in batches. A key that is written twice is written in that order."""
        results: list[Written | None] = [None] * len(statements)
        waves: list[list[int]] = []  # no key twice in one: DynamoDB refuses such a batch
        seen: Counter[str] = Counter()
        for i, statement in enumerate(statements):
            earlier = seen[statement.url]
            seen[statement.url] += 1
            if earlier == len(waves):
                waves.append([])
            waves[earlier].append(i)
        for wave in waves:
            in_batches = batches(wave, WRITE_BATCH)
            parts = await together(self._write_batch([statements[i] for i in batch]) for batch in in_batches)
            for batch, part in zip(in_batches, parts, strict=True):
                for i, written in zip(batch, part, strict=True):
                    results[i] = written
        return [written for written in results if written is not None]

    async def _write_batch(self, statements: list[Statement]) -> list[Written]:
        results: dict[int, Written] = {}
        unsure: set[int] = set()
        waiting = list(range(len(statements)))
        patience = Patience(self._client, "BatchExecuteStatement")
        while True:
            request = {
                "Statements": [
                    {"Statement": statements[i].text, "Parameters": statements[i].parameters} for i in waiting
                ]
            }
            answer = await self.call("BatchExecuteStatement", request)
            again = []
            trouble = ""
            for i, response in zip(waiting, answer.body["Responses"], strict=True):
                error = response.get("Error") or {}
                code = str(error.get("Code", "")).removesuffix("Exception")
                is_unsure = answer.is_unsure or i in unsure
                if not code or code in LOST_CODES:
                    results[i] = Written(not code, is_unsure, response.get("Item"))
                elif code in THROTTLING_CODES or code in UNSURE_CODES:
                    if code in UNSURE_CODES or is_unsure:
                        unsure.add(i)
                    trouble = code
                    again.append(i)
                else:
                    refusal = AwsError(DYNAMODB, "BatchExecuteStatement", code, error.get("Message", ""))
                    raise access_denied(refusal, self._client.region) if code in ACCESS_CODES else refusal
            if not again:
                return [results[i] for i in range(len(statements))]
            waiting = again
            await patience.wait(f"{len(again)} statements: {trouble}")

    async def read(self, keys: Iterable[str], *, projection: str | None = None) -> dict[str, Item]:
        """Items by key. Consistent, but for a projection: that asks only whether they are there."""
        wanted = list(dict.fromkeys(keys))
        parts = await together(self._read_batch(part, projection) for part in batches(wanted, READ_BATCH))
        return {url: item for part in parts for url, item in part.items()}

    async def _read_batch(self, keys: list[str], projection: str | None) -> dict[str, Item]:
        items: dict[str, Item] = {}
        patience = Patience(self._client, "BatchGetItem")
        asked: dict[str, Any] = {"Keys": [{"url": s(key)} for key in keys], "ConsistentRead": projection is None}
        if projection is not None:
            asked |= {"ProjectionExpression": "#p", "ExpressionAttributeNames": {"#p": projection}}
        while True:
            answer = (await self.call("BatchGetItem", {"RequestItems": {self.name: asked}})).body
            for item in answer["Responses"].get(self.name, []):
                items[item["url"]["S"]] = item
            left = (answer.get("UnprocessedKeys") or {}).get(self.name)
            if not left:
                return items
            asked = {**asked, "Keys": left["Keys"]}
            await patience.wait(f"{len(left['Keys'])} keys were not processed")

    async def query(self, shard: str, limit: int, *, before: float | None = None) -> list[tuple[str, float]]:
        """Keys and ``due_at`` of a shard of the index, the first ones first."""
        found: list[tuple[str, float]] = []
        request: dict[str, Any] = {
            "TableName": self.name,
            "IndexName": INDEX,
            "KeyConditionExpression": "due_shard = :shard",
            "ExpressionAttributeValues": {":shard": s(shard)},
        }
        if before is not None:
            request["KeyConditionExpression"] += " AND due_at < :before"
            request["ExpressionAttributeValues"][":before"] = n(before)
        while True:
            request["Limit"] = min(limit - len(found), 1000)
            answer = (await self.call("Query", request)).body
            found.extend((item["url"]["S"], float(item["due_at"]["N"])) for item in answer.get("Items", []))
            if "LastEvaluatedKey" not in answer or len(found) >= limit:
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def change(self, action: str, key: str, request: dict[str, Any]) -> bool:
        """One UpdateItem or DeleteItem; false if its condition did not hold."""
        try:
            await self.call(action, {"TableName": self.name, "Key": {"url": s(key)}, **request})
        except AwsError as error:
            if error.code == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def insert(self, item: Item) -> Statement:
        fields = ", ".join(f"'{name}': ?" for name in item)
        text = f'INSERT INTO "{self.name}" VALUE {{{fields}}}'
        return Statement(item["url"]["S"], text, list(item.values()))

    def statement(self, text: str, url: str, parameters: Sequence[dict[str, Any]]) -> Statement:
        return Statement(url, text.format(table=self.name), list(parameters))

    async def scan(self, **parameters: Any) -> AsyncIterator[list[Item]]:
        request = {"TableName": self.name, **parameters}
        while True:
            answer = (await self.call("Scan", request)).body
            yield answer.get("Items") or []
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def delete_items(self, keys: list[str]) -> None:
        waiting: list[Any] = [{"DeleteRequest": {"Key": {"url": s(key)}}} for key in keys]
        patience = Patience(self._client, "BatchWriteItem")
        while waiting:
            answer = await self.call("BatchWriteItem", {"RequestItems": {self.name: waiting}})
            waiting = (answer.body.get("UnprocessedItems") or {}).get(self.name) or []
            if waiting:
                await patience.wait(f"{len(waiting)} items were not processed")


class Queue:
    """An SQS queue."""

    def __init__(self, client: AwsClient, url: str) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        self._client = client

    async def attributes(self) -> dict[str, str]:
        answer = await self._client.call(SQS, "GetQueueAttributes", {"QueueUrl": self.url, "AttributeNames": ["All"]})
        attributes: dict[str, str] = answer.body.get("Attributes") or {}
        return attributes

    async def receive(
        self, limit: int, wait_seconds: int, *, visibility_seconds: int | None = None
    ) -> list[dict[str, Any]]:
        """At most ten messages, hidden for the queue's own visibility timeout or another."""
        request = {
            "QueueUrl": self.url,
            "MaxNumberOfMessages": min(limit, SQS_BATCH),
            "WaitTimeSeconds": wait_seconds,
            "AttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
        }
        if visibility_seconds is not None:
            request["VisibilityTimeout"] = visibility_seconds
        answer = await self._client.call(SQS, "ReceiveMessage", request, wait_seconds=wait_seconds)
        return answer.body.get("Messages") or []

    async def show(self, handles: Sequence[str]) -> None:
        """Make messages that were received visible again."""
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": 0} for handle in handles]
        for batch in batches(entries, SQS_BATCH):
            await self._batch("ChangeMessageVisibilityBatch", batch)

    async def purge(self) -> None:
        await self._client.call(SQS, "PurgeQueue", {"QueueUrl": self.url})

    async def send(self, messages: Sequence[Outgoing]) -> None:
        batches: list[list[Outgoing]] = []
        size = 0
        for message in messages:
            length = len(message.body.encode())
            if not batches or len(batches[-1]) == SQS_BATCH or size + length > MAX_SEND_BYTES:
                batches.append([])
                size = 0
            batches[-1].append(message)
            size += length
        await together(self._batch("SendMessageBatch", [_sent_entry(m) for m in batch]) for batch in batches)

    async def delete(self, handles: Sequence[str]) -> None:
        entries = [{"ReceiptHandle": handle} for handle in dict.fromkeys(handles)]
        await together(self._batch("DeleteMessageBatch", batch) for batch in batches(entries, SQS_BATCH))

    async def _batch(self, action: str, entries: list[dict[str, Any]]) -> None:
        """One batch call; of a partial failure, what failed is tried again alone."""
        waiting = {str(i): {"Id": str(i), **entry} for i, entry in enumerate(entries)}
        patience = Patience(self._client, action)
        while waiting:
            answer = await self._client.call(SQS, action, {"QueueUrl": self.url, "Entries": list(waiting.values())})
            for done in answer.body.get("Successful") or []:
                waiting.pop(done["Id"], None)
            for failure in answer.body.get("Failed") or []:
                code, is_ours = failure.get("Code", ""), failure.get("SenderFault", False)
                if "ReceiptHandleIsInvalid" in code or "MessageNotInflight" in code:
                    waiting.pop(failure["Id"], None)  # stale: the message is no longer this delivery's
                elif is_ours and code not in THROTTLING_CODES:
                    raise AwsError(SQS, action, code, failure.get("Message", ""))
            if waiting:
                await patience.wait(f"{len(waiting)} of {len(entries)} entries failed")


class Patience:
    """Waits between tries of what AWS did only in part, and gives up in the end."""

    def __init__(self, client: AwsClient, action: str) -> None:
        self._client = client
        self._action = action
        self._tries = 0
        self._give_up_at = asyncio.get_running_loop().time() + client.give_up_seconds

    async def wait(self, trouble: str, *, longest: float = math.inf) -> None:
        """Wait before the next try. Raises :class:`FrontierBusyError` when it is enough."""
        self._tries += 1
        pause = min(self._client.pause_before(self._tries), longest)
        if asyncio.get_running_loop().time() + pause > self._give_up_at:
            raise FrontierBusyError(
                f"{self._action} did not succeed in {self._tries} tries ({trouble}): nothing is lost, try again later"
            )
        await asyncio.sleep(pause)


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all at once; the first failure cancels the others and is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def batches(values: Sequence[T], size: int) -> list[list[T]]:
    return [list(values[i : i + size]) for i in range(0, len(values), size)]


# DynamoDB's JSON.


def s(text: str) -> dict[str, Any]:
    return {"S": str(text)}


def n(number: float) -> dict[str, Any]:
    return {"N": str(int(number)) if number == int(number) else repr(number)}


def text(item: Item, name: str) -> str | None:
    value = item.get(name)
    return value["S"] if value is not None else None


def number(item: Item, name: str) -> float:
    """A number of an item; 0 where it has none."""
    value = item.get(name)
    return float(value["N"]) if value is not None else 0.0


def optional(item: Item, name: str) -> float | None:
    return float(item[name]["N"]) if name in item else None


def _sent_entry(message: Outgoing) -> dict[str, Any]:
    entry: dict[str, Any] = {"MessageBody": message.body}
    if message.delay_seconds:
        entry["DelaySeconds"] = message.delay_seconds
    if message.host:
        entry["MessageGroupId"] = message.host[-128:]
    return entry


def live_messages(attributes: Mapping[str, str]) -> tuple[int, int, int]:
    """Visible, in flight, delayed."""
    return (
        int(attributes.get("ApproximateNumberOfMessages", 0)),
        int(attributes.get("ApproximateNumberOfMessagesNotVisible", 0)),
        int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
    )


def _payload_bytes(request: Mapping[str, Any]) -> int:
    return sum(len(entry.get("MessageBody", "")) for entry in request.get("Entries", ()))
