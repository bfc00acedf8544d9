"""The frontier on AWS: messages in SQS, everything else in one DynamoDB table.

Each operation is a few batch calls in the safe order; what dies half-way is found again by its
lease or by ``due_at``. A throttled, failed or unclear call is tried again or raised, never taken
for a lost race. How requests are signed, sent and tried again is in ``aws_client``.

The table's items, by their key ``url``:

    http(s)://…     a URL record
    host NAME       a host row, and the requests under way to it
    robots ORIGIN   a robots.txt row and its lease
    worker ID       a worker that checked in
    counter N       a part of the sums of records by status

One table, because it is one name to configure, to permit and to clear; a canonical URL can never be
one of the other keys. The index ``due`` holds open records alone, keys only: its hash key
``due_shard`` spreads them (q0–q7 have a message, p0–p7 are parked), its range key is ``due_at``.
Hosts (h) and workers (w) stand in it too, so that they can be listed without reading the table.
A claim leaves ``due_at`` as it is, since moving it costs two more write units: the sweep looks at
the lease instead.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
import random
import secrets
import zlib
from collections import Counter, OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import msgspec

from sqspider.frontier import (
    Admission,
    ClaimRequest,
    Clock,
    Counts,
    DeadLetter,
    Deferral,
    Delivery,
    Entered,
    Entrance,
    Entry,
    Exit,
    Finish,
    FrontierBusyError,
    FrontierSettings,
    FrontierUnavailableError,
    Lost,
    LostReason,
    QueueStats,
    Retry,
    RobotsRow,
    SlotDemand,
    Won,
    WorkerRow,
)
from sqspider.frontier.aws_client import (
    ACCESS_CODES,
    CLOUDWATCH,
    DYNAMODB,
    GIVE_UP_SECONDS,
    SQS,
    THROTTLING_CODES,
    UNSURE_CODES,
    Answer,
    AwsClient,
    AwsError,
    Call,
    Service,
    access_denied,
    find_keys,
)
from sqspider.host import HostRow, delay_of
from sqspider.message import BadBody, Message, decode_message, decode_settings, encode_message, encode_settings
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.url import host_of

T = TypeVar("T")
Item = dict[str, dict[str, Any]]  # an item in DynamoDB's JSON: name -> {type: value}

SHARDS: Final = 8  # of the index: a thousand writes a second each
COUNTER_SHARDS: Final = 8
INDEX: Final = "due"
MAX_DELAY_SECONDS: Final = 900  # SQS: DelaySeconds
MAX_SEND_BYTES: Final = 1_000_000  # SQS takes 1 MiB in all messages of a batch
SQS_BATCH: Final = 10
WRITE_BATCH: Final = 25  # BatchExecuteStatement, BatchWriteItem
READ_BATCH: Final = 100  # BatchGetItem
RELEASE_AHEAD_SECONDS: Final = 60.0  # parked records go out this early, delayed: they are on time
FLUSH_SECONDS: Final = 2.0  # how long sums are gathered here before they are written
EXACT_OPEN: Final = 100  # up to so many open records are counted one by one
OLDEST_AGE_SECONDS: Final = 300  # CloudWatch's figures for a queue come every minute or five
CACHED_HOSTS: Final = 10_000
MAX_ROBOTS_BYTES: Final = 380_000  # compressed; an item has 400 KB
OPEN_SECONDS: Final = 8.0  # of trying to reach AWS at all
CLAIM_ROUNDS: Final = 4

IAM_ACTIONS: Final = (
    "cloudwatch:GetMetricStatistics",
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:DeleteItem",
    "dynamodb:DescribeTable",
    "dynamodb:PartiQLInsert",
    "dynamodb:PartiQLUpdate",
    "dynamodb:Query",
    "dynamodb:Scan",
    "dynamodb:UpdateItem",
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:PurgeQueue",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
)
"""Everything that this adapter may ask of AWS: on the table and its index, on the queue and its
dead-letter queue."""

# A failed condition and a key that exists are the only refusals of a statement that are an outcome.
LOST_CODES: Final = frozenset({"ConditionalCheckFailed", "DuplicateItem"})

CLAIM: Final = """
UPDATE "{table}"
SET "status" = 'processing' SET "attempt" = "attempt" + 1 SET "unended" = "unended" + 1
SET "worker_id" = ? SET "claim_id" = ? SET "lease_until" = ? SET "claimed_at" = ?
WHERE "url" = ? AND "lease_until" < ?
RETURNING ALL NEW *
"""
FINISH: Final = """
UPDATE "{table}"
SET "status" = ? SET "outcome" = ? SET "finished_at" = ? SET "unended" = 0
REMOVE "lease_until" REMOVE "due_at" REMOVE "due_shard" REMOVE "parked_body"
WHERE "url" = ? AND "attempt" = ? AND "claim_id" = ? AND "status" = 'processing'
"""
GIVE_BACK: Final = """
UPDATE "{table}"
SET "status" = 'queued' SET "lease_until" = 0 SET "unended" = 0 SET "tries" = "tries" + ?
SET "due_at" = ? SET "due_shard" = ?{more}
WHERE "url" = ? AND "attempt" = ? AND "claim_id" = ? AND "status" = 'processing'
"""
PARK: Final = """
UPDATE "{table}" SET "due_at" = ? SET "due_shard" = ? SET "parked_body" = ?
WHERE "url" = ? AND "status" = 'queued'
"""
MOVE_DUE_ON: Final = """
UPDATE "{table}" SET "due_at" = ? SET "due_shard" = ? REMOVE "parked_body"
WHERE "url" = ? AND "due_at" = ?
"""
CHANGE_HOST: Final = 'UPDATE "{table}" SET "row" = ? SET "stamp" = ? WHERE "url" = ? AND "stamp" = ?'


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

    calls: int = 0
    sqs_requests: int = 0  # as billed: one for each 64 KiB begun
    read_units: float = 0.0
    write_units: float = 0.0

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


class _HostState(msgspec.Struct, frozen=True, kw_only=True):
    """A host's item: its row, and the requests under way to it by token, with their latest end."""

    row: HostRow
    requests: dict[str, float] = {}


class _KnownHost(NamedTuple):
    stamp: str | None  # names the version that was read; none: there is no item yet
    state: _HostState


class _HostWrite(NamedTuple):
    host: str
    new: _KnownHost
    sums: _HostSums | None  # that the new state holds already
    statement: Statement


class _HostSums(msgspec.Struct):
    """What finished fetches add to a host's row."""

    done: int = 0
    failed: int = 0
    blocked: int = 0
    bytes: int = 0
    busy_seconds: float = 0.0

    def add(self, other: _HostSums) -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def added_to(self, row: HostRow) -> HostRow:
        sums = {name: getattr(row, name) + getattr(self, name) for name in self.__struct_fields__}
        return msgspec.structs.replace(row, **sums)


HostChange = Callable[[_HostState], tuple[_HostState, T]]
"""Takes a host's state, gives the state that shall be and an answer. The very same state: no write."""

_outcome_decoder = msgspec.json.Decoder(Outcome)
_host_decoder = msgspec.json.Decoder(_HostState)
_robots_decoder = msgspec.msgpack.Decoder(RobotsRow)


