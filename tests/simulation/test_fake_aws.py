"""The fake AWS does what AWS does, where the crawler could notice; and the crawler bears its weather.

Where engines that stand in for AWS do the same, ``test_fake_and_engines`` compares it with them.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine, Sequence
from contextlib import closing
from typing import Any, Final

import pytest

from sqspider.frontier import FrontierBusyError
from sqspider.frontier.aws.attributes import Item, n, s
from sqspider.frontier.aws.client import AwsClient
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.credentials import find_keys
from sqspider.frontier.aws.errors import AwsError
from sqspider.frontier.aws.place import endpoints_for
from sqspider.frontier.aws.transport import CLOUDWATCH, DYNAMODB, SQS
from tests.frontier.kit import FakeClock
from tests.frontier.test_claims import test_any_history_ends_with_every_url_finished_once as any_history

from .fake_aws import ENVIRONMENT, FAIR, QUEUE_URL, REGION, TABLE, FakeAws, FakeTransport, Weather
from .fake_store import FakeAwsStore
from .loop import VirtualLoop

INSERT: Final = f"INSERT INTO \"{TABLE}\" VALUE {{'url': ?, 'number': ?}}"
RAISE: Final = f'UPDATE "{TABLE}" SET "number" = "number" + 1 WHERE "url" = ? AND "number" < ? RETURNING ALL NEW *'
DEAD_URL: Final = QUEUE_URL + "-dead"


class Account:
    """A fake, and a client that talks to it."""

    def __init__(self, weather: Weather = FAIR, **options: Any) -> None:
        self.clock = FakeClock()
        self.aws = FakeAws(clock=self.clock, rng=random.Random(1), weather=weather, **options)
        self.client = self.connect()

    def connect(self, *, weather: Weather | None = None, ahead: float = 0.0) -> AwsClient:
        """A further client; ``ahead``: by how many seconds its clock is wrong."""
        return AwsClient(
            find_keys(ENVIRONMENT),
            region=REGION,
            endpoints=endpoints_for(REGION, ENVIRONMENT, QUEUE_URL),
            transport=FakeTransport(self.aws, weather=weather),
            rng=random.Random(2),
            clock=AwsClock(lambda: self.clock() + ahead),
        )

    async def sqs(self, action: str, *, queue: str = QUEUE_URL, **request: Any) -> dict[str, Any]:
        wait_seconds = request.get("WaitTimeSeconds", 0)
        return (await self.client.call(SQS, action, {"QueueUrl": queue, **request}, wait_seconds=wait_seconds)).body

    async def send(self, *bodies: str, **more: Any) -> dict[str, Any]:
        entries = [{"Id": str(i), "MessageBody": body, **more} for i, body in enumerate(bodies)]
        return await self.sqs("SendMessageBatch", Entries=entries)

    async def receive(self, **request: Any) -> list[dict[str, Any]]:
        answer = await self.sqs("ReceiveMessage", **{"MaxNumberOfMessages": 10, **request})
        return list(answer.get("Messages", []))

    async def delete(self, *handles: str) -> dict[str, Any]:
        entries = [{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(handles)]
        return await self.sqs("DeleteMessageBatch", Entries=entries)

    async def figures(self, queue: str = QUEUE_URL) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        attributes = (await self.sqs("GetQueueAttributes", queue=queue, AttributeNames=["All"]))["Attributes"]
        names = ("Messages", "MessagesNotVisible", "MessagesDelayed")
        visible, in_flight, delayed = (int(attributes[f"ApproximateNumberOf{name}"]) for name in names)
        return visible, in_flight, delayed

    async def ages(self, since: float) -> dict[float, float]:
        """The oldest message's age by CloudWatch, by minutes in seconds since then."""
        request = {
            "Namespace": "AWS/SQS",
            "MetricName": "ApproximateAgeOfOldestMessage",
            "Dimensions": [{"Name": "QueueName", "Value": QUEUE_URL.rpartition("/")[2]}],
            "StartTime": int(since),
            "EndTime": int(self.clock()),
            "Period": 60,
            "Statistics": ["Maximum"],
        }
        points = (await self.client.call(CLOUDWATCH, "GetMetricStatistics", request)).body["Datapoints"]
        return {point["Timestamp"] - since: point["Maximum"] for point in points}

    async def dynamodb(self, action: str, **request: Any) -> dict[str, Any]:
        return (await self.client.call(DYNAMODB, action, request)).body

    async def execute(self, *statements: tuple[str, list[dict[str, Any]]]) -> list[str]:
        """The code of each statement of a batch; empty where it was carried out."""
        batch = [{"Statement": text, "Parameters": parameters} for text, parameters in statements]
        answers = (await self.dynamodb("BatchExecuteStatement", Statements=batch))["Responses"]
        return [answer.get("Error", {}).get("Code", "") for answer in answers]

    async def read(self, *keys: str, **how: Any) -> dict[str, Any]:
        asked = {"Keys": [{"url": s(key)} for key in keys], "ConsistentRead": True, **how}
        return await self.dynamodb("BatchGetItem", RequestItems={TABLE: asked})

    async def item(self, key: str, **how: Any) -> Item | None:
        found: list[Item] = (await self.read(key, **how))["Responses"][TABLE]
        return found[0] if found else None

    async def update(self, key: str, update: str, **request: Any) -> dict[str, Any]:
        asked = {"TableName": TABLE, "Key": {"url": s(key)}, "UpdateExpression": update, **request}
        return await self.dynamodb("UpdateItem", **asked)


