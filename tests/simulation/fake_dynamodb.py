"""A table of DynamoDB in this process, as far as the crawler asks it: conditions, limits, an index that lags.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html,
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
"""

from __future__ import annotations

import bisect
import random
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqspider.frontier import Clock

from .expressions import (
    Item,
    Scope,
    UnreadableError,
    Update,
    Value,
    decimal_of,
    read_condition,
    read_insert,
    read_update_expression,
    read_update_statement,
)
from .fake_service import FAIR, Fates, RefusedError, Weather

KEY: Final = "url"
INDEX: Final = "due"
SHARD, MOMENT = "due_shard", "due_at"  # the index' key
MAX_ITEM_BYTES: Final = 400 * 1024
MAX_KEY_BYTES: Final = 2048
MAX_INDEX_HASH_BYTES: Final = 2048
MAX_STATEMENTS: Final = 25
MAX_READS: Final = 100
MAX_READ_BYTES: Final = 16 * 1024 * 1024  # in the answer of a BatchGetItem
PAGE_BYTES: Final = 1024 * 1024  # in the answer of a Query or Scan
FINAL: Final = ("done", "failed", "blocked")


class _Entry(NamedTuple):
    """An item's place in the index."""

    shard: str
    moment: Value

    @classmethod
    def of(cls, item: Item | None) -> _Entry | None:
        if item is None or SHARD not in item or MOMENT not in item:
            return None
        return cls(item[SHARD]["S"], item[MOMENT])


