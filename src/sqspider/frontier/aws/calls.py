"""One table and one queue on AWS, in batches: what failed in part is tried again in part.

Every statement of a batch has an answer of its own, and so has every message. Only a condition that
did not hold is an outcome; what was throttled or failed is tried again, and raised in the end. What
the items and messages say is not here: see ``aws``.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from sqspider.frontier import FrontierBusyError, FrontierError, FrontierUnavailableError
from sqspider.frontier.aws.client import Answer, AwsClient, AwsError, Call, for_people
from sqspider.frontier.aws.errors import Meaning
from sqspider.frontier.aws.prices import DOLLARS_A_READ_UNIT, DOLLARS_A_SQS_REQUEST, DOLLARS_A_WRITE_UNIT
from sqspider.frontier.aws.transport import DYNAMODB, SQS

T = TypeVar("T")
Item = dict[str, dict[str, Any]]  # an item in DynamoDB's JSON: name -> {type: value}

INDEX: Final = "due"
WRITE_BATCH: Final = 25  # BatchExecuteStatement, BatchWriteItem
READ_BATCH: Final = 100  # BatchGetItem
SQS_BATCH: Final = 10
BILLED_BYTES: Final = 65_536  # SQS bills each 64 KiB of a call's messages, sent or received, as a request
MAX_SEND_BYTES: Final = 1_000_000  # SQS takes 1 MiB in all messages of a batch

MAX_KEY_BYTES: Final = 2048  # DynamoDB: of a partition key


class Statement(NamedTuple):
    """One statement of a PartiQL batch. ``url``: the key that it writes."""

    url: str
    text: str
    parameters: list[dict[str, Any]]


class Written(NamedTuple):
    """What became of a statement."""

    is_done: bool  # false: its condition did not hold, or it was refused
    is_unsure: bool  # an earlier try got no clear answer: that may be why it did not hold
    item: Item | None  # what it returned
    refusal: str = ""  # why DynamoDB will never take it: too large, a number out of its range


class _Executed(NamedTuple):
    """What one statement of a batch answered."""

    error: AwsError | None
    is_unsure: bool  # an earlier try of the batch got no clear answer
    item: Item | None


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
            payload = max(_payload_bytes(call.request), _payload_bytes(call.answer or {}))
            self.sqs_requests += max(1, math.ceil(payload / BILLED_BYTES))
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
        return await self._call(action, {**request, "ReturnConsumedCapacity": "TOTAL"})

    async def _call(self, action: str, request: dict[str, Any]) -> Answer:
        try:
            return await self._client.call(DYNAMODB, action, request)
        except AwsError as error:
            if error.meaning is Meaning.GONE:
                raise self._for_people(error) from error
            raise

    def _for_people(self, error: AwsError) -> FrontierError:
        if error.meaning is Meaning.GONE:
            region = self._client.region
            return FrontierUnavailableError(f"there is no table {self.name} in {region}: see TABLE_NAME and AWS_REGION")
        return for_people(error, self._client.region)

    async def describe(self) -> dict[str, Any]:
        answer = await self._call("DescribeTable", {"TableName": self.name})
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
            again = []
            trouble = ""
            for i, answer in zip(waiting, await self._execute([statements[i] for i in waiting]), strict=True):
                is_unsure = answer.is_unsure or i in unsure
                error = answer.error
                if error is None or error.meaning is Meaning.OUTCOME:
                    results[i] = Written(error is None, is_unsure, answer.item)
                elif error.meaning is Meaning.REFUSED:
                    results[i] = Written(False, is_unsure, None, error.message or error.code)
                elif error.meaning in (Meaning.LATER, Meaning.UNSURE):
                    if error.meaning is Meaning.UNSURE or is_unsure:
                        unsure.add(i)
                    trouble = error.code
                    again.append(i)
                else:
                    raise self._for_people(error)
            if not again:
                return [results[i] for i in range(len(statements))]
            waiting = again
            await patience.wait(f"{len(again)} statements: {trouble}")

    async def _execute(self, statements: list[Statement]) -> list[_Executed]:
        """What each statement of one batch answers.

        DynamoDB refuses some batches as a whole for one bad statement, and runs none of it: halves of
        halves leave that one alone.
        """
        request = {"Statements": [{"Statement": it.text, "Parameters": it.parameters} for it in statements]}
        try:
            answer = await self.call("BatchExecuteStatement", request)
        except AwsError as error:
            if error.meaning is not Meaning.REFUSED:
                raise
            if len(statements) == 1:
                return [_Executed(error, False, None)]
            halves = await together(self._execute(half) for half in batches(statements, (len(statements) + 1) // 2))
            return [executed for half in halves for executed in half]
        return [
            _Executed(_error_of(response), answer.is_unsure, response.get("Item"))
            for response in answer.body["Responses"]
        ]

    async def read(self, keys: Iterable[str], *, projection: str | None = None) -> dict[str, Item]:
        """Items by key. Consistent, but for a projection: that is half as dear, and may be behind."""
        # A key that is longer than keys can be is not there, and would spoil the batch.
        wanted = [key for key in dict.fromkeys(keys) if len(key.encode()) <= MAX_KEY_BYTES]
        parts = await together(self._read_batch(part, projection) for part in batches(wanted, READ_BATCH))
        return {url: item for part in parts for url, item in part.items()}

    async def _read_batch(self, keys: list[str], projection: str | None) -> dict[str, Item]:
        items: dict[str, Item] = {}
        patience = Patience(self._client, "BatchGetItem")
        asked: dict[str, Any] = {"Keys": [{"url": s(key)} for key in keys], "ConsistentRead": projection is None}
        if projection is not None:
            names = dict.fromkeys(("url", projection))
            asked |= {
                "ProjectionExpression": ", ".join(f"#{i}" for i in range(len(names))),
                "ExpressionAttributeNames": {f"#{i}": name for i, name in enumerate(names)},
            }
        while True:
            answer = (await self.call("BatchGetItem", {"RequestItems": {self.name: asked}})).body
            for item in answer["Responses"].get(self.name, []):
                items[item["url"]["S"]] = item
            left = (answer.get("UnprocessedKeys") or {}).get(self.name)
            if not left:
                return items
            asked = {**asked, "Keys": left["Keys"]}
            await patience.wait(f"{len(left['Keys'])} keys were not processed")

    async def query(
        self, shard: str, limit: int, *, before: float | None = None, after: float | None = None
    ) -> list[tuple[str, float]]:
        """Keys and ``due_at`` of a shard of the index, the first ones first; ``before`` or ``after`` a moment."""
        found: list[tuple[str, float]] = []
        request: dict[str, Any] = {
            "TableName": self.name,
            "IndexName": INDEX,
            "KeyConditionExpression": "due_shard = :shard",
            "ExpressionAttributeValues": {":shard": s(shard)},
        }
        for sign, bound in (("<", before), (">", after)):
            if bound is not None:
                request["KeyConditionExpression"] += f" AND due_at {sign} :bound"
                request["ExpressionAttributeValues"][":bound"] = n(bound)
        while True:
            request["Limit"] = min(limit - len(found), 1000)
            answer = (await self.call("Query", request)).body
            found.extend((item["url"]["S"], float(item["due_at"]["N"])) for item in answer.get("Items", []))
            if "LastEvaluatedKey" not in answer or len(found) >= limit:
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def update(self, key: str, request: dict[str, Any]) -> Written:
        """One UpdateItem, as a statement is written: done, or not by its condition."""
        return await self._change("UpdateItem", key, request)

    async def change(self, action: str, key: str, request: dict[str, Any]) -> bool:
        """One UpdateItem or DeleteItem; false if its condition did not hold."""
        return (await self._change(action, key, request)).is_done

    async def _change(self, action: str, key: str, request: dict[str, Any]) -> Written:
        try:
            answer = await self.call(action, {"TableName": self.name, "Key": {"url": s(key)}, **request})
        except AwsError as error:
            if error.meaning is Meaning.OUTCOME:
                return Written(False, True, None)
            raise
        return Written(True, answer.is_unsure, answer.body.get("Attributes"))

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

    async def _call(self, action: str, request: dict[str, Any], *, wait_seconds: float = 0.0) -> dict[str, Any]:
        try:
            answer = await self._client.call(SQS, action, {"QueueUrl": self.url, **request}, wait_seconds=wait_seconds)
        except AwsError as error:
            if error.meaning is Meaning.GONE:
                region = self._client.region
                raise FrontierUnavailableError(
                    f"there is no queue {self.url} in {region}: see QUEUE_URL and AWS_REGION"
                ) from error
            raise
        return answer.body

    async def attributes(self) -> dict[str, str]:
        answer = await self._call("GetQueueAttributes", {"AttributeNames": ["All"]})
        attributes: dict[str, str] = answer.get("Attributes") or {}
        return attributes

    async def receive(
        self, limit: int, wait_seconds: int, *, visibility_seconds: int | None = None
    ) -> list[dict[str, Any]]:
        """At most ten messages, hidden for the queue's own visibility timeout or another."""
        request = {
            "MaxNumberOfMessages": min(limit, SQS_BATCH),
            "WaitTimeSeconds": wait_seconds,
            "AttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
        }
        if visibility_seconds is not None:
            request["VisibilityTimeout"] = visibility_seconds
        answer = await self._call("ReceiveMessage", request, wait_seconds=wait_seconds)
        return answer.get("Messages") or []

    async def show(self, handles: Sequence[str]) -> None:
        """Make messages that were received visible again."""
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": 0} for handle in handles]
        for batch in batches(entries, SQS_BATCH):
            await self._batch("ChangeMessageVisibilityBatch", batch)

    async def purge(self) -> None:
        await self._call("PurgeQueue", {})

    async def send(self, messages: Sequence[Outgoing]) -> list[str]:
        """Send messages; for each why SQS will never take it, an empty text where it has taken it."""
        parts: list[list[Outgoing]] = []
        size = 0
        for message in messages:
            length = len(message.body.encode())
            if not parts or len(parts[-1]) == SQS_BATCH or size + length > MAX_SEND_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(message)
            size += length
        refusals = await together(self._batch("SendMessageBatch", [_sent_entry(m) for m in part]) for part in parts)
        return [refusal for part in refusals for refusal in part]

    async def delete(self, handles: Sequence[str]) -> None:
        entries = [{"ReceiptHandle": handle} for handle in dict.fromkeys(handles)]
        await together(self._batch("DeleteMessageBatch", batch) for batch in batches(entries, SQS_BATCH))

    async def _batch(self, action: str, entries: list[dict[str, Any]]) -> list[str]:
        """One batch call; of a partial failure, what failed is tried again alone. Why entries were refused."""
        waiting = {str(i): {"Id": str(i), **entry} for i, entry in enumerate(entries)}
        refusals: dict[str, str] = {}
        patience = Patience(self._client, action)
        while waiting:
            try:
                answer = await self._call(action, {"Entries": list(waiting.values())})
            except AwsError as refusal:
                if refusal.meaning is not Meaning.REFUSED:
                    raise
                if len(entries) == 1:
                    return [refusal.message or refusal.code]
                each = await together(self._batch(action, [entries[int(name)]]) for name in waiting)
                refusals |= {name: why for name, (why,) in zip(waiting, each, strict=True)}
                break
            for done in answer.get("Successful") or []:
                waiting.pop(done["Id"], None)
            for failure in answer.get("Failed") or []:
                why = self._final(action, failure)
                if why is not None:
                    waiting.pop(failure["Id"], None)
                    refusals[failure["Id"]] = why
            if waiting:
                await patience.wait(f"{len(waiting)} of {len(entries)} entries failed")
        return [refusals.get(str(i), "") for i in range(len(entries))]

    def _final(self, action: str, failure: Mapping[str, Any]) -> str | None:
        """Why an entry of a batch is refused for good; empty if it is over already, none if it may succeed yet."""
        status = 400 if failure.get("SenderFault") else 500
        error = AwsError(SQS, action, str(failure.get("Code", "")), str(failure.get("Message", "")), status)
        if "ReceiptHandleIsInvalid" in error.code or "MessageNotInflight" in error.code:
            return ""  # stale: the message is no longer this delivery's
        if error.meaning is Meaning.REFUSED:
            return error.message or error.code
        if error.meaning in (Meaning.LATER, Meaning.UNSURE):
            return None
        raise for_people(error, self._client.region)


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