@pytest.fixture
def account() -> Account:
    return Account(visibility_seconds=30.0, max_receives=2)


async def code_of(call: Coroutine[Any, Any, Any]) -> str:
    """The code with which a call is refused as a whole."""
    with pytest.raises(AwsError) as refusal:
        await call
    return refusal.value.code


def codes(answer: dict[str, Any]) -> list[str]:
    """Why entries of a batch failed."""
    return [entry["Code"].rpartition(".")[2] for entry in answer["Failed"]]


# Messages.


async def test_a_message_is_hidden_from_others_and_comes_back_with_a_new_receipt(account: Account) -> None:
    await account.send("a")
    [first] = await account.receive()
    assert await account.receive() == []
    account.clock.now += 30
    [second] = await account.receive()
    assert (second["MessageId"], second["Body"]) == (first["MessageId"], "a")
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    assert second["ReceiptHandle"] != first["ReceiptHandle"]


async def test_a_receipt_that_went_stale_deletes_nothing_and_is_no_error(account: Account) -> None:
    await account.send("a")
    [stale] = await account.receive()
    account.clock.now += 30
    [live] = await account.receive()
    assert codes(await account.delete(stale["ReceiptHandle"])) == []
    assert await account.figures() == (0, 1, 0)
    assert codes(await account.delete(live["ReceiptHandle"], "no handle")) == ["ReceiptHandleIsInvalid"]
    assert await account.figures() == (0, 0, 0)
    assert codes(await account.delete(live["ReceiptHandle"])) == []


async def test_what_was_received_too_often_is_a_dead_letter_at_the_next_receive(account: Account) -> None:
    await account.send("a")
    for _ in range(2):
        assert len(await account.receive()) == 1
        account.clock.now += 30
    assert await account.figures(DEAD_URL) == (0, 0, 0)
    assert await account.receive() == []
    assert await account.figures(DEAD_URL) == (1, 0, 0)
    [dead] = await account.receive(queue=DEAD_URL, VisibilityTimeout=60)
    show = {"Id": "0", "ReceiptHandle": dead["ReceiptHandle"], "VisibilityTimeout": 0}
    assert codes(await account.sqs("ChangeMessageVisibilityBatch", queue=DEAD_URL, Entries=[show])) == []
    assert await account.figures(DEAD_URL) == (1, 0, 0)
    again = await account.sqs("ChangeMessageVisibilityBatch", queue=DEAD_URL, Entries=[show])
    assert codes(again) == ["MessageNotInflight"]


async def test_a_delayed_message_is_none_yet(account: Account) -> None:
    await account.send("a", DelaySeconds=10)
    assert await account.figures() == (0, 0, 1)
    assert await account.receive() == []
    account.clock.now += 10
    assert await account.figures() == (1, 0, 0)
    assert len(await account.receive()) == 1


async def test_each_message_of_a_batch_is_judged_by_itself(account: Account) -> None:
    answer = await account.send("good", "", "\x00", "good too")
    assert codes(answer) == ["InvalidParameterValue", "InvalidMessageContents"]
    assert [entry["Id"] for entry in answer["Successful"]] == ["0", "3"]
    for wrong in ({"DelaySeconds": 901}, {"DelaySeconds": -1}, {"MessageGroupId": "a b"}, {"MessageGroupId": ""}):
        assert codes(await account.send("a", **wrong)) == ["InvalidParameterValue"]
    assert await account.figures() == (2, 0, 0)