class FakeTable:
    """A table with the key ``url`` and the index ``due``. What it answers is what the actions answer.

    ``page_bytes``: less than AWS's, so that answers come in pages.
    """

    def __init__(
        self,
        name: str,
        description: Mapping[str, Any],
        *,
        clock: Clock,
        rng: random.Random,
        weather: Weather = FAIR,
        page_bytes: int = PAGE_BYTES,
    ) -> None:
        self.name = name
        self.items: dict[str, Item] = {}
        self.finished: Counter[str] = Counter()  # how often each record became final
        self._description = description
        self._clock, self._rng = clock, rng
        self._weather, self._page_bytes = weather, page_bytes
        self._before: dict[str, tuple[Item | None, float]] = {}  # what was there until when
        self._index: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)  # by shard: moment, key
        self._listed: dict[str, _Entry] = {}
        self._coming: deque[tuple[float, str, _Entry | None]] = deque()  # when the index knows

    def perform(self, action: str, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        """The answer to an action. Raises :class:`RefusedError`."""
        actions: dict[str, Callable[[Mapping[str, Any], Fates], dict[str, Any]]] = {
            "BatchExecuteStatement": self._batch_execute_statement,
            "BatchGetItem": self._batch_get_item,
            "BatchWriteItem": self._batch_write_item,
            "DeleteItem": self._delete_item,
            "DescribeTable": self._describe_table,
            "Query": self._query,
            "Scan": self._scan,
            "UpdateItem": self._update_item,
        }
        if action not in actions:
            raise RefusedError("UnknownOperationException", f"the fake has no {action}")
        try:
            return actions[action](request, fates)
        except UnreadableError as error:
            raise RefusedError("ValidationException", str(error)) from None

    def _see_name(self, name: str) -> None:
        if name != self.name:
            raise RefusedError("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found")

    # Writing.

    def _put(self, url: str, item: Item | None) -> None:
        old = self.items.get(url)
        if item is None:
            self.items.pop(url, None)
            self.finished.pop(url, None)
        else:
            self.items[url] = item
            was, status = (it.get("status", {}).get("S") for it in (old or {}, item))
            self.finished[url] += status in FINAL and was != status
        now = self._clock()
        self._before[url] = (old, now)
        if _Entry.of(old) != (entry := _Entry.of(item)):
            self._coming.append((now + self._weather.index_lag, url, entry))

    def _see(self, item: Item) -> None:
        """Raise if an item cannot be stored."""
        size = sum(len(name.encode()) + _size_of(value) for name, value in item.items())
        if size > MAX_ITEM_BYTES:
            raise UnreadableError("Item size has exceeded the maximum allowed size")
        if SHARD in item and not item[SHARD].get("S"):
            raise UnreadableError(f"Type mismatch for Index Key {SHARD} Expected: S")
        if MOMENT in item and "N" not in item[MOMENT]:
            raise UnreadableError(f"Type mismatch for Index Key {MOMENT} Expected: N")

    def _batch_execute_statement(self, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        statements = request["Statements"]
        if not 1 <= len(statements) <= MAX_STATEMENTS:
            raise UnreadableError(f"Member must have length less than or equal to {MAX_STATEMENTS}")
        prepared = [self._prepared(statement) for statement in statements]
        if len({url for url, _ in prepared}) < len(prepared):
            raise UnreadableError("Batch contains duplicate keys: two operations on the same item")
        answers: list[dict[str, Any]] = []
        for _, execute in prepared:
            if not fates.strikes():
                answers.append(execute())
                continue
            code = fates.rng.choice(("ThrottlingError", "ProvisionedThroughputExceeded", "InternalServerError"))
            if code == "InternalServerError" and fates.rng.random() < 0.5:
                execute()
            answers.append({"Error": {"Code": code, "Message": "injected"}})
        return {"Responses": answers}

    def _prepared(self, statement: Mapping[str, Any]) -> tuple[str, Callable[[], dict[str, Any]]]:
        """The key of a statement, and what runs it. Raises where the whole batch is refused for it."""
        text, parameters = statement["Statement"], statement.get("Parameters")
        if parameters == []:
            raise UnreadableError("Parameters: Member must have length greater than or equal to 1")
        scope = Scope({f"?{i}": value for i, value in enumerate(parameters or (), 1)})
        for value in scope.values.values():
            _see_value(value)
        if text.split(None, 1)[0] == "INSERT":
            table, fields = read_insert(text)
            found = ((name, operand.of({}, scope)) for name, operand in fields)
            item = {name: value for name, value in found if value is not None}
            url = _key_of(item)
            return url, lambda: self._in_batch(table, lambda: self._insert(url, item))
        table, update = read_update_statement(text)
        url = _key_of({KEY: {"S": update.key(scope)}})
        return url, lambda: self._in_batch(table, lambda: self._update(url, update, scope))

    def _in_batch(self, table: str, execute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A statement's answer; what goes wrong with it concerns it alone."""
        try:
            self._see_name(table)
            return {"TableName": table, **execute()}
        except UnreadableError as error:
            return {"Error": {"Code": "ValidationError", "Message": str(error)}, "TableName": table}
        except RefusedError as error:
            code = error.code.removesuffix("Exception")
            return {"Error": {"Code": code, "Message": str(error)}, "TableName": table}

    def _insert(self, url: str, item: Item) -> dict[str, Any]:
        if url in self.items:
            raise RefusedError("DuplicateItem", "Duplicate primary key exists in table")
        self._see(item)
        self._put(url, item)
        return {}

    def _update(self, url: str, update: Update, scope: Scope) -> dict[str, Any]:
        item = self.items.get(url)
        if item is None or not update.test.holds(item, scope):
            raise RefusedError("ConditionalCheckFailed", "The conditional request failed")
        new = update.applied(item, scope)
        self._see(new)
        self._put(url, new)
        return {"Item": dict(new)} if update.returns else {}

    def _see_condition(self, url: str, request: Mapping[str, Any], scope: Scope) -> None:
        condition = request.get("ConditionExpression")
        if condition is not None and not read_condition(condition).holds(self.items.get(url, {}), scope):
            raise RefusedError("ConditionalCheckFailedException", "The conditional request failed")

    def _update_item(self, request: Mapping[str, Any], _: Fates) -> dict[str, Any]:
        self._see_name(request["TableName"])
        url, scope = _key_of(request["Key"]), Scope.of_request(request)
        for value in scope.values.values():
            _see_value(value)
        update = read_update_expression(request["UpdateExpression"])
        self._see_condition(url, request, scope)
        new = update.applied(self.items.get(url, {KEY: {"S": url}}), scope)
        self._see(new)
        self._put(url, new)
        return {"Attributes": dict(new)} if request.get("ReturnValues") == "ALL_NEW" else {}

    def _delete_item(self, request: Mapping[str, Any], _: Fates) -> dict[str, Any]:
        self._see_name(request["TableName"])
        url = _key_of(request["Key"])
        self._see_condition(url, request, Scope.of_request(request))
        self._put(url, None)
        return {}

    def _batch_write_item(self, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        ((table, writes),) = request["RequestItems"].items()
        self._see_name(table)
        urls = [_key_of(write["DeleteRequest"]["Key"]) for write in writes]
        _see_keys(urls, MAX_STATEMENTS)
        left = []
        for write, url in zip(writes, urls, strict=True):
            if fates.strikes():
                left.append(write)
            else:
                self._put(url, None)
        return {"UnprocessedItems": {table: left} if left else {}}

    # Reading.

    def _batch_get_item(self, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        ((table, asked),) = request["RequestItems"].items()
        self._see_name(table)
        _see_keys([_key_of(key) for key in asked["Keys"]], MAX_READS)
        names = Scope.of_request(asked).names
        found: list[Item] = []
        left: list[Any] = []
        size = 0
        for key in asked["Keys"]:
            if size > MAX_READ_BYTES or fates.strikes():
                left.append(key)
                continue
            item = self._read(key[KEY]["S"], is_consistent=asked.get("ConsistentRead", False))
            if item is not None:
                size += sum(_size_of(value) for value in item.values())
                found.append(_projected(item, asked.get("ProjectionExpression"), names))
        return {"Responses": {table: found}, "UnprocessedKeys": {table: {**asked, "Keys": left}} if left else {}}

    def _read(self, url: str, *, is_consistent: bool) -> Item | None:
        before, until = self._before.get(url, (None, 0.0))
        if not is_consistent and self._clock() < until + self._weather.read_lag and self._rng.random() < 0.5:
            return before
        return self.items.get(url)

    def _settle(self) -> None:
        """Let the index know what it is time to know."""
        now = self._clock()
        while self._coming and self._coming[0][0] <= now:
            _, url, entry = self._coming.popleft()
            old = self._listed.pop(url, None)
            if old is not None:
                moments = self._index[old.shard]
                del moments[bisect.bisect_left(moments, (float(old.moment["N"]), url))]
            if entry is not None:
                self._listed[url] = entry
                bisect.insort(self._index[entry.shard], (float(entry.moment["N"]), url))

    def _query(self, request: Mapping[str, Any], _: Fates) -> dict[str, Any]:
        self._see_name(request["TableName"])
        if request["IndexName"] != INDEX or request.get("ConsistentRead"):
            raise UnreadableError("Consistent reads are not supported on global secondary indexes")
        self._settle()
        scope, test = Scope.of_request(request), read_condition(request["KeyConditionExpression"])
        shard = next(part.parts[1].of({}, scope)["S"] for part in test.parts if part.parts[0].parts == (SHARD,))
        moments, at, found, size = self._index[shard], 0, list[Item](), 0
        start, limit = request.get("ExclusiveStartKey"), request.get("Limit", 2**53)
        if start is not None:
            at = bisect.bisect_right(moments, (float(start[MOMENT]["N"]), start[KEY]["S"]))
        for _moment, url in moments[at:]:
            key = {KEY: {"S": url}, SHARD: {"S": shard}, MOMENT: self._listed[url].moment}
            if not test.holds(key, scope):
                continue
            found.append(key)
            size += sum(_size_of(value) for value in key.values())
            if len(found) == limit or size > self._page_bytes:
                return {"Items": found, "Count": len(found), "LastEvaluatedKey": key}
        return {"Items": found, "Count": len(found)}

    def _scan(self, request: Mapping[str, Any], _: Fates) -> dict[str, Any]:
        self._see_name(request["TableName"])
        segment, segments = request.get("Segment", 0), request.get("TotalSegments", 1)
        start, names = request.get("ExclusiveStartKey"), Scope.of_request(request).names
        urls = sorted(self.items, key=_hash_of)
        found: list[Item] = []
        size = 0
        for url in urls:
            if _hash_of(url)[0] % segments != segment or (start and _hash_of(url) <= _hash_of(start[KEY]["S"])):
                continue
            item = self.items[url]
            found.append(_projected(item, request.get("ProjectionExpression"), names))
            size += sum(_size_of(value) for value in item.values())
            if size > self._page_bytes:
                return {"Items": found, "Count": len(found), "LastEvaluatedKey": {KEY: {"S": url}}}
        return {"Items": found, "Count": len(found)}

    def _describe_table(self, request: Mapping[str, Any], _: Fates) -> dict[str, Any]:
        self._see_name(request["TableName"])
        return {"Table": {"TableName": self.name, "TableStatus": "ACTIVE", **self._description}}


def _hash_of(url: str) -> tuple[int, str]:
    """Where an item lies: in no order that anybody could rely on."""
    return zlib.crc32(url.encode()), url


def _see_value(value: Value) -> None:
    ((kind, raw),) = value.items()
    if kind not in ("S", "N", "B", "SS", "BOOL", "M", "L"):
        raise UnreadableError(f"the fake knows no values of type {kind}")
    for part in raw.values() if kind == "M" else raw if kind == "L" else ():
        _see_value(part)
    if kind == "N":
        decimal_of(value)
    if kind == "SS" and (not raw or len(set(raw)) < len(raw)):
        raise UnreadableError("One or more parameter values were invalid: a set is empty, or has duplicates")


def _key_of(key: Item) -> str:
    url = key.get(KEY, {}).get("S")
    if not url:
        raise UnreadableError("One or more parameter values are not valid: the key is missing or empty")
    if len(url.encode()) > MAX_KEY_BYTES:
        raise UnreadableError(f"Size of hashkey has exceeded the maximum size limit of {MAX_KEY_BYTES} bytes")
    return str(url)


def _see_keys(urls: Sequence[str], most: int) -> None:
    if not 1 <= len(urls) <= most:
        raise UnreadableError(f"Too many items requested, or none: {len(urls)}")
    if len(set(urls)) < len(urls):
        raise UnreadableError("Provided list of item keys contains duplicates")


def _size_of(value: Value) -> int:
    kind, raw = next(iter(value.items()))
    if kind == "N":
        return len(raw) // 2 + 1
    if kind == "SS":
        return sum(len(text.encode()) for text in raw)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _size_of(part) for name, part in raw.items())
    if kind == "L":
        return 3 + sum(1 + _size_of(part) for part in raw)
    if kind == "BOOL":
        return 1
    return len(raw) * 3 // 4 if kind == "B" else len(raw.encode())


def _projected(item: Item, projection: str | None, names: Mapping[str, str]) -> Item:
    if projection is None:
        return dict(item)
    wanted = [names.get(name, name) for name in projection.split(", ")]
    return {name: item[name] for name in wanted if name in item}
