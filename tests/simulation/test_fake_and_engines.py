"""The fake's table beside DynamoDB Local and ministack: the same calls by chance, the same answers and items."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final

import pytest

from sqspider.frontier.aws.attributes import n, s
from sqspider.frontier.aws.client import AwsClient
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.credentials import find_keys
from sqspider.frontier.aws.errors import AwsError, bare
from sqspider.frontier.aws.place import endpoints_for
from sqspider.frontier.aws.transport import DYNAMODB
from tests.aws.engines import Engines
from tests.aws.store import client_for, create, drop
from tests.frontier.kit import SETTINGS, FakeClock

from .fake_aws import ENVIRONMENT, QUEUE_URL, REGION, TABLE, FakeAws, FakeTransport

KEYS: Final = [f"k{i}" for i in range(6)]
INSERT: Final = "INSERT INTO \"{table}\" VALUE {{'url': ?, 'status': ?, 'number': ?, 'due_shard': ?, 'due_at': ?}}"
CLAIM: Final = """
UPDATE "{table}" SET "status" = 'processing' SET "number" = "number" + 1 SET "text" = ? SET "lease" = ?
WHERE "url" = ? AND "lease" < ?
RETURNING ALL NEW *
"""
END: Final = """
UPDATE "{table}" SET "status" = ? SET "number" = "number" + ? REMOVE "due_at" REMOVE "due_shard" REMOVE "lease"
WHERE "url" = ? AND "status" = 'processing' AND "text" = ?
"""
RELEASE: Final = """
UPDATE "{table}" SET "lease" = 0 SET "due_at" = ? SET "due_shard" = ? WHERE "url" = ? AND "due_at" = ?
"""


class Calls:
    """Calls by chance, each with what it is told for a table's name."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def number(self) -> dict[str, Any]:
        return n(self.rng.choice((0, 1, 2, 3, 0.1, 0.25, 1_700_000_000.123456, -5, 12345678901234567890)))

    def text(self) -> dict[str, Any]:
        return s(self.rng.choice(("a", "b", "é", "")))

    def statement(self, table: str, key: str) -> dict[str, Any]:
        rng = self.rng
        moment, shard = n(rng.randrange(5)), s(f"q{rng.randrange(2)}")
        text, parameters = rng.choice(
            [
                (INSERT, [s(key), s("queued"), self.number(), shard, moment]),
                (CLAIM, [self.text(), self.number(), s(key), self.number()]),
                (END, [s("done"), self.number(), s(key), self.text()]),
                (RELEASE, [moment, shard, s(key), n(rng.randrange(5))]),
            ]
        )
        return {"Statement": text.format(table=table), "Parameters": parameters}

    def update(self, table: str, key: str) -> dict[str, Any]:
        condition = self.rng.choice(
            [
                "attribute_not_exists(#t) OR #t = :text",
                "attribute_exists(#s) AND extra < :one",
                "extra < :one OR #t = :text AND #s <> :queued",
                "extra >= :one",
            ]
        )
        update = self.rng.choice(
            [
                "SET lease = :lease, #t = :text",
                "ADD extra :one SET #t = :text, lease = :lease REMOVE #s",
                "ADD extra :one",
            ]
        )
        values = {":text": self.text(), ":one": self.number(), ":queued": s("queued"), ":lease": n(0)}
        names = {"#t": "text", "#s": "status"}
        said = condition + update
        used_names = {name: of for name, of in names.items() if name in said}
        return {
            "TableName": table,
            "Key": {"url": s(key)},
            "UpdateExpression": update,
            "ConditionExpression": condition,
            **({"ExpressionAttributeNames": used_names} if used_names else {}),
            "ExpressionAttributeValues": {name: value for name, value in values.items() if name in said},
            "ReturnValues": "ALL_NEW",
        }

    def query(self, table: str) -> dict[str, Any]:
        condition, values = "due_shard = :shard", {":shard": s(f"q{self.rng.randrange(2)}")}
        if self.rng.random() < 0.7:
            condition += f" AND due_at {self.rng.choice('<>')} :bound"
            values[":bound"] = n(self.rng.randrange(5))
        asked = {"IndexName": "due", "KeyConditionExpression": condition, "Limit": self.rng.choice((1, 2, 100))}
        return {"TableName": table, **asked, "ExpressionAttributeValues": values}

    def next(self, tables: list[str]) -> list[tuple[str, dict[str, Any]]]:
        """An action and its request, one for each table."""
        rng, state = self.rng, self.rng.getstate()
        made: list[tuple[str, dict[str, Any]]] = []
        for table in tables:
            rng.setstate(state)
            kind, keys = rng.random(), rng.sample(KEYS, rng.randrange(1, 5))
            if kind < 0.5:
                made.append(("BatchExecuteStatement", {"Statements": [self.statement(table, key) for key in keys]}))
            elif kind < 0.7:
                made.append(("UpdateItem", self.update(table, keys[0])))
            elif kind < 0.75:
                made.append(("DeleteItem", {"TableName": table, "Key": {"url": s(keys[0])}}))
            elif kind < 0.85:
                asked = {"Keys": [{"url": s(key)} for key in keys], "ConsistentRead": True}
                made.append(("BatchGetItem", {"RequestItems": {table: asked}}))
            else:
                made.append(("Query", self.query(table)))
        return made


def comparable(value: Any) -> Any:
    """An answer without what depends on the engine alone: numbers by their size, items in order of keys."""
    if isinstance(value, dict):
        if value.keys() == {"N"}:
            return Decimal(value["N"])
        return {name: comparable(of) for name, of in value.items()}
    return [comparable(each) for each in value] if isinstance(value, list) else value


async def told(client: AwsClient, action: str, request: dict[str, Any]) -> Any:
    try:
        answer = (await client.call(DYNAMODB, action, request)).body
    except AwsError as error:
        return error.code
    match action:
        case "BatchExecuteStatement":
            return [
                (bare(r.get("Error", {}).get("Code", "")), {} if "Error" in r else comparable(r.get("Item", {})))
                for r in answer["Responses"]
            ]
        case "BatchGetItem":
            [items] = answer["Responses"].values()
            return comparable(sorted(items, key=lambda item: str(item["url"]["S"])))
        case "Query":
            # Those of one moment come in any order.
            page = [comparable(item) for item in answer["Items"]]
            return sorted(item["due_at"] for item in page)
        case _:
            return comparable(answer.get("Attributes", {}))


@pytest.fixture(params=["dynamodb-local", "ministack"])
async def environment(request: pytest.FixtureRequest, engines: Engines) -> AsyncIterator[dict[str, str]]:
    engine = engines.ministack() if request.param == "ministack" else engines.dynamodb_local_and_fauxqs()
    made = await create(engine, SETTINGS)
    yield made
    await drop(made)


@pytest.mark.parametrize("seed", range(2))
async def test_the_same_calls_have_the_same_answers(environment: dict[str, str], seed: int) -> None:
    clock, calls = FakeClock(), Calls(seed)
    fake = AwsClient(
        find_keys(ENVIRONMENT),
        region=REGION,
        endpoints=endpoints_for(REGION, ENVIRONMENT, QUEUE_URL),
        transport=FakeTransport(FakeAws(clock=clock, rng=random.Random(1))),
        rng=random.Random(2),
        clock=AwsClock(clock),
    )
    engine = client_for(environment)
    for number in range(150):
        ours, theirs = calls.next([TABLE, environment["TABLE_NAME"]])
        assert await told(fake, *ours) == await told(engine, *theirs), (number, ours)
    await engine.close()