async def test_a_batch_has_limits(account: Account) -> None:
    assert await code_of(account.send(*"abcdefghijk")) == "TooManyEntriesInBatchRequest"
    assert await code_of(account.send()) == "EmptyBatchRequest"
    twice = [{"Id": "x", "MessageBody": "a"}] * 2
    assert await code_of(account.sqs("SendMessageBatch", Entries=twice)) == "BatchEntryIdsNotDistinct"
    assert await code_of(account.send("a" * 2**19, "b" * 2**19, "c")) == "BatchRequestTooLong"
    assert codes(await account.send("a" * 2**19, "b" * 2**19)) == []
    for wrong in ({"MaxNumberOfMessages": 11}, {"MaxNumberOfMessages": 0}, {"WaitTimeSeconds": 21}):
        assert await code_of(account.receive(**wrong)) == "InvalidParameterValue"


async def test_a_purge_takes_all_and_its_time(account: Account) -> None:
    await account.send("a", "b")
    await account.receive(MaxNumberOfMessages=1)
    await account.sqs("PurgeQueue")
    assert await account.figures() == (0, 0, 0)
    assert await code_of(account.sqs("PurgeQueue")) == "PurgeQueueInProgress"
    account.clock.now += 60
    await account.sqs("PurgeQueue")


async def test_a_purge_may_take_along_what_is_sent_after_it() -> None:
    account = Account(Weather(purged=0.5))
    await account.sqs("PurgeQueue")
    await account.send(*"abcdefghij")
    assert 0 < (await account.figures())[0] < 10
    account.clock.now += 60
    await account.sqs("PurgeQueue")
    account.clock.now += 60
    await account.send(*"abcdefghij")
    assert await account.figures() == (10, 0, 0)


async def test_a_long_poll_waits_for_what_is_sent(account: Account) -> None:
    waits = asyncio.create_task(account.receive(WaitTimeSeconds=20))
    await asyncio.sleep(0.01)
    assert not waits.done()
    await account.send("a")
    assert [message["Body"] for message in await waits] == ["a"]


async def test_a_queue_or_a_table_that_is_not_there_is_named_so(account: Account) -> None:
    assert await code_of(account.sqs("PurgeQueue", queue=QUEUE_URL + "-x")) == "NonExistentQueue"
    with pytest.raises(AwsError, match="ResourceNotFound"):
        await account.dynamodb("DescribeTable", TableName="other")


# The figure of CloudWatch.


async def test_the_age_of_the_oldest_message_is_told_by_the_minute(account: Account) -> None:
    start = account.clock.now - account.clock.now % 60 + 60
    account.clock.now = start + 10
    await account.send("old")
    account.clock.now = start + 30
    await account.send("young")
    [old, _] = await account.receive()
    account.clock.now = start + 80
    await account.delete(old["ReceiptHandle"])
    account.clock.now = start + 200

    # The minute that is not over is not told.
    assert await account.ages(start) == {0: pytest.approx(50), 60: pytest.approx(90), 120: pytest.approx(150)}


async def test_what_was_received_four_times_is_not_the_oldest_any_more() -> None:
    account = Account(visibility_seconds=1.0)
    start = account.clock.now = account.clock.now - account.clock.now % 60 + 60
    await account.send("old")
    account.clock.now += 50
    await account.send("young")
    for _ in range(4):
        assert "old" in [message["Body"] for message in await account.receive(MaxNumberOfMessages=1)]
        account.clock.now += 2
    account.clock.now = start + 120
    assert await account.ages(start) == {0: pytest.approx(56), 60: pytest.approx(70)}


# Items.


async def test_each_statement_of_a_batch_has_an_answer_of_its_own(account: Account) -> None:
    assert await account.execute((INSERT, [s("a"), n(1)]), (INSERT, [s("b"), n(1)])) == ["", ""]
    assert await account.execute(
        (INSERT, [s("a"), n(7)]),
        (RAISE, [s("b"), n(5)]),
        (RAISE, [s("missing"), n(5)]),
        (INSERT, [s("c"), s("x" * 410_000)]),
        (INSERT, [s("d"), n(1)]),
    ) == ["DuplicateItem", "", "ConditionalCheckFailed", "ValidationError", ""]
    assert await account.execute((RAISE, [s("b"), n(2)])) == ["ConditionalCheckFailed"]
    assert [await account.item(key) for key in "abcd"] == [
        {"url": s("a"), "number": n(1)},
        {"url": s("b"), "number": n(2)},
        None,
        {"url": s("d"), "number": n(1)},
    ]


