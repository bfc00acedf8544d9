"""What a message may say, on engines that refuse what AWS refuses: it harms nobody but itself."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqspider.crawl_settings import CrawlSettings
from sqspider.demo_site import DemoSite
from sqspider.frontier import (
    ClaimRequest,
    Deferral,
    Delivery,
    Entry,
    Finish,
    FrontierSettings,
    Lost,
    LostReason,
    Retry,
    Won,
)
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.outgoing import sendable
from sqspider.frontier.aws.transport import SQS
from sqspider.message import Message, decode_message
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode, Worker
from tests.frontier.kit import DONE, message_of, take, take_one, url

from .engines import EngineMissingError, Engines
from .store import AwsStore, client_for

LOCAL: Final = "dynamodb-local+fauxqs"
LARGE: Final = "x" * 450_000
REFUSED: Final = {
    "lastmod": Message(url=url("lastmod"), lastmod=1e300),
    "infinite": Message(url=url("infinite"), lastmod=float("inf")),
    "depth": Message(url=url("depth"), depth=10**40 + 7),
    "parent": Message(url=url("parent"), parent=LARGE),
    "key": Message(url=url("k" * 3000)),
}
TAKEN_BY_MINISTACK: Final = {"lastmod", "depth", "key"}  # AWS and DynamoDB Local refuse them, too


@pytest.fixture(params=["ministack", LOCAL])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def environment(engine: str, engines: Engines) -> dict[str, str]:
    try:
        return engines.dynamodb_local_and_fauxqs() if engine == LOCAL else engines.ministack()
    except EngineMissingError as error:
        pytest.skip(f"{engine}: {error}")


@pytest.fixture
async def each_store(engine: str, environment: dict[str, str], engines: Engines) -> AsyncIterator[AwsStore]:
    """A store on each engine, with the timeouts of a real one."""
    store = await AwsStore.create(environment, None if engine == LOCAL else engines.clock, FrontierSettings())
    yield store
    await store.close()


async def claim(frontier: AwsFrontier, messages: list[Message]) -> dict[str, Won | Lost]:
    """Claims of messages that nobody received."""
    requests = [
        ClaimRequest(delivery=Delivery(message_id="", receipt="", body="", receive_count=1, sent_at=0), message=message)
        for message in messages
    ]
    answers = await frontier.claim(requests, worker_id="w", claim_id="c", lease_seconds=60)
    return {answer.url: answer for answer in answers}


async def test_what_no_record_can_be_made_of_is_refused_for_itself_alone(each_store: AwsStore, engine: str) -> None:
    frontier = await each_store.open(FrontierSettings())
    good = [Message(url=url(f"good{i}")) for i in range(20)]
    messages = [*good, *REFUSED.values()]
    random.Random(1).shuffle(messages)
    answers = await claim(frontier, messages)
    assert all(isinstance(answers[message.url], Won) for message in good)
    for name in REFUSED.keys() - (TAKEN_BY_MINISTACK if engine == "ministack" else set()):
        answer = answers[REFUSED[name].url]
        assert isinstance(answer, Lost)
        assert (answer.why, bool(answer.detail)) == (LostReason.REFUSED, True), name
    # The same among links: the others are recorded, and their page is finished.
    page = answers[good[0].url]
    assert isinstance(page, Won)
    links = tuple(Entry.of(message) for message in [Message(url=url("link")), *REFUSED.values()])
    assert await frontier.finish([Finish(claim=page, delivery=None, outcome=DONE, links=links)]) == [True]
    assert url("link") in await frontier.get([url("link")])


async def test_a_name_that_is_too_long_for_a_key_has_its_rows(each_store: AwsStore) -> None:
    frontier = await each_store.open(FrontierSettings())
    host = "h" * 3000
    (row,) = (await frontier.hosts([host])).values()
    assert await frontier.save_hosts([msgspec.structs.replace(row, is_paused=True)]) == [True]
    assert (await frontier.hosts([host]))[host].is_paused
    assert await frontier.lease_robots([f"http://{host}"], until=frontier.now() + 60) == [True]
    assert await frontier.lease_robots([f"http://{host}"], until=frontier.now() + 60) == [False]


async def test_a_body_that_is_too_long_to_park_waits_in_the_queue(each_store: AwsStore) -> None:
    """And characters that SQS does not take are escaped on the way back there."""
    frontier = await each_store.open(FrontierSettings())
    long = Message(url=url("long"))
    odd = Message(url=url("odd"), parent="\uffff")
    await frontier.send([msgspec.json.encode(long).decode() + " " * 200_000])
    delivery = await take_one(frontier)
    await frontier.defer([Deferral(delivery=delivery, until=1e300)])
    assert not await frontier.get([long.url])
    assert (await frontier.queue_stats()).delayed == 1
    await frontier.enqueue([Entry.of(odd)])
    assert message_of(await take_one(frontier)) == odd


TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=50)  # fauxqs takes no others
EXTREMES: st.SearchStrategy[Any] = st.sampled_from(
    [0, -1, 10**40 + 7, 2**63, 1e300, -1e300, 1e-300, 5e-324, "", "\x00", "\uffff", "é" * 2000, "x" * 300_000, None, True, [], {}]
)  # fmt: skip
ANYTHING = EXTREMES | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
SETTINGS = st.dictionaries(st.sampled_from(CrawlSettings.__struct_fields__), ANYTHING | st.lists(ANYTHING, max_size=2), max_size=4)  # fmt: skip
BODIES = st.fixed_dictionaries(
    {"url": st.sampled_from([url(name) for name in "abcdefgh"]) | st.just("http://" + "a" * 2034 + "/") | ANYTHING},
    optional={
        "settings": SETTINGS | ANYTHING,
        **dict.fromkeys(("depth", "parent", "lastmod", "slot", "generation"), ANYTHING),
    },
)


@given(st.lists(BODIES | ANYTHING, min_size=1, max_size=9), st.sampled_from([0, 5000, 1e300]), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_nothing_in_a_message_ends_a_worker(
    environment: dict[str, str], engine: str, engines: Engines, bodies: list[Any], ahead: float, is_ascii: bool
) -> None:
    """Each operation with hostile messages and a good one together: none raises, and the good one has its way."""
    store = await AwsStore.create(environment, None if engine == LOCAL else engines.clock, FrontierSettings())
    try:
        frontier = await store.open(FrontierSettings())
        good = url("good")
        await frontier.send([*(json.dumps(body, ensure_ascii=is_ascii) for body in bodies), good])
        messages = [(it, decode_message(it.body)) for it in await take(frontier, len(bodies) + 1)]
        requests = [
            ClaimRequest(delivery=it, message=message) for it, message in messages if isinstance(message, Message)
        ]
        answers = await frontier.claim(requests, worker_id="w", claim_id="c", lease_seconds=60)
        won = [(request, answer) for request, answer in zip(requests, answers, strict=True) if isinstance(answer, Won)]
        retries = [
            Retry(claim=answer, delivery=request.delivery, at=frontier.now() + ahead, tried=True)
            for request, answer in won
        ]
        given_back = dict(zip((answer.url for _, answer in won), await frontier.retry(retries), strict=True))
        assert given_back[good]
        await frontier.defer(
            [
                Deferral(delivery=request.delivery, until=frontier.now() + ahead, message=request.message)
                for request, answer in zip(requests, answers, strict=True)
                if isinstance(answer, Lost)
            ]
        )
        await frontier.sweep()
    finally:
        await store.close()


async def test_hostile_messages_end_and_the_others_are_fetched(engines: Engines, site: DemoSite) -> None:
    store = await AwsStore.create(engines.ministack(), engines.clock, FrontierSettings())
    frontier = await store.open(FrontierSettings())
    client = client_for(store.environment)
    hostile: list[dict[str, Any]] = [
        {"url": f"{site.url}page/1", "lastmod": 1e300},
        {"url": f"{site.url}page/2", "depth": 10**40 + 7},
        {"url": f"{site.url}page/3", "parent": LARGE},
        {"url": f"{site.url}page/4", "settings": {"include": [LARGE]}},
        {"url": f"{site.url}page/5", "settings": {"scope": "nonsense"}},
        {"Records": [{"eventSource": "aws:s3"}]},
    ]
    good = [{"url": f"{site.url}page/{n}", "settings": {"delay_seconds": 0}} for n in range(6, 15)]
    for body in map(json.dumps, [*hostile, *good]):
        await client.call(SQS, "SendMessage", {"QueueUrl": store.environment["QUEUE_URL"], "MessageBody": body})
    await client.close()
    options = WorkerOptions(worker_id="w", first_retry_seconds=0.05, poll_seconds=0.0)
    async with Fetcher(FetchOptions(allow_private=True), connections=8) as fetcher:
        for _ in range(3 * FrontierSettings().max_receives):
            for _ in range(3):
                worker = Worker(frontier, fetcher, options, clock=frontier.now, rng=random.Random(1))
                await worker.run(Mode.ONCE)
            if (await frontier.queue_stats()).is_empty:
                break
            await store.elapse(61)
    records = [record async for batch in frontier.scan() for record in batch]
    done = {record.url for record in records if record.status == "done"}
    assert {body["url"] for body in good} <= done
    assert all(record.status.is_final for record in records)
    dead = [letter.body for letter in await frontier.dead_letters()]
    assert all(body.get("url") in done or json.dumps(body) in dead for body in hostile)
    assert json.dumps(hostile[2]) in dead
    await store.close()


def test_a_body_has_those_characters_alone_that_sqs_takes() -> None:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html"""
    taken = [range(0x9, 0xB), range(0xD, 0xE), range(0x20, 0xD800), range(0xE000, 0xFFFE), range(0x10000, 0x110000)]
    edges = {code for part in taken for code in (part[0] - 1, part[0], part[-1], part[-1] + 1)} | {0, 0x1F}
    for code in edges - {0x110000}:
        assert (sendable(chr(code)) == chr(code)) == any(code in part for part in taken), hex(code)
