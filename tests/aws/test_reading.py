"""The table as a person reads it: what docs/aws.md says of its items, and the statements that it shows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.crawl_row import Crawl
from sqspider.frontier import Entry
from sqspider.frontier.aws.attributes import plain, s, typed
from sqspider.frontier.aws.items import is_record
from sqspider.frontier.aws.transport import DYNAMODB
from sqspider.record import Outcome, Reason, Status
from tests.frontier.kit import finish_one, message_of, record_of, retry_one, take, take_one, url, win

from .engines import Engines
from .store import AwsStore, client_for
from .test_records import rewrite

PAGE: Final = (Path(__file__).parent.parent.parent / "docs" / "aws.md").read_text()
STATEMENTS: Final = re.findall(r"^```sql\n(.*?)\n```$", PAGE, re.M | re.S)
SHOP: Final = Crawl(name="shop", id="b2")

OUTCOMES: Final = {
    "https://example.com/": Outcome(status=Status.DONE, http_status=200, title="a \x00 \N{SNOWMAN}", bytes=2**53),
    url("slow"): Outcome(status=Status.FAILED, reason=Reason.TIMEOUT, detail="no answer", elapsed_ms=10_000),
    url("gone"): Outcome(status=Status.FAILED, reason=Reason.CLIENT_ERROR, http_status=404, detail=""),
    f"@shop {url('item')}": Outcome(status=Status.DONE, http_status=200, title="An item", truncated=True),
}


@pytest.fixture(params=["ministack", "dynamodb-local+fauxqs"])
async def store(request: pytest.FixtureRequest, engines: Engines) -> AsyncIterator[AwsStore]:
    if request.param == "ministack":
        store = await AwsStore.create(engines.ministack(), engines.clock)
    else:
        store = await AwsStore.create(engines.dynamodb_local_and_fauxqs())
    yield store
    await store.close()


async def test_each_statement_of_the_page_finds_what_it_says(store: AwsStore) -> None:
    frontier = await store.open()
    assert await frontier.save_crawl(SHOP)
    names = [key.rpartition(" ")[2] for key in OUTCOMES]
    await frontier.enqueue([Entry(url=name) for name in names[:3]] + [Entry(url=names[3], crawl=SHOP.ref)])
    for delivery in await take(frontier, 4):
        claim = await win(frontier, delivery, claim=delivery.message_id)
        assert await finish_one(frontier, claim, delivery, OUTCOMES[claim.url])
    await frontier.enqueue([Entry(url=url("open"), parent=names[0])])
    client = client_for(store.environment)
    found = []
    for statement in STATEMENTS:
        shards = [f"q{i}" for i in range(8)] if "due_shard" in statement else [""]
        items: list[dict[str, Any]] = []
        for shard in shards:
            text = statement.replace("sqspider-records", store.environment["TABLE_NAME"]).replace("'q0'", f"'{shard}'")
            items += (await client.call(DYNAMODB, "ExecuteStatement", {"Statement": text})).body["Items"]
        found.append([item["url"]["S"] for item in items])
    await client.close()
    assert found == [[key] for key in (*OUTCOMES, url("open"))]


async def test_an_outcome_is_a_map_and_survives(store: AwsStore) -> None:
    frontier = await store.open()
    for key, outcome in OUTCOMES.items():
        if key.startswith("@"):
            continue
        await frontier.enqueue([Entry(url=key)])
        delivery = await take_one(frontier)
        assert await retry_one(
            frontier, await win(frontier, delivery), delivery, at=0.0, tried=True, outcome=OUTCOMES[url("slow")]
        )
        assert (await record_of(frontier, key)).outcome == OUTCOMES[url("slow")]
        delivery = await take_one(frontier)
        assert await finish_one(frontier, await win(frontier, delivery, claim="c2"), delivery, outcome)
        assert (await record_of(frontier, key)).outcome == outcome
        item = (await frontier._table.read([key]))[key]
        assert item["outcome"]["M"]["status"] == {"S": outcome.status.value}


@pytest.mark.parametrize("damaged", [{"M": {}}, {"M": {"status": {"N": "1"}}}, {"SS": ["a"]}, {"S": "{"}])
async def test_an_outcome_that_cannot_be_read_is_said_to_be_damaged(store: AwsStore, damaged: dict[str, Any]) -> None:
    frontier = await store.open()
    await frontier.enqueue([Entry(url=url("p"))])
    await rewrite(store, url("p"), status=s("done"), outcome=damaged)
    assert "damaged" in (await record_of(frontier, url("p"))).unreadable


async def test_what_a_later_version_says_besides_is_left_alone(store: AwsStore) -> None:
    frontier = await store.open()
    await frontier.enqueue([Entry(url=url("p"))])
    later = typed({"status": "done", "http_status": 200, "harvest": {"file": "a", "offset": 7}, "tags": ["x", None]})
    await rewrite(store, url("p"), status=s("done"), outcome=later)
    assert (await record_of(frontier, url("p"))).outcome == Outcome(status=Status.DONE, http_status=200)


async def test_the_page_names_every_attribute_of_a_record(store: AwsStore) -> None:
    frontier = await store.open()
    assert await frontier.save_crawl(SHOP)
    entry = Entry(url=url("p"), parent=url("parent"), redirects=2, lastmod=3.0, crawl=SHOP.ref)
    await frontier.enqueue([entry])
    delivery = await take_one(frontier)
    assert message_of(delivery).crawl == SHOP.ref
    await frontier.park([delivery])
    assert await frontier.unpark(SHOP.ref) == 1
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery)
    named = set(re.findall(r"`(\w+)`", PAGE))
    async for items in frontier._table.scan():
        for item in items:
            if is_record(item["url"]["S"]):
                assert set(item) <= named


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e100, 1e100) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=8,
)


@given(_values)
def test_any_value_survives_as_an_attribute(value: object) -> None:
    assert plain(typed(value)) == value