@pytest.mark.parametrize(
    "statements",
    [
        [(INSERT, [s(f"k{i}"), n(1)]) for i in range(26)],
        [(INSERT, [s("a"), n(1)]), (RAISE, [s("a"), n(5)])],
        [(INSERT, [s("a"), n(1)]), (INSERT, [s("b"), n(float("inf"))])],
        [(INSERT, [s("a"), n(1)]), (INSERT, [s("b"), {"N": "1e126"}])],
        [(INSERT, [s("a"), n(1)]), (INSERT, [s("b"), {"N": "1." + 38 * "1"}])],
        [(INSERT, [s("a"), n(1)]), (INSERT, [s("b" * 2049), n(1)])],
        [(INSERT, [s("a"), n(1)]), (INSERT, [s(""), n(1)])],
        [(INSERT, [s("a"), n(1)]), (RAISE.replace('"url" = ? AND', ""), [n(1)])],
        [(INSERT, [s("a"), n(1)]), ("UPSERT", [n(1)])],
        [(INSERT, [s("a")])],
        [(INSERT, [])],
    ],
    ids=[
        "too many",
        "a key twice",
        "infinite",
        "too large",
        "too exact",
        "long key",
        "no key",
        "no key named",
        "what",
        "one",
        "none",
    ],
)
async def test_a_batch_that_is_wrong_as_a_whole_does_nothing(
    account: Account, statements: Sequence[tuple[str, list[dict[str, Any]]]]
) -> None:
    assert await code_of(account.execute(*statements)) == "Validation"
    assert account.aws.table.items == {}


async def test_an_update_adds_sets_and_removes_where_its_condition_holds(account: Account) -> None:
    request: dict[str, Any] = {
        "ConditionExpression": "attribute_not_exists(mark) OR mark < :mark AND #n = :two",
        "ExpressionAttributeNames": {"#n": "number"},
        "ExpressionAttributeValues": {":mark": s("m1"), ":two": n(2), ":half": n(0.5)},
    }
    update = "ADD #n :two, extra :half SET mark = :mark"
    assert await account.update("a", update, **request, ReturnValues="ALL_NEW") == {
        "Attributes": {"url": s("a"), "number": n(2), "extra": n(0.5), "mark": s("m1")}
    }
    assert await code_of(account.update("a", update, **request)) == "ConditionalCheckFailed"
    request["ExpressionAttributeValues"][":mark"] = s("m2")
    assert await account.update("a", f"{update} REMOVE nothing", **request) == {}
    assert await account.item("a") == {"url": s("a"), "number": n(4), "extra": n(1), "mark": s("m2")}
    for wrong in ("SET x = :unknown", "SET #unknown = :mark", "SET mark", "GET mark", "SET mark = missing"):
        assert (
            await code_of(account.update("a", wrong, **request | {"ConditionExpression": "mark = :mark"}))
            == "Validation"
        )


async def test_an_item_stays_below_its_limit_when_it_is_changed(account: Account) -> None:
    values = {":much": s("x" * 300_000)}
    await account.update("a", "SET one = :much", ExpressionAttributeValues=values)
    assert await code_of(account.update("a", "SET two = :much", ExpressionAttributeValues=values)) == "Validation"
    assert "two" not in (await account.item("a") or {})


async def test_a_read_has_limits(account: Account) -> None:
    assert await code_of(account.read(*(f"k{i}" for i in range(101)))) == "Validation"
    assert await code_of(account.read("a", "a")) == "Validation"
    assert await code_of(account.read()) == "Validation"
    keys = [f"k{i}" for i in range(60)]
    for key in keys:
        await account.update(key, "SET body = :much", ExpressionAttributeValues={":much": s("x" * 390_000)})
    answer = await account.read(*keys)
    left = answer["UnprocessedKeys"][TABLE]["Keys"]
    assert len(answer["Responses"][TABLE]) + len(left) == len(keys)
    assert 10 < len(left) < 30  # sixteen megabytes at a time
    names = {"#0": "url"}
    found = await account.item("k1", ProjectionExpression="#0", ExpressionAttributeNames=names)
    assert found == {"url": s("k1")}


async def listed(account: Account, condition: str = "due_shard = :shard", **values: Any) -> list[str]:
    """Keys in the index by pages of three."""
    keys: list[str] = []
    request: dict[str, Any] = {
        "TableName": TABLE,
        "IndexName": "due",
        "KeyConditionExpression": condition,
        "ExpressionAttributeValues": {":shard": s("q"), **values},
        "Limit": 3,
    }
    while True:
        answer = await account.dynamodb("Query", **request)
        assert len(answer["Items"]) <= 3
        keys += [item["url"]["S"] for item in answer["Items"]]
        if "LastEvaluatedKey" not in answer:
            return keys
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