def _error_of(response: Mapping[str, Any]) -> AwsError | None:
    """The error in the answer of one statement of a batch."""
    error = response.get("Error")
    if not error:
        return None
    return AwsError(DYNAMODB, "BatchExecuteStatement", str(error.get("Code", "")), str(error.get("Message", "")))


def batches(values: Sequence[T], size: int) -> list[list[T]]:
    return [list(values[i : i + size]) for i in range(0, len(values), size)]


def mark_by(rng: random.Random) -> str:
    """A mark by which a write is known again when its answer was lost."""
    return f"{rng.getrandbits(48):012x}"


# DynamoDB's JSON.


def s(text: str) -> dict[str, Any]:
    return {"S": str(text)}


def n(number: float) -> dict[str, Any]:
    """A number as it is; one that DynamoDB does not have (infinite, out of its range) is for it to refuse."""
    is_whole = math.isfinite(number) and number == int(number)
    return {"N": str(int(number)) if is_whole else repr(number)}


def key_of(kind: str, name: str) -> str:
    """The key of what is no URL record; of a name that is too long for a key, by its digest."""
    key = f"{kind} {name}"
    if len(key.encode()) <= MAX_KEY_BYTES:
        return key
    return f"{kind} #{hashlib.sha256(name.encode()).hexdigest()}"


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


def _payload_bytes(document: Mapping[str, Any]) -> int:
    """The bytes of the messages in a request or an answer."""
    sent = (entry.get("MessageBody", "") for entry in document.get("Entries") or ())
    received = (message.get("Body", "") for message in document.get("Messages") or ())
    return sum(len(body.encode()) for body in (*sent, *received))
