"""One DynamoDB table whose key is ``url``, in batches: what failed of a batch is tried again alone.

Every statement of a batch has an answer of its own. Only a condition that did not hold is an outcome; what was
throttled or failed is tried again, and raised in the end. What the items say is not here: see ``items``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqspider.frontier.aws.attributes import Item, n, s
from sqspider.frontier.aws.batches import batches, together
from sqspider.frontier.aws.client import Answer, AwsClient
from sqspider.frontier.aws.errors import AwsError, Meaning, for_people
from sqspider.frontier.aws.transport import DYNAMODB
from sqspider.frontier.values import FrontierError, FrontierUnavailableError

KEY: Final = "url (S, HASH)"
INDEX: Final = "due"
INDEX_KEY: Final = "due_shard (S, HASH), due_at (N, RANGE)"
WRITE_BATCH: Final = 25  # BatchExecuteStatement, BatchWriteItem
READ_BATCH: Final = 100  # BatchGetItem
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

    async def check(self) -> None:
        """Raise :class:`FrontierUnavailableError` if the table is not there, or has another key or index."""
        table = (await self._call("DescribeTable", {"TableName": self.name})).body["Table"]
        if (key := _schema_of(table)) != KEY:
            raise FrontierUnavailableError(f"the table {self.name} has the key {key}, not {KEY}: name another table")
        keys = {index["IndexName"]: _schema_of(table, index) for index in table.get("GlobalSecondaryIndexes") or []}
        if keys.get(INDEX) != INDEX_KEY:
            raise FrontierUnavailableError(
                f"the table {self.name} has no index {INDEX!r} with the key {INDEX_KEY}: name another table"
            )

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
        backoff = self._client.backoff("BatchExecuteStatement")
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
            await backoff.wait(f"{len(again)} statements: {trouble}")

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

    async def read(self, keys: Iterable[str], *, projection: tuple[str, ...] | None = None) -> dict[str, Item]:
        """Items by key. Consistent, but for a projection (some names beside the key): that is half as dear, and may
        be behind."""
        # A key that is longer than keys can be is not there, and would spoil the batch.
        wanted = [key for key in dict.fromkeys(keys) if len(key.encode()) <= MAX_KEY_BYTES]
        parts = await together(self._read_batch(part, projection) for part in batches(wanted, READ_BATCH))
        return {url: item for part in parts for url, item in part.items()}

    async def _read_batch(self, keys: list[str], projection: tuple[str, ...] | None) -> dict[str, Item]:
        items: dict[str, Item] = {}
        backoff = self._client.backoff("BatchGetItem")
        asked: dict[str, Any] = {"Keys": [{"url": s(key)} for key in keys], "ConsistentRead": projection is None}
        if projection is not None:
            names = ("url", *projection)
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
            await backoff.wait(f"{len(left['Keys'])} keys were not processed")

    async def query(
        self, shard: str, limit: int, *, before: float | None = None, after: float | None = None
    ) -> list[tuple[str, float]]:
        """Keys and ``due_at`` of a shard of the index, the first ones first; ``before`` or ``after`` a moment."""
        found: list[tuple[str, float]] = []
        async for page in self.walk(shard, limit, before=before, after=after):
            found += page
        return found

    async def walk(
        self, shard: str, limit: int = 2**53, *, before: float | None = None, after: float | None = None
    ) -> AsyncIterator[list[tuple[str, float]]]:
        """The same, in pages: for a shard of any length."""
        left = limit
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
            request["Limit"] = min(left, 1000)
            answer = (await self.call("Query", request)).body
            page = [(item["url"]["S"], float(item["due_at"]["N"])) for item in answer.get("Items", [])]
            left -= len(page)
            yield page
            if "LastEvaluatedKey" not in answer or left <= 0:
                return
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
        """The statement that writes a new item; its condition is that none has the key."""
        fields = ", ".join(f"'{name}': ?" for name in item)
        text = f'INSERT INTO "{self.name}" VALUE {{{fields}}}'
        return Statement(item["url"]["S"], text, list(item.values()))

    def statement(self, text: str, url: str, parameters: Sequence[dict[str, Any]]) -> Statement:
        """A statement on this table. ``text`` names it ``{table}``."""
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
        """Delete up to :data:`WRITE_BATCH` items, whether they are there or not."""
        waiting: list[Any] = [{"DeleteRequest": {"Key": {"url": s(key)}}} for key in keys]
        backoff = self._client.backoff("BatchWriteItem")
        while waiting:
            answer = await self.call("BatchWriteItem", {"RequestItems": {self.name: waiting}})
            waiting = (answer.body.get("UnprocessedItems") or {}).get(self.name) or []
            if waiting:
                await backoff.wait(f"{len(waiting)} items were not processed")


def _error_of(response: Mapping[str, Any]) -> AwsError | None:
    """The error in the answer of one statement of a batch."""
    error = response.get("Error")
    if not error:
        return None
    return AwsError(DYNAMODB, "BatchExecuteStatement", str(error.get("Code", "")), str(error.get("Message", "")))


def mark_by(rng: random.Random) -> str:
    """A mark by which a write is known again when its answer was lost."""
    return f"{rng.getrandbits(48):012x}"


def _schema_of(table: Mapping[str, Any], index: Mapping[str, Any] | None = None) -> str:
    """The key of a table, or of one of its indexes: names, types and parts."""
    types = {part["AttributeName"]: part["AttributeType"] for part in table["AttributeDefinitions"]}
    parts = sorted((index or table)["KeySchema"], key=lambda part: str(part["KeyType"]))
    return ", ".join(f"{(name := part['AttributeName'])} ({types[name]}, {part['KeyType']})" for part in parts)