async def due(account: Account, key: str, moment: float | None, shard: str = "q") -> None:
    if moment is None:
        await account.update(key, "REMOVE due_at")
    else:
        values = {":moment": n(moment), ":shard": s(shard)}
        await account.update(key, "SET due_at = :moment, due_shard = :shard", ExpressionAttributeValues=values)


async def test_the_index_lists_a_shard_in_order_page_by_page(account: Account) -> None:
    for i in range(10):
        await due(account, f"k{i}", (i * 7) % 10)
    await due(account, "other", 5, shard="p")
    in_order = [f"k{i}" for i in sorted(range(10), key=lambda i: (i * 7) % 10)]
    assert await listed(account) == in_order
    assert await listed(account, "due_shard = :shard AND due_at < :bound", **{":bound": n(4)}) == in_order[:4]
    assert await listed(account, "due_shard = :shard AND due_at > :bound", **{":bound": n(4)}) == in_order[5:]
    await due(account, in_order[0], 100)
    await due(account, in_order[1], None)
    assert await listed(account) == [*in_order[2:], in_order[0]]
    with pytest.raises(AwsError, match="Index Key"):
        await account.update("k0", "SET due_at = :x", ExpressionAttributeValues={":x": s("no number")})


async def test_an_index_that_lags_knows_it_later() -> None:
    account = Account(Weather(index_lag=2.0))
    await due(account, "a", 1)
    assert await listed(account) == []
    account.clock.now += 1
    await due(account, "a", None)
    account.clock.now += 1
    assert await listed(account) == ["a"]
    account.clock.now += 1
    assert await listed(account) == []


async def test_only_a_consistent_read_is_sure_to_see_what_was_written() -> None:
    account = Account(Weather(read_lag=2.0))
    await account.execute((INSERT, [s("a"), n(1)]))
    account.clock.now += 3
    await account.execute((RAISE, [s("a"), n(5)]))
    for _ in range(20):
        assert await account.item("a") == {"url": s("a"), "number": n(2)}
    weak = [await account.item("a", ConsistentRead=False) for _ in range(20)]
    assert {item["number"]["N"] for item in weak if item} == {"1", "2"}
    account.clock.now += 2
    assert {json.dumps(await account.item("a", ConsistentRead=False)) for _ in range(20)} == {
        json.dumps({"url": s("a"), "number": n(2)})
    }