class AwsFrontier:
    """The :class:`~sqspider.frontier.Frontier` on SQS and DynamoDB. Made by :meth:`open`."""

    def __init__(
        self,
        client: AwsClient,
        *,
        queue_url: str,
        table: str,
        region: str,
        settings: FrontierSettings,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.usage = Usage()
        self._client = client
        client.observers.append(self.usage.see)
        self._queue_url = queue_url
        self._dead_url: str | None = None
        self._visibility_seconds = settings.visibility_seconds
        self._table = table
        self._region = region
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._hosts: OrderedDict[str, _KnownHost] = OrderedDict()
        self._host_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._host_sums: defaultdict[str, _HostSums] = defaultdict(_HostSums)
        self._counted: Counter[str] = Counter()  # changes of the sums that are not written yet
        self._flushed_at = clock()
        self._counter_key = f"counter {rng.randrange(COUNTER_SHARDS)}"
        self._started: dict[tuple[str, str], float] = {}  # workers that checked in here

    @classmethod
    async def open(
        cls, settings: FrontierSettings, *, clock: Clock, environment: Mapping[str, str] = os.environ
    ) -> AwsFrontier:
        """Open the queue ``QUEUE_URL`` and the table ``TABLE_NAME`` of the environment.

        Also read: ``AWS_REGION`` or ``AWS_DEFAULT_REGION`` (else the queue's own region),
        ``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_SQS``, ``_DYNAMODB``, ``_CLOUDWATCH``, and the
        credentials. Raises :class:`FrontierUnavailableError` if either is not there, not allowed,
        or not as the crawler needs it.
        """
        place = _Place.read(environment)
        rng = random.Random(secrets.randbits(64))
        client = place.client(environment, rng, OPEN_SECONDS)
        frontier = cls(
            client,
            queue_url=place.queue_url,
            table=place.table,
            region=place.region,
            settings=settings,
            clock=clock,
            rng=rng,
        )
        try:
            await _together([frontier._look_at_queue(), frontier._look_at_table()])
        except FrontierBusyError as error:
            await client.close()
            raise FrontierUnavailableError(
                f"AWS cannot be reached in {place.region}: {error} (see AWS_REGION and AWS_ENDPOINT_URL)"
            ) from error
        except BaseException:
            await client.close()
            raise
        client.give_up_seconds = GIVE_UP_SECONDS
        return frontier

    async def close(self) -> None:
        """Write the sums that are still here, and let go of the connections."""
        try:
            with contextlib.suppress(FrontierBusyError):  # sums may be off, see counts
                await self._flush()
        finally:
            await self._client.close()

    async def _look_at_queue(self) -> None:
        try:
            attributes = await self._queue_attributes(self._queue_url)
        except AwsError as error:
            if error.code in ("QueueDoesNotExist", "NonExistentQueue", "InvalidAddress"):
                raise FrontierUnavailableError(
                    f"there is no queue {self._queue_url} in {self._region}: see QUEUE_URL and AWS_REGION"
                ) from error
            raise
        self._visibility_seconds = float(attributes["VisibilityTimeout"])
        if self._visibility_seconds < self._settings.visibility_seconds:
            raise FrontierUnavailableError(
                f"the queue's visibility timeout is {self._visibility_seconds:g} s, the lease needs "
                f"{self._settings.visibility_seconds:g} s: raise it, or the same message is delivered twice"
            )
        policy = msgspec.json.decode(attributes.get("RedrivePolicy") or "{}")
        if "deadLetterTargetArn" in policy:  # always of the same account and region
            name = policy["deadLetterTargetArn"].rpartition(":")[2]
            self._dead_url = self._queue_url.rpartition("/")[0] + "/" + name

    async def _look_at_table(self) -> None:
        try:
            answer = await self._dynamodb("DescribeTable", {"TableName": self._table})
        except AwsError as error:
            if error.code == "ResourceNotFoundException":
                raise FrontierUnavailableError(
                    f"there is no table {self._table} in {self._region}: see TABLE_NAME and AWS_REGION"
                ) from error
            raise
        table = answer.body["Table"]
        wanted = table_definition(self._table)
        if _key_of(table) != _key_of(wanted):
            raise FrontierUnavailableError(
                f"the table {self._table} has the key {_key_of(table)}, not url (HASH): name another table"
            )
        index = next((i for i in table.get("GlobalSecondaryIndexes", []) if i["IndexName"] == INDEX), None)
        if index is None or _key_of(index) != _key_of(wanted["GlobalSecondaryIndexes"][0]):
            raise FrontierUnavailableError(
                f"the table {self._table} has no index {INDEX!r} on due_shard and due_at: name another table"
            )

    # Calls.

    async def _dynamodb(self, action: str, request: dict[str, Any]) -> Answer:
        if action != "DescribeTable":
            request = {**request, "ReturnConsumedCapacity": "TOTAL"}
        return await self._client.call(DYNAMODB, action, request)

    async def _queue_attributes(self, queue_url: str) -> dict[str, str]:
        request = {"QueueUrl": queue_url, "AttributeNames": ["All"]}
        answer = await self._client.call(SQS, "GetQueueAttributes", request)
        attributes: dict[str, str] = answer.body.get("Attributes") or {}
        return attributes

    async def _write(self, statements: Sequence[Statement]) -> list[Written]:
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
            batches = _batches(wave, WRITE_BATCH)
            parts = await _together(self._write_batch([statements[i] for i in batch]) for batch in batches)
            for batch, part in zip(batches, parts, strict=True):
                for i, written in zip(batch, part, strict=True):
                    results[i] = written
        return [written for written in results if written is not None]

    async def _write_batch(self, statements: list[Statement]) -> list[Written]:
        results: dict[int, Written] = {}
        unsure: set[int] = set()
        waiting = list(range(len(statements)))
        patience = self._patience("BatchExecuteStatement")
        while True:
            request = {
                "Statements": [
                    {"Statement": statements[i].text, "Parameters": statements[i].parameters} for i in waiting
                ]
            }
            answer = await self._dynamodb("BatchExecuteStatement", request)
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
                    raise access_denied(refusal, self._region) if code in ACCESS_CODES else refusal
            if not again:
                return [results[i] for i in range(len(statements))]
            waiting = again
            await patience.wait(f"{len(again)} statements: {trouble}")

    async def _read(self, keys: Iterable[str], *, projection: str | None = None) -> dict[str, Item]:
        """Items by key. Consistent, but for a projection: that asks only whether they are there."""
        wanted = list(dict.fromkeys(keys))
        parts = await _together(self._read_batch(part, projection) for part in _batches(wanted, READ_BATCH))
        return {url: item for part in parts for url, item in part.items()}

    async def _read_batch(self, keys: list[str], projection: str | None) -> dict[str, Item]:
        items: dict[str, Item] = {}
        patience = self._patience("BatchGetItem")
        asked: dict[str, Any] = {"Keys": [{"url": _s(key)} for key in keys], "ConsistentRead": projection is None}
        if projection is not None:
            asked |= {"ProjectionExpression": "#p", "ExpressionAttributeNames": {"#p": projection}}
        while True:
            answer = (await self._dynamodb("BatchGetItem", {"RequestItems": {self._table: asked}})).body
            for item in answer["Responses"].get(self._table, []):
                items[item["url"]["S"]] = item
            left = (answer.get("UnprocessedKeys") or {}).get(self._table)
            if not left:
                return items
            asked = {**asked, "Keys": left["Keys"]}
            await patience.wait(f"{len(left['Keys'])} keys were not processed")

    async def _query(self, shard: str, limit: int, *, before: float | None = None) -> list[tuple[str, float]]:
        """Keys and ``due_at`` of a shard of the index, the first ones first."""
        found: list[tuple[str, float]] = []
        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": INDEX,
            "KeyConditionExpression": "due_shard = :shard",
            "ExpressionAttributeValues": {":shard": _s(shard)},
        }
        if before is not None:
            request["KeyConditionExpression"] += " AND due_at < :before"
            request["ExpressionAttributeValues"][":before"] = _n(before)
        while True:
            request["Limit"] = min(limit - len(found), 1000)
            answer = (await self._dynamodb("Query", request)).body
            found.extend((item["url"]["S"], float(item["due_at"]["N"])) for item in answer.get("Items", []))
            if "LastEvaluatedKey" not in answer or len(found) >= limit:
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def _update(self, key: str, request: dict[str, Any]) -> Answer | None:
        """One UpdateItem; ``None`` if its condition did not hold."""
        try:
            return await self._dynamodb("UpdateItem", {"TableName": self._table, "Key": {"url": _s(key)}, **request})
        except AwsError as error:
            if error.code == "ConditionalCheckFailedException":
                return None
            raise

    async def _send(self, messages: Sequence[Outgoing]) -> None:
        batches: list[list[Outgoing]] = []
        size = MAX_SEND_BYTES
        for message in messages:
            length = len(message.body.encode())
            if size + length > MAX_SEND_BYTES or len(batches[-1]) == SQS_BATCH:
                batches.append([])
                size = 0
            batches[-1].append(message)
            size += length
        await _together(
            self._sqs_batch("SendMessageBatch", self._queue_url, [_sent_entry(m) for m in batch]) for batch in batches
        )

    async def _delete(self, receipts: Sequence[str], queue_url: str | None = None) -> None:
        entries = [{"ReceiptHandle": _handle_of(receipt)} for receipt in dict.fromkeys(receipts)]
        await _together(
            self._sqs_batch("DeleteMessageBatch", queue_url or self._queue_url, batch)
            for batch in _batches(entries, SQS_BATCH)
        )

    async def _sqs_batch(self, action: str, queue_url: str, entries: list[dict[str, Any]]) -> None:
        """One batch call; of a partial failure, what failed is tried again alone."""
        waiting = {str(i): {"Id": str(i), **entry} for i, entry in enumerate(entries)}
        patience = self._patience(action)
        while waiting:
            answer = await self._client.call(SQS, action, {"QueueUrl": queue_url, "Entries": list(waiting.values())})
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

    def _patience(self, action: str) -> _Patience:
        return _Patience(self._client, action)

    # Work.

    async def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        by_url = {entry.url: entry for entry in reversed(entries)}
        by_url = {entry.url: by_url[entry.url] for entry in entries}  # the first one of each, in order
        # Reading first: a known URL then costs half a read unit, not the whole write unit of a
        # condition that fails.
        known = await self._read(by_url, projection="url")
        new = await self._record([entry for url, entry in by_url.items() if url not in known])
        await self._send([_outgoing(_message_for(by_url[url])) for url in new])
        await self._flush_if_due()
        answers = []
        for entry in entries:
            answers.append(entry.url in new)
            new.pop(entry.url, None)
        return answers

    async def _record(
        self, entries: Sequence[Entry], *, parked: Mapping[str, tuple[float, str]] | None = None
    ) -> dict[str, None]:
        """Insert records that are missing; which were, in order. ``parked``: until when, and the body."""
        now, mark = self._clock(), secrets.token_hex(6)
        statements = []
        for entry in entries:
            until = (parked or {}).get(entry.url)
            item: Item = {
                "url": _s(entry.url),
                "status": _s(Status.QUEUED),
                "depth": _n(entry.depth),
                "attempt": _n(0),
                "unended": _n(0),
                "tries": _n(0),
                "claim_id": _s(mark),  # tells an own insert whose answer was lost from another's
                "lease_until": _n(0),
                "enqueued_at": _n(now),
                "due_at": _n(until[0] if until else now + self._settings.due_seconds),
                "due_shard": _s(_shard_of(entry.url, is_parked=until is not None)),
            }
            if until:
                item["parked_body"] = _s(until[1])
            if entry.parent is not None:
                item["parent"] = _s(entry.parent)
            if entry.lastmod is not None:
                item["lastmod"] = _n(entry.lastmod)
            settings = encode_settings(entry.settings)
            if settings != "{}":
                item["settings"] = _s(settings)
            statements.append(self._insert(item))
        written = await self._write(statements)
        unsure = [s.url for s, w in zip(statements, written, strict=True) if w.is_unsure and not w.is_done]
        own = {url for url, item in (await self._read(unsure)).items() if item.get("claim_id") == {"S": mark}}
        new = {s.url: None for s, result in zip(statements, written, strict=True) if result.is_done or s.url in own}
        self._counted[Status.QUEUED] += len(new)
        return new

    def _insert(self, item: Item) -> Statement:
        fields = ", ".join(f"'{name}': ?" for name in item)
        text = f'INSERT INTO "{self._table}" VALUE {{{fields}}}'
        return Statement(item["url"]["S"], text, list(item.values()))

    def _statement(self, text: str, url: str, parameters: Sequence[dict[str, Any]]) -> Statement:
        return Statement(url, text.format(table=self._table), list(parameters))

    async def send(self, bodies: Sequence[str]) -> None:
        messages = [decode_message(body) for body in bodies]
        hosts = [None if isinstance(message, BadBody) else host_of(message.url) for message in messages]
        await self._send([Outgoing(body, host) for body, host in zip(bodies, hosts, strict=True)])

    async def receive(self, limit: int, *, wait_seconds: float = 0.0) -> list[Delivery]:
        wait = min(math.ceil(wait_seconds), 20)
        batch = await self._receive(min(limit, SQS_BATCH), wait)
        deliveries = batch
        while len(batch) == SQS_BATCH and len(deliveries) < limit:
            batch = await self._receive(min(limit - len(deliveries), SQS_BATCH), 0)
            deliveries = deliveries + batch
        if not deliveries:
            await self._flush()
        return deliveries

    async def _receive(self, limit: int, wait: int) -> list[Delivery]:
        request = {
            "QueueUrl": self._queue_url,
            "MaxNumberOfMessages": limit,
            "WaitTimeSeconds": wait,
            "AttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
        }
        answer = await self._client.call(SQS, "ReceiveMessage", request, wait_seconds=wait)
        stale_at = self._clock() + self._visibility_seconds
        return [
            Delivery(
                message_id=message["MessageId"],
                receipt=f"{stale_at:.3f} {message['ReceiptHandle']}",
                body=message["Body"],
                receive_count=int(message["Attributes"]["ApproximateReceiveCount"]),
                sent_at=int(message["Attributes"]["SentTimestamp"]) / 1000,
            )
            for message in answer.body.get("Messages") or []
        ]

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        messages = {request.message.url: request.message for request in reversed(requests)}
        answers: dict[str, Won | Lost] = {}
        waiting = list(messages)
        for _ in range(CLAIM_ROUNDS):
            now = self._clock()
            lease_until = now + lease_seconds
            values = [_s(worker_id), _s(claim_id), _n(lease_until), _n(now)]
            written = await self._write([self._statement(CLAIM, url, [*values, _s(url), _n(now)]) for url in waiting])
            items = {url: w.item for url, w in zip(waiting, written, strict=True) if w.is_done and w.item is not None}
            # One consistent read says why the others were lost.
            unclear = [url for url in waiting if url not in items]
            found = await self._read(unclear)
            waiting = []
            missing = []
            for url in unclear:
                item = found.get(url)
                if item is None:
                    missing.append(url)
                elif "lease_until" not in item:
                    answers[url] = Lost(url=url, why=LostReason.FINISHED)
                elif (_text(item, "worker_id"), _text(item, "claim_id")) == (worker_id, claim_id):
                    items[url] = item  # my own: the answer was lost
                elif (held_until := _number(item, "lease_until")) >= now:
                    answers[url] = Lost(url=url, why=LostReason.HELD, lease_until=held_until)
                else:
                    waiting.append(url)  # it became free between the write and the read
            for url, item in items.items():
                answers[url] = _won(url, item)
            if missing:  # a message whose URL has no record is a way in
                await self._record([_entry_for(messages[url]) for url in missing])
                waiting += missing
            if not waiting:
                break
        for url in waiting:  # changing hands all the time: look again soon
            answers[url] = Lost(url=url, why=LostReason.HELD, lease_until=self._clock())
        # A claim that nobody ended was in `processing` before; all others were in `queued`.
        fresh = sum(isinstance(answer, Won) and answer.unended == 1 for answer in answers.values())
        self._counted[Status.QUEUED] -= fresh
        self._counted[Status.PROCESSING] += fresh
        await self._flush_if_due()
        in_order = []
        for request in requests:
            answer = answers[request.message.url]
            in_order.append(answer)
            if isinstance(answer, Won):  # the next request for the same URL comes too late
                answers[answer.url] = Lost(url=answer.url, why=LostReason.HELD, lease_until=answer.lease_until)
        return in_order

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        linked = [finish for finish in finishes if finish.links]
        if linked:
            # Links go first, so that a crash loses none; those of a claim that is over stay out.
            current = await self._read(finish.claim.url for finish in linked)
            links = [
                link
                for finish in linked
                if _is_held(current.get(finish.claim.url), finish.claim)
                for link in finish.links
            ]
            if links:
                await self.enqueue(links)
        now = self._clock()
        written = await self._write(
            [
                self._statement(
                    FINISH,
                    finish.claim.url,
                    [
                        _s(finish.outcome.status),
                        _s(_encode_outcome(finish.outcome)),
                        _n(now),
                        *_fence(finish.claim),
                    ],
                )
                for finish in finishes
            ]
        )
        ended = await self._ended(
            [finish.claim for finish in finishes],
            written,
            lambda item: "finished_at" in item and _number(item, "finished_at") == now,
        )
        for finish, is_ended in zip(finishes, ended, strict=True):
            if is_ended:
                self._count_finish(finish)
        await self._delete(
            [
                finish.delivery.receipt
                for finish, is_ended in zip(finishes, ended, strict=True)
                if is_ended and finish.delivery is not None
            ]
        )
        await self._flush_if_due()
        return ended

    async def _ended(self, claims: list[Won], written: list[Written], is_mine: Callable[[Item], bool]) -> list[bool]:
        """Which claims were ended. One whose answer was lost has ended if its record says what was written."""
        unsure = [claim.url for claim, w in zip(claims, written, strict=True) if w.is_unsure and not w.is_done]
        found = await self._read(unsure)
        return [
            w.is_done
            or (
                (item := found.get(claim.url)) is not None
                and (_number(item, "attempt"), _text(item, "claim_id")) == (claim.attempt, claim.claim_id)
                and is_mine(item)
            )
            for claim, w in zip(claims, written, strict=True)
        ]

    def _count_finish(self, finish: Finish) -> None:
        outcome = finish.outcome
        self._counted[Status.PROCESSING] -= 1
        self._counted[outcome.status] += 1
        self._counted["bytes"] += outcome.bytes
        if outcome.reason is not None:
            self._counted[f"reason:{outcome.reason}"] += 1
        sums = _HostSums(bytes=outcome.bytes, busy_seconds=(outcome.elapsed_ms or 0) / 1000)
        setattr(sums, outcome.status, 1)
        self._host_sums[host_of(finish.claim.url)].add(sums)

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        now = self._clock()
        written = await self._write([self._give_back(retry, now) for retry in retries])
        ended = await self._ended(
            [retry.claim for retry in retries],
            written,
            lambda item: _text(item, "status") == Status.QUEUED and _number(item, "unended") == 0,
        )
        given_back = [retry for retry, is_ended in zip(retries, ended, strict=True) if is_ended]
        self._counted[Status.PROCESSING] -= len(given_back)
        self._counted[Status.QUEUED] += len(given_back)
        await self._resend(
            [
                (
                    retry.delivery,
                    None
                    if _is_far(retry.at, now)
                    else Outgoing(retry.delivery.body, host_of(retry.claim.url), _delay_until(retry.at, now)),
                )
                for retry in given_back
            ]
        )
        await self._flush_if_due()
        return ended

    def _give_back(self, retry: Retry, now: float) -> Statement:
        is_parked = _is_far(retry.at, now)
        due_at = retry.at if is_parked else max(retry.at, now) + self._settings.due_seconds
        parameters = [_n(int(retry.tried)), _n(due_at), _s(_shard_of(retry.claim.url, is_parked=is_parked))]
        more = ""
        if retry.outcome is not None:
            more += ' SET "outcome" = ?'
            parameters.append(_s(_encode_outcome(retry.outcome)))
        if is_parked:
            more += ' SET "parked_body" = ?'
            parameters.append(_s(retry.delivery.body))
        text = GIVE_BACK.format(table=self._table, more=more)
        return Statement(retry.claim.url, text, [*parameters, *_fence(retry.claim)])

    async def _resend(self, moves: Sequence[tuple[Delivery, Outgoing | None]]) -> None:
        """Send messages anew, then delete the ones that they stand for; none: only delete."""
        now = self._clock()
        live = [move for move in moves if not _is_stale(move[0], now)]
        await self._send([outgoing for _, outgoing in live if outgoing is not None])
        await self._delete([delivery.receipt for delivery, _ in live])

    async def defer(self, deferrals: Sequence[Deferral]) -> None:
        now = self._clock()
        live = [deferral for deferral in deferrals if not _is_stale(deferral.delivery, now)]
        kept = await self._park([deferral for deferral in live if _is_far(deferral.until, now)])
        await self._resend(
            [
                (
                    deferral.delivery,
                    None if deferral.delivery.receipt in kept else _deferred(deferral, now),
                )
                for deferral in live
            ]
        )

    async def _park(self, deferrals: Sequence[Deferral]) -> set[str]:
        """Keep far deferrals in their records; receipts of those whose message need not wait.

        A record that is being worked on is not parked: its message waits as long as SQS lets it.
        """
        by_url: dict[str, Deferral] = {}
        for deferral in deferrals:
            message = deferral.message or decode_message(deferral.delivery.body)
            if isinstance(message, Message):
                by_url[message.url] = deferral
        statements = [
            self._statement(
                PARK,
                url,
                [_n(deferral.until), _s(_shard_of(url, is_parked=True)), _s(_body_of(deferral)), _s(url)],
            )
            for url, deferral in by_url.items()
        ]
        written = await self._write(statements)
        kept = {url for url, w in zip(by_url, written, strict=True) if w.is_done}
        others = await self._read(url for url in by_url if url not in kept)
        kept |= {url for url, item in others.items() if "lease_until" not in item}  # finished
        missing = {
            url: (deferral.until, _body_of(deferral))
            for url, deferral in by_url.items()
            if url not in kept and url not in others
        }
        if missing:
            messages = (decode_message(body) for _, body in missing.values())
            entries = [_entry_for(message) for message in messages if isinstance(message, Message)]
            kept |= set(await self._record(entries, parked=missing))
        return {by_url[url].delivery.receipt for url in kept}

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        await self._delete([delivery.receipt for delivery in deliveries])

    async def sweep(self, limit: int = 1000) -> int:
        now = self._clock()
        parked, ordinary = await _together([self._due_parked(now, limit), self._due_orphans(now, limit)])
        due = dict(sorted([*parked, *ordinary], key=lambda found: found[1])[:limit])
        items = await self._read(due)
        statements: list[Statement] = []
        messages: list[Outgoing | None] = []
        for url, due_at in due.items():
            item = items.get(url)
            if item is None or "due_at" not in item or _number(item, "due_at") != due_at:
                continue  # the index was behind
            held_until = _number(item, "lease_until")
            message = None
            if held_until >= now:
                next_due = held_until + self._settings.due_seconds
            elif "parked_body" in item:
                next_due = max(due_at, now) + self._settings.due_seconds
                message = Outgoing(item["parked_body"]["S"], host_of(url), _delay_until(due_at, now))
            else:
                next_due = now + self._settings.due_seconds
                message = _outgoing(_message_for(_entry_of(item)))
            shard = _shard_of(url, is_parked=False)
            parameters = [_n(next_due), _s(shard), _s(url), _n(due_at)]
            statements.append(self._statement(MOVE_DUE_ON, url, parameters))
            messages.append(message)
        # First the new due_at, then the message: who dies in between is found again later.
        written = await self._write(statements)
        released = [m for m, w in zip(messages, written, strict=True) if m is not None and w.is_done]
        await self._send(released)
        return len(released)

    async def _due_parked(self, now: float, limit: int) -> list[tuple[str, float]]:
        parts = await _together(
            self._query(f"p{shard}", limit, before=now + RELEASE_AHEAD_SECONDS) for shard in range(SHARDS)
        )
        return [found for part in parts for found in part]

    async def _due_orphans(self, now: float, limit: int) -> list[tuple[str, float]]:
        """Records past their time whose message is lost: they are older than every message that waits."""
        attributes = await self._queue_attributes(self._queue_url)
        before = now
        if any(_live_messages(attributes)):
            age = await self._oldest_age(now)
            if age is None:
                return []
            # due_at is due_seconds after the record was queued; a minute more for what figures lag.
            before = min(now, now - age - 60.0 + self._settings.due_seconds)
        parts = await _together(self._query(f"q{shard}", limit, before=before) for shard in range(SHARDS))
        return [found for part in parts for found in part]

    async def _oldest_age(self, now: float) -> float | None:
        """The age in seconds of the oldest message that waits, by CloudWatch; none if it has no figure."""
        answer = await self._client.call(
            CLOUDWATCH,
            "GetMetricStatistics",
            {
                "Namespace": "AWS/SQS",
                "MetricName": "ApproximateAgeOfOldestMessage",
                "Dimensions": [{"Name": "QueueName", "Value": self._queue_url.rpartition("/")[2]}],
                "StartTime": int(now) - OLDEST_AGE_SECONDS,
                "EndTime": int(now),
                "Period": 60,
                "Statistics": ["Maximum"],
            },
        )
        points = answer.body.get("Datapoints") or []
        return max((float(point["Maximum"]) for point in points), default=None)

    # Politeness. A host's item is read, changed here and written if nobody has changed it meanwhile.

    async def _change_hosts(self, changes: Sequence[tuple[str, HostChange[T]]]) -> list[T]:
        """Apply changes to hosts, each atomically; those of one host in order, in one write."""
        answers: dict[int, T] = {}
        by_host: defaultdict[str, list[int]] = defaultdict(list)
        for i, (host, _) in enumerate(changes):
            by_host[host].append(i)
        waiting = sorted(by_host)
        patience = self._patience("BatchExecuteStatement")
        async with contextlib.AsyncExitStack() as locks:
            # Within this process they take turns; always in the same order, so that none waits in a ring.
            for host in waiting:
                lock = self._host_locks.setdefault(host, asyncio.Lock())
                await locks.enter_async_context(lock)
            while waiting:
                # What was read or written last is likely to be still so: then nothing need be read.
                known = {host: self._hosts[host] for host in waiting if host in self._hosts}
                fresh = await self._read_hosts([host for host in waiting if host not in known])
                known.update(fresh)
                pending: list[_HostWrite] = []
                again = []
                for host in waiting:
                    state = known[host].state
                    for i in by_host[host]:
                        state, answers[i] = changes[i][1](state)
                    if state is not known[host].state:
                        pending.append(self._host_write(host, known[host].stamp, state))
                    elif host not in fresh:  # only what is fresh may say that nothing is to be done
                        del self._hosts[host]
                        again.append(host)
                lost = await self._write_hosts(pending)
                waiting = again + lost
                if lost:
                    await patience.wait(f"{len(lost)} hosts are changed by others all the time", longest=0.2)
        return [answers[i] for i in range(len(changes))]

    def _host_write(self, host: str, stamp: str | None, state: _HostState) -> _HostWrite:
        sums = self._host_sums.pop(host, None)
        if sums is not None:
            state = msgspec.structs.replace(state, row=sums.added_to(state.row))
        new = _KnownHost(f"{self._rng.getrandbits(48):012x}", state)
        row, key = _s(msgspec.json.encode(state).decode()), _host_key(host)
        if stamp is None:
            listed = {"due_shard": _s("h"), "due_at": _n(0)}
            statement = self._insert({"url": _s(key), "row": row, "stamp": _s(new.stamp or ""), **listed})
        else:
            parameters = [row, _s(new.stamp or ""), _s(key), _s(stamp)]
            statement = self._statement(CHANGE_HOST, key, parameters)
        return _HostWrite(host, new, sums, statement)

    async def _write_hosts(self, pending: list[_HostWrite]) -> list[str]:
        """Write hosts; which ones somebody else had changed."""
        done: set[str] = set()
        try:
            written = await self._write([write.statement for write in pending])
            unsure = [
                write.statement.url
                for write, result in zip(pending, written, strict=True)
                if result.is_unsure and not result.is_done
            ]
            found = await self._read(unsure)
            done.update(
                write.host
                for write, result in zip(pending, written, strict=True)
                if result.is_done or _text(found.get(write.statement.url, {}), "stamp") == write.new.stamp
            )
        finally:
            for write in pending:
                if write.host in done:
                    self._remember_host(write.host, write.new)
                else:
                    self._hosts.pop(write.host, None)
                    if write.sums is not None:
                        self._host_sums[write.host].add(write.sums)
        return [write.host for write in pending if write.host not in done]

    def _remember_host(self, host: str, known: _KnownHost) -> None:
        self._hosts[host] = known
        self._hosts.move_to_end(host)
        while len(self._hosts) > CACHED_HOSTS:
            self._hosts.popitem(last=False)

    async def _read_hosts(self, hosts: Sequence[str]) -> dict[str, _KnownHost]:
        items = await self._read(_host_key(host) for host in hosts)
        found = {}
        for host in hosts:
            item = items.get(_host_key(host))
            known = _KnownHost(None, _HostState(row=HostRow(host=host)))
            if item is not None:
                known = _KnownHost(item["stamp"]["S"], _host_decoder.decode(item["row"]["S"]))
            found[host] = known
            self._remember_host(host, known)
        return found

    async def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        known = await self._read_hosts(list(dict.fromkeys(hosts)))
        rows = {}
        for host in hosts:
            sums = self._host_sums.get(host)
            row = known[host].state.row
            rows[host] = sums.added_to(row) if sums else row
        return rows

    async def scan_hosts(self) -> list[HostRow]:
        await self._flush()
        keys = [key for key, _ in await self._query("h", 2**53)]
        rows = []
        for part in _batches(keys, 10 * READ_BATCH):
            items = await self._read(part)
            rows += [_host_decoder.decode(item["row"]["S"]).row for item in items.values()]
        return sorted(rows, key=lambda row: row.host)

    async def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        now = self._clock()

        def saved(row: HostRow) -> HostChange[bool]:
            def change(state: _HostState) -> tuple[_HostState, bool]:
                old = state.row
                if old.version != row.version:
                    return state, False
                next_slot = old.next_slot
                if row.generation > old.generation:
                    next_slot = max(now + delay_of(row), row.rest_until)
                new = msgspec.structs.replace(
                    row,
                    version=row.version + 1,
                    next_slot=next_slot,
                    **{name: getattr(old, name) for name in FRONTIERS_OWN_FIELDS},
                )
                return msgspec.structs.replace(state, row=new), True

            return change

        return await self._change_hosts([(row.host, saved(row)) for row in rows])

    async def release_host(self, host: str) -> int:  # noqa: ARG002 - the port's signature
        return 0  # SQS cannot look for messages: they come back at their time

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        def reserved(demand: SlotDemand) -> HostChange[float | None]:
            def change(state: _HostState) -> tuple[_HostState, float | None]:
                row = state.row
                if row.generation != demand.generation:
                    return state, None
                first = max(self._clock(), row.next_slot, row.rest_until)
                row = msgspec.structs.replace(row, next_slot=first + demand.count * demand.spacing_seconds)
                return msgspec.structs.replace(state, row=row), first

            return change

        return await self._change_hosts([(demand.host, reserved(demand)) for demand in demands])

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        def entered(entrance: Entrance) -> HostChange[Admission]:
            return lambda state: _admit(state, entrance, self._clock())

        return await self._change_hosts([(entrance.host, entered(entrance)) for entrance in entrances])

    async def leave(self, exits: Sequence[Exit]) -> None:
        def left(end: Exit) -> HostChange[None]:
            def change(state: _HostState) -> tuple[_HostState, None]:
                row = state.row
                row = msgspec.structs.replace(
                    row,
                    last_request=max(row.last_request, end.requested_at),
                    latency_seconds=0.7 * row.latency_seconds + 0.3 * end.latency_seconds,
                )
                requests = {token: until for token, until in state.requests.items() if token != end.token}
                return _HostState(row=row, requests=requests), None

            return change

        await self._change_hosts([(end.host, left(end)) for end in exits])

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        items = await self._read(_robots_key(origin) for origin in origins)
        rows = {}
        for origin in origins:
            item = items.get(_robots_key(origin))
            if item is not None and "row" in item:
                packed = base64.b64decode(item["row"]["B"])
                rows[origin] = _robots_decoder.decode(zlib.decompress(packed))
        return rows

    async def lease_robots(self, origin: str, *, until: float) -> bool:
        token = secrets.token_hex(6)
        answer = await self._update(
            _robots_key(origin),
            {
                "UpdateExpression": "SET lease_until = :until, lease_id = :id",
                "ConditionExpression": "attribute_not_exists(lease_until) OR lease_until < :now OR lease_id = :id",
                "ExpressionAttributeValues": {":until": _n(until), ":now": _n(self._clock()), ":id": _s(token)},
            },
        )
        return answer is not None

    async def save_robots(self, row: RobotsRow) -> None:
        packed = zlib.compress(msgspec.msgpack.encode(row), 6)
        while len(packed) > MAX_ROBOTS_BYTES:  # no rules in words are so long when compressed
            row = msgspec.structs.replace(row, body=row.body[: len(row.body) * 3 // 4])
            packed = zlib.compress(msgspec.msgpack.encode(row), 6)
        await self._update(
            _robots_key(row.origin),
            {
                "UpdateExpression": "SET #row = :row, lease_until = :zero",
                "ExpressionAttributeNames": {"#row": "row"},
                "ExpressionAttributeValues": {
                    ":row": {"B": base64.b64encode(packed).decode()},
                    ":zero": _n(0),
                },
            },
        )

    # Sums.

    async def flush(self) -> None:
        """Write the sums that are gathered here: for a process that may never run again."""
        await self._flush()

    async def _flush_if_due(self) -> None:
        if self._clock() - self._flushed_at >= FLUSH_SECONDS or len(self._host_sums) >= WRITE_BATCH:
            await self._flush()

    async def _flush(self) -> None:
        """Write the sums that were gathered here."""
        self._flushed_at = self._clock()
        counted, self._counted = self._counted, Counter()
        changes = {name: number for name, number in counted.items() if number}
        if changes:
            names = {f"#{i}": name for i, name in enumerate(changes)}
            values = {f":{i}": _n(number) for i, number in enumerate(changes.values())}
            terms = ", ".join(f"#{i} :{i}" for i in range(len(changes)))
            try:
                await self._update(
                    self._counter_key,
                    {
                        "UpdateExpression": f"ADD {terms}",
                        "ExpressionAttributeNames": names,
                        "ExpressionAttributeValues": values,
                    },
                )
            except FrontierBusyError:
                self._counted.update(changes)
                raise
        for part in _batches(list(self._host_sums), WRITE_BATCH):
            await self._change_hosts([(host, _touched) for host in part])

    async def counts(self, *, exact: bool = False) -> Counts:
        """Records by status and reason.

        Quick: the sums that workers write every few seconds, and the index of open records. Up to
        :data:`EXACT_OPEN` open records are counted exactly, so "none open" is never a guess. Sums
        are behind by what other workers have gathered in :data:`FLUSH_SECONDS`, and off by as much
        for each that was killed. ``exact`` reads the whole table and mends the sums.
        """
        await self._flush()
        if exact:
            return await self._recount()
        numbers, open_records = await self._counters(), await self._open_records()
        by_status = {status: max(0, numbers[status]) for status in Status}
        if open_records is not None:
            exactly = Counter(_text(item, "status") for item in (await self._read(open_records)).values())
            for status in (Status.QUEUED, Status.PROCESSING):
                by_status[status] = exactly[status]
        elif by_status[Status.QUEUED] + by_status[Status.PROCESSING] <= EXACT_OPEN:
            by_status[Status.QUEUED] = EXACT_OPEN + 1
        return _counts(by_status, numbers)

    async def _counters(self) -> Counter[str]:
        items = await self._read(f"counter {shard}" for shard in range(COUNTER_SHARDS))
        numbers: Counter[str] = Counter()
        for item in items.values():
            numbers.update({name: int(float(value["N"])) for name, value in item.items() if "N" in value})
        return numbers

    async def _open_records(self) -> list[str] | None:
        """The URLs of open records; none if there are many."""
        found: list[str] = []
        for kind in "qp":
            shards = [f"{kind}{shard}" for shard in range(SHARDS)]
            for part in await _together(self._query(shard, EXACT_OPEN + 1) for shard in shards):
                found += [url for url, _ in part]
            if len(found) > EXACT_OPEN:
                return None
        return found

    async def _recount(self) -> Counts:
        numbers: Counter[str] = Counter()
        before = await self._counters()
        async for records in self.scan():
            for record in records:
                numbers[record.status] += 1
                if record.status.is_final and record.outcome is not None:
                    numbers["bytes"] += record.outcome.bytes
                    if record.outcome.reason is not None:
                        numbers[f"reason:{record.outcome.reason}"] += 1
        names = numbers.keys() | before.keys()
        self._counted.update({name: numbers[name] - before[name] for name in names})
        await self._flush()
        return _counts({status: numbers[status] for status in Status}, numbers)

    # Looking.

    async def get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        items = await self._read(urls)
        return {url: _record_of(items[url]) for url in urls if url in items}

    async def scan(self, *, status: Status | None = None, host: str | None = None) -> AsyncIterator[list[UrlRecord]]:
        async for items in self._scan():
            records = [_record_of(item) for item in items if item["url"]["S"].startswith("http")]
            yield [
                record
                for record in records
                if (status is None or record.status is status) and (host is None or record.host == host)
            ]

    async def _scan(self, **parameters: Any) -> AsyncIterator[list[Item]]:
        request = {"TableName": self._table, **parameters}
        while True:
            answer = (await self._dynamodb("Scan", request)).body
            yield answer.get("Items") or []
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def queue_stats(self) -> QueueStats:
        """Messages by kind. SQS's figures are approximate, and about a minute behind under load."""
        attributes, dead = await self._queue_attributes(self._queue_url), await self._dead_count()
        visible, in_flight, delayed = _live_messages(attributes)
        age = await self._oldest_age(self._clock()) if visible or in_flight or delayed else None
        return QueueStats(visible=visible, in_flight=in_flight, delayed=delayed, dead=dead, oldest_age_seconds=age)

    async def _dead_count(self) -> int:
        if self._dead_url is None:
            return 0
        return sum(_live_messages(await self._queue_attributes(self._dead_url)))

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        letters = []
        handles = []
        async for messages in self._receive_dead(limit):
            for message in messages:
                handles.append(message["ReceiptHandle"])
                letters.append(
                    DeadLetter(
                        message_id=message["MessageId"],
                        body=message["Body"],
                        receive_count=int(message["Attributes"]["ApproximateReceiveCount"]),
                        sent_at=int(message["Attributes"]["SentTimestamp"]) / 1000,
                    )
                )
        if self._dead_url is not None:  # seen by everybody again
            entries = [{"ReceiptHandle": handle, "VisibilityTimeout": 0} for handle in handles]
            for batch in _batches(entries, SQS_BATCH):
                await self._sqs_batch("ChangeMessageVisibilityBatch", self._dead_url, batch)
        return sorted(letters, key=lambda letter: letter.sent_at)

    async def _receive_dead(self, limit: int) -> AsyncIterator[list[dict[str, Any]]]:
        left = limit
        while self._dead_url is not None and left > 0:
            request = {
                "QueueUrl": self._dead_url,
                "MaxNumberOfMessages": min(left, SQS_BATCH),
                "WaitTimeSeconds": 1,  # asks all of SQS's servers, not a few
                "VisibilityTimeout": 60,
                "AttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
            }
            answer = await self._client.call(SQS, "ReceiveMessage", request, wait_seconds=1)
            messages = answer.body.get("Messages") or []
            if not messages:
                return
            left -= len(messages)
            yield messages

    async def redrive(self, limit: int = 1000) -> int:
        moved = 0
        async for messages in self._receive_dead(limit):
            await self.send([message["Body"] for message in messages])
            await self._delete([message["ReceiptHandle"] for message in messages], self._dead_url)
            moved += len(messages)
        return moved

    # Workers.

    async def check_in(self, worker_id: str, *, session: str, ttl_seconds: float) -> bool:
        now = self._clock()
        started_at = self._started.setdefault((worker_id, session), now)
        answer = await self._update(
            f"worker {worker_id}",
            {
                "UpdateExpression": (
                    "SET #session = :session, started_at = :started, seen_at = :now, expires_at = :expires, "
                    "due_shard = :shard, due_at = :zero"
                ),
                "ConditionExpression": ("attribute_not_exists(#session) OR #session = :session OR expires_at < :now"),
                "ExpressionAttributeNames": {"#session": "session"},
                "ExpressionAttributeValues": {
                    ":session": _s(session),
                    ":started": _n(started_at),
                    ":now": _n(now),
                    ":expires": _n(now + ttl_seconds),
                    ":shard": _s("w"),
                    ":zero": _n(0),
                },
            },
        )
        return answer is not None

    async def check_out(self, worker_id: str, *, session: str) -> None:
        self._started.pop((worker_id, session), None)
        try:
            await self._dynamodb(
                "DeleteItem",
                {
                    "TableName": self._table,
                    "Key": {"url": _s(f"worker {worker_id}")},
                    "ConditionExpression": "#session = :session",
                    "ExpressionAttributeNames": {"#session": "session"},
                    "ExpressionAttributeValues": {":session": _s(session)},
                },
            )
        except AwsError as error:
            if error.code != "ConditionalCheckFailedException":
                raise

    async def workers(self) -> list[WorkerRow]:
        now = self._clock()
        keys = [key for key, _ in await self._query("w", 2**53)]
        return sorted(
            (
                WorkerRow(
                    worker_id=key.removeprefix("worker "),
                    started_at=_number(item, "started_at"),
                    seen_at=_number(item, "seen_at"),
                )
                for key, item in (await self._read(keys)).items()
                if _number(item, "expires_at") >= now
            ),
            key=lambda row: row.worker_id,
        )

    # Clearing.

    async def purge_queue(self) -> int:
        """Remove every message. AWS allows it once in 60 seconds: :class:`FrontierBusyError` until then.

        It takes up to a minute to take effect, also on messages that are sent meanwhile.
        """
        removed = 0
        for url in (self._queue_url, self._dead_url):
            if url is None:
                continue
            removed += sum(_live_messages(await self._queue_attributes(url)))
            try:
                await self._client.call(SQS, "PurgeQueue", {"QueueUrl": url})
            except AwsError as error:
                if error.code in ("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress"):
                    raise FrontierBusyError(
                        f"{url} was purged less than 60 s ago: AWS allows it once a minute, try again then"
                    ) from error
                raise
        return removed

    async def clear_table(self) -> int:
        self._counted.clear()
        self._host_sums.clear()
        self._hosts.clear()
        names = {"#url": "url"}
        removed = 0

        async def clear(segment: int) -> None:
            nonlocal removed
            pages = self._scan(
                Segment=segment,
                TotalSegments=4,
                ProjectionExpression="#url",
                ExpressionAttributeNames=names,
            )
            async for items in pages:
                keys = [key for item in items if not (key := item["url"]["S"]).startswith("worker ")]
                await _together(self._delete_items(part) for part in _batches(keys, WRITE_BATCH))
                removed += sum(key.startswith("http") for key in keys)

        await _together(clear(segment) for segment in range(4))
        return removed

    async def _delete_items(self, keys: list[str]) -> None:
        waiting: list[Any] = [{"DeleteRequest": {"Key": {"url": _s(key)}}} for key in keys]
        patience = self._patience("BatchWriteItem")
        while waiting:
            answer = await self._dynamodb("BatchWriteItem", {"RequestItems": {self._table: waiting}})
            waiting = (answer.body.get("UnprocessedItems") or {}).get(self._table) or []
            if waiting:
                await patience.wait(f"{len(waiting)} items were not processed")


class _Place(NamedTuple):
    """Where the queue and the table are, by the environment."""

    queue_url: str
    table: str
    region: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> _Place:
        queue_url, table = environment.get("QUEUE_URL", ""), environment.get("TABLE_NAME", "")
        if not queue_url or not table:
            raise FrontierUnavailableError("aws: needs QUEUE_URL and TABLE_NAME: set both in the environment or .env")
        if urlsplit(queue_url).scheme not in ("http", "https") or queue_url.count("/") < 4:
            raise FrontierUnavailableError(
                f"QUEUE_URL is {queue_url!r}: it must look like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
            )
        own = region_of(queue_url)
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or own
        if region is None:
            raise FrontierUnavailableError("no AWS region: set AWS_REGION")
        if own is not None and region != own:
            raise FrontierUnavailableError(
                f"QUEUE_URL is in {own}, but AWS_REGION is {region}: the queue and the table must share a region"
            )
        return cls(queue_url, table, region)

    def client(self, environment: Mapping[str, str], rng: random.Random, give_up_seconds: float) -> AwsClient:
        return AwsClient(
            find_keys(environment),
            region=self.region,
            endpoints=endpoints_for(self.region, environment, self.queue_url),
            rng=rng,
            give_up_seconds=give_up_seconds,
        )


class _Patience:
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


def region_of(queue_url: str) -> str | None:
    """The region in the URL of a queue on AWS; none for another host."""
    parts = (urlsplit(queue_url).hostname or "").split(".")
    return parts[1] if len(parts) >= 4 and parts[0] == "sqs" and parts[2] == "amazonaws" else None


def endpoints_for(region: str, environment: Mapping[str, str], queue_url: str | None = None) -> dict[Service, str]:
    """Where each service answers: as the environment says, else as AWS names it."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    endpoints = {}
    for service, name in ((SQS, "SQS"), (DYNAMODB, "DYNAMODB"), (CLOUDWATCH, "CLOUDWATCH")):
        endpoint = environment.get(f"AWS_ENDPOINT_URL_{name}") or environment.get("AWS_ENDPOINT_URL")
        if not endpoint and service is SQS and queue_url is not None:
            parts = urlsplit(queue_url)
            endpoint = f"{parts.scheme}://{parts.netloc}"
        endpoints[service] = (endpoint or f"https://{service.name}.{region}.{suffix}").rstrip("/") + "/"
    return endpoints


def table_definition(name: str) -> dict[str, Any]:
    """The table as CreateTable takes it: on demand, one sparse index with keys only."""
    return {
        "TableName": name,
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


async def create_queue_and_table(
    queue: str, table: str, settings: FrontierSettings, *, environment: Mapping[str, str] = os.environ
) -> str:
    """Make a queue, its dead-letter queue (``QUEUE-dead``) and a table that fit; the queue's URL.

    For trying things out against a local engine. What exists already, of the same name, is kept.
    """
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    client = AwsClient(
        find_keys(environment),
        region=region,
        endpoints=endpoints_for(region, environment),
        rng=random.Random(secrets.randbits(64)),
        give_up_seconds=OPEN_SECONDS,
    )
    retention = str(14 * 86_400)
    try:
        request: dict[str, Any] = {
            "QueueName": f"{queue}-dead",
            "Attributes": {"MessageRetentionPeriod": retention},
        }
        dead_url = (await client.call(SQS, "CreateQueue", request)).body["QueueUrl"]
        request = {"QueueUrl": dead_url, "AttributeNames": ["QueueArn"]}
        dead = (await client.call(SQS, "GetQueueAttributes", request)).body["Attributes"]
        redrive = {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": str(settings.max_receives)}
        attributes = {
            "VisibilityTimeout": str(math.ceil(settings.visibility_seconds)),
            "MessageRetentionPeriod": retention,
            "RedrivePolicy": msgspec.json.encode(redrive).decode(),
        }
        request = {"QueueName": queue, "Attributes": attributes}
        queue_url: str = (await client.call(SQS, "CreateQueue", request)).body["QueueUrl"]
        try:
            await client.call(DYNAMODB, "CreateTable", table_definition(table))
        except AwsError as error:
            if error.code != "ResourceInUseException":
                raise
        while True:
            answer = await client.call(DYNAMODB, "DescribeTable", {"TableName": table})
            if answer.body["Table"]["TableStatus"] == "ACTIVE":
                return queue_url
            await asyncio.sleep(0.2)
    finally:
        await client.close()


FRONTIERS_OWN_FIELDS: Final = (
    "last_request",
    "latency_seconds",
    *_HostSums.__struct_fields__,
)
"""What a host row has from the frontier alone: a save of the row does not write it."""


def _admit(state: _HostState, entrance: Entrance, now: float) -> tuple[_HostState, Admission]:
    row = state.row
    if entrance.generation is not None and entrance.generation != row.generation:
        return state, Admission(entered=Entered.VOID)
    again_at = max(row.rest_until, row.last_request + entrance.delay_seconds)
    if again_at > now:
        return state, Admission(entered=Entered.BUSY, again_at=again_at)
    requests = {token: until for token, until in state.requests.items() if until >= now}
    if len(requests) >= entrance.per_host:
        soon = now + min(max(entrance.delay_seconds / 4, 0.02), 0.5)
        return state, Admission(entered=Entered.BUSY, again_at=min(soon, *requests.values()))
    requests[entrance.token] = entrance.until
    next_slot = row.next_slot
    if entrance.generation is None:
        next_slot = max(now, next_slot) + entrance.delay_seconds
    row = msgspec.structs.replace(row, last_request=now, next_slot=next_slot)
    return _HostState(row=row, requests=requests), Admission(entered=Entered.YES)


def _touched(state: _HostState) -> tuple[_HostState, None]:
    """No change but the sums that ride along with every write."""
    return msgspec.structs.replace(state), None


async def _together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all at once; the first failure cancels the others and is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _batches(values: Sequence[T], size: int) -> list[list[T]]:
    return [list(values[i : i + size]) for i in range(0, len(values), size)]


# DynamoDB's JSON.


def _s(text: str) -> dict[str, Any]:
    return {"S": str(text)}


def _n(number: float) -> dict[str, Any]:
    return {"N": str(int(number)) if number == int(number) else repr(number)}


def _text(item: Item, name: str) -> str | None:
    value = item.get(name)
    return value["S"] if value is not None else None


def _number(item: Item, name: str) -> float:
    """A number of an item; 0 where it has none."""
    value = item.get(name)
    return float(value["N"]) if value is not None else 0.0


def _optional(item: Item, name: str) -> float | None:
    return float(item[name]["N"]) if name in item else None


def _key_of(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{part['AttributeName']} ({part['KeyType']})" for part in table["KeySchema"])


def _shard_of(url: str, *, is_parked: bool) -> str:
    return f"{'p' if is_parked else 'q'}{zlib.crc32(url.encode()) % SHARDS}"


def _host_key(host: str) -> str:
    return f"host {host}"


def _robots_key(origin: str) -> str:
    return f"robots {origin}"


# Records.


def _record_of(item: Item) -> UrlRecord:
    url = item["url"]["S"]
    attempt = int(_number(item, "attempt"))
    outcome = _text(item, "outcome")
    return UrlRecord(
        url=url,
        status=Status(item["status"]["S"]),
        depth=int(_number(item, "depth")),
        parent=_text(item, "parent"),
        host=host_of(url),
        lastmod=_optional(item, "lastmod"),
        attempt=attempt,
        unended=int(_number(item, "unended")),
        tries=int(_number(item, "tries")),
        worker_id=_text(item, "worker_id"),
        claim_id=_text(item, "claim_id") if attempt else None,
        lease_until=_optional(item, "lease_until"),
        due_at=_optional(item, "due_at"),
        parked="parked_body" in item,
        enqueued_at=_number(item, "enqueued_at"),
        claimed_at=_optional(item, "claimed_at"),
        finished_at=_optional(item, "finished_at"),
        outcome=_outcome_decoder.decode(outcome) if outcome is not None else None,
    )


def _encode_outcome(outcome: Outcome) -> str:
    """JSON without what has its default value: every kilobyte of an item costs a write unit."""
    fields = msgspec.structs.asdict(outcome)
    defaults = msgspec.structs.asdict(Outcome(status=outcome.status))
    kept = {n: value for n, value in fields.items() if n == "status" or value != defaults[n]}
    return msgspec.json.encode(kept).decode()


def _entry_of(item: Item) -> Entry:
    return Entry(
        url=item["url"]["S"],
        depth=int(_number(item, "depth")),
        parent=_text(item, "parent"),
        settings=decode_settings(_text(item, "settings") or "{}"),
        lastmod=_optional(item, "lastmod"),
    )


def _message_for(entry: Entry) -> Message:
    return Message(
        url=entry.url, depth=entry.depth, parent=entry.parent, settings=entry.settings, lastmod=entry.lastmod
    )


def _entry_for(message: Message) -> Entry:
    return Entry(
        url=message.url,
        depth=message.depth,
        parent=message.parent,
        settings=message.settings,
        lastmod=message.lastmod,
    )


def _won(url: str, item: Item) -> Won:
    return Won(
        url=url,
        attempt=int(_number(item, "attempt")),
        unended=int(_number(item, "unended")),
        tries=int(_number(item, "tries")),
        worker_id=item["worker_id"]["S"],
        claim_id=item["claim_id"]["S"],
        lease_until=_number(item, "lease_until"),
    )


def _fence(claim: Won) -> list[dict[str, Any]]:
    """The parameters of ``WHERE url AND attempt AND claim_id``."""
    return [_s(claim.url), _n(claim.attempt), _s(claim.claim_id)]


def _is_held(item: Item | None, claim: Won) -> bool:
    return (
        item is not None
        and _text(item, "status") == Status.PROCESSING
        and _number(item, "attempt") == claim.attempt
        and _text(item, "claim_id") == claim.claim_id
    )


def _counts(by_status: dict[Status, int], numbers: Mapping[str, int]) -> Counts:
    return Counts(
        by_status=by_status,
        by_reason={reason: n for reason in Reason if (n := numbers.get(f"reason:{reason}", 0)) > 0},
        bytes=max(0, numbers.get("bytes", 0)),
    )


# Messages.


def _outgoing(message: Message, delay_seconds: int = 0) -> Outgoing:
    return Outgoing(encode_message(message), host_of(message.url), delay_seconds)


def _deferred(deferral: Deferral, now: float) -> Outgoing:
    delay = _delay_until(deferral.until, now)
    if deferral.message is not None:
        return _outgoing(deferral.message, delay)
    message = decode_message(deferral.delivery.body)
    host = None if isinstance(message, BadBody) else host_of(message.url)
    return Outgoing(deferral.delivery.body, host, delay)


def _body_of(deferral: Deferral) -> str:
    return encode_message(deferral.message) if deferral.message is not None else deferral.delivery.body


def _sent_entry(message: Outgoing) -> dict[str, Any]:
    entry: dict[str, Any] = {"MessageBody": message.body}
    if message.delay_seconds:
        entry["DelaySeconds"] = message.delay_seconds
    if message.host:
        entry["MessageGroupId"] = message.host[-128:]
    return entry


def _is_far(moment: float, now: float) -> bool:
    return moment > now + MAX_DELAY_SECONDS


def _delay_until(moment: float, now: float) -> int:
    """Whole seconds, not too few; as many as SQS takes."""
    return min(max(0, math.ceil(moment - now)), MAX_DELAY_SECONDS)


def _is_stale(delivery: Delivery, now: float) -> bool:
    """Whether a delivery's time is up: its message is visible again, or somebody else's."""
    stale_at, separator, _ = delivery.receipt.partition(" ")
    return bool(separator) and float(stale_at) <= now


def _handle_of(receipt: str) -> str:
    """SQS's own receipt handle. Ours has before it when it goes stale."""
    return receipt.rpartition(" ")[2]


def _live_messages(attributes: Mapping[str, str]) -> tuple[int, int, int]:
    """Visible, in flight, delayed."""
    return (
        int(attributes.get("ApproximateNumberOfMessages", 0)),
        int(attributes.get("ApproximateNumberOfMessagesNotVisible", 0)),
        int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
    )


def _payload_bytes(request: Mapping[str, Any]) -> int:
    return sum(len(entry.get("MessageBody", "")) for entry in request.get("Entries", ()))