async def test_a_scan_finds_each_item_once_page_by_page_and_by_segments() -> None:
    account = Account(page_bytes=20)
    keys = [f"k{i}" for i in range(40)]
    for key in keys:
        await due(account, key, 1)

    async def scanned(**request: Any) -> list[str]:
        found: list[str] = []
        pages = 0
        while True:
            answer = await account.dynamodb("Scan", TableName=TABLE, **request)
            pages += 1
            found += [item["url"]["S"] for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                assert pages > 1
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    assert sorted(await scanned()) == sorted(keys)
    parts = [await scanned(Segment=i, TotalSegments=4) for i in range(4)]
    assert sorted(key for part in parts for key in part) == sorted(keys)
    deletes = [{"DeleteRequest": {"Key": {"url": s(key)}}} for key in keys[:25]]
    await account.dynamodb("BatchWriteItem", RequestItems={TABLE: deletes})
    assert sorted(await scanned()) == sorted(keys[25:])
    assert await code_of(account.dynamodb("BatchWriteItem", RequestItems={TABLE: deletes[:1] * 26})) == "Validation"


async def test_it_counts_how_often_a_record_became_final(account: Account) -> None:
    for status in ("queued", "done", "done", "queued", "failed"):
        values = {":status": s(status)}
        names = {"#status": "status"}
        update = "SET #status = :status"
        await account.update("a", update, ExpressionAttributeValues=values, ExpressionAttributeNames=names)
    assert account.aws.table.finished["a"] == 2
    await account.dynamodb("DeleteItem", TableName=TABLE, Key={"url": s("a")})
    assert account.aws.table.finished["a"] == 0


# Who asks.


async def test_a_client_whose_clock_is_wrong_learns_the_time_and_signs_anew(account: Account) -> None:
    client, tries = account.connect(ahead=600.0), []
    client.observers.append(lambda call: tries.append(call.answer is not None))
    assert (await client.call(SQS, "GetQueueAttributes", {"QueueUrl": QUEUE_URL})).body["Attributes"]
    assert tries == [False, True]


# Weather.


async def attempts(account: Account, weather: Weather, key: str) -> int:
    """How often a raise is carried out, of a client that tries it again until it has an answer."""
    await account.update(key, "ADD amount :zero", ExpressionAttributeValues={":zero": n(0)})
    client = account.connect(weather=weather)
    request = {
        "TableName": TABLE,
        "Key": {"url": s(key)},
        "UpdateExpression": "ADD amount :one",
        "ExpressionAttributeValues": {":one": n(1)},
    }
    try:
        await client.call(DYNAMODB, "UpdateItem", request)
    except FrontierBusyError:
        assert max(weather.throttled, weather.unreached, weather.failed, weather.lost) == 1.0
    return int((await account.item(key) or {})["amount"]["N"])


def test_what_was_throttled_was_not_made_and_what_was_lost_was() -> None:
    async def story() -> None:
        account = Account()
        assert await attempts(account, Weather(throttled=1.0), "a") == 0
        assert await attempts(account, Weather(unreached=1.0), "b") == 0
        assert await attempts(account, Weather(lost=1.0), "c") > 1
        assert await attempts(account, Weather(failed=1.0), "d") > 0
        assert [await attempts(account, Weather(throttled=0.5), f"e{i}") for i in range(20)] == [1] * 20
        assert max([await attempts(account, Weather(lost=0.5), f"f{i}") for i in range(20)]) > 1

    play(story())


def test_parts_of_a_batch_fail_by_themselves() -> None:
    async def story() -> None:
        account = Account(Weather(partial=0.5))
        said: set[str] = set()
        for i in range(10):
            batch = [(INSERT, [s(f"{i}-{k}"), n(1)]) for k in range(20)]
            for (_, parameters), code in zip(batch, await account.execute(*batch), strict=True):
                is_made = parameters[0]["S"] in account.aws.table.items
                assert is_made if not code else not is_made or code == "InternalServerError"
                said.add(f"{code} {is_made}")
        assert {"InternalServerError True", "InternalServerError False", "ThrottlingError False", " True"} <= said
        assert len((await account.read("0-1", "0-2", "0-3", "0-4"))["UnprocessedKeys"]) == 1
        sent = await account.send(*"abcdefghij")
        assert sent["Successful"]
        assert codes(sent)
        assert len(sent["Successful"]) < len(account.aws.queue.messages) < 10

    play(story())


def test_messages_come_twice_and_in_any_order_and_come_back() -> None:
    async def story() -> None:
        account = Account(Weather(duplicate=0.5, undeleted=0.5, disorder=True))
        await account.send(*"abcdefghij")
        messages = await account.receive()
        assert [message["Body"] for message in messages] != sorted("abcdefghij")
        visible, in_flight, _ = await account.figures()
        assert min(visible, in_flight) > 0
        await account.delete(*(message["ReceiptHandle"] for message in messages))
        assert 0 < len(account.aws.queue.messages) < 10

    play(story())


async def test_figures_lag() -> None:
    account = Account(Weather(figures_lag=10.0))
    await account.send("a")
    account.clock.now += 10
    assert await account.figures() == (1, 0, 0)
    await account.receive()
    account.clock.now += 9
    assert await account.figures() == (1, 0, 0)
    account.clock.now += 1
    assert await account.figures() == (0, 1, 0)


FOUL = Weather(
    throttled=0.05,
    unreached=0.02,
    failed=0.05,
    lost=0.05,
    partial=0.05,
    duplicate=0.1,
    undeleted=0.1,
    disorder=True,
    read_lag=1.0,
)


class FastStore(FakeAwsStore):
    """Time goes fast: a message that waits for the lease of a copy's claim, ten minutes, is waited for."""

    async def elapse(self, seconds: float) -> None:
        await super().elapse(10 * seconds)


def play(history: Coroutine[Any, Any, None]) -> None:
    """Run to the end in virtual time: the waits between two tries cost nothing."""
    with closing(VirtualLoop(most_seconds=1e6, most_events=10**7)) as loop:
        loop.run_until_complete(history)


@pytest.mark.parametrize("seed", range(8))
def test_any_history_in_foul_weather_ends_alike(seed: int) -> None:
    async def history() -> None:
        store = FastStore(weather=FOUL, seed=seed)
        await any_history(await store.open(), await store.open(), store, seed)
        await store.close()

    play(history())
