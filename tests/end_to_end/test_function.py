"""The function in Lambda's own runtime, with a poller that keeps AWS's rules: answers, permissions, deaths."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from aiohttp import ClientSession, web

from permissions import CRAWL_ACTIONS, SWEEP_ACTIONS
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.transport import SQS
from sqspider.message import Message, encode_message
from sqspider.record import Reason, Status, UrlRecord
from sqspider.url import Scope
from sqspider.work.producer import produce
from tests.aws import store
from tests.end_to_end.conftest import StartRuntime
from tests.end_to_end.runtime import FunctionRuntime, Poller, event_of, failures

SETTINGS: Final = CrawlSettings(scope=Scope.HOST, delay_seconds=0)
POISON: Final = "{ this is no message"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[str]:
    app = web.Application(client_max_size=10_000_000)
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def opened(place: dict[str, str]) -> AsyncIterator[AwsFrontier]:
    frontier = await AwsFrontier.open(FrontierSettings(visibility_seconds=1), clock=time.time, environment=place)
    try:
        yield frontier
    finally:
        await frontier.close()


async def received(place: dict[str, str]) -> dict[str, Any]:
    """What waits in the queue, as the event that Lambda makes of it."""
    client = store.client_for(place)
    request = {
        "QueueUrl": place["QUEUE_URL"],
        "MaxNumberOfMessages": 10,
        "WaitTimeSeconds": 5,
        "AttributeNames": ["All"],
    }
    try:
        answer = await client.call(SQS, "ReceiveMessage", request, wait_seconds=5)
    finally:
        await client.close()
    return event_of(answer.body["Messages"])


async def invoke(runtime: FunctionRuntime, event: dict[str, Any]) -> Any:
    return await asyncio.to_thread(runtime.invoke, event)


async def records(frontier: AwsFrontier) -> dict[str, UrlRecord]:
    return {record.url: record async for batch in frontier.scan() for record in batch}


async def a_page(request: web.Request) -> web.StreamResponse:
    if request.path == "/robots.txt":
        return web.Response(status=404)
    return web.Response(text=f"<!doctype html><title>{request.path}</title>", content_type="text/html")


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "a"}]}, {"a"}),
        ({"batchItemFailures": None}, set()),
        (None, set()),
        ({}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "c"}]}, None),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, None),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, None),
        ({"batchItemFailures": [{"messageId": "a"}]}, None),
        ({"batchItemFailure": []}, None),
        ("fine", None),
    ],
)
def test_the_poller_reads_answers_as_aws_does(answer: Any, failed: set[str] | None) -> None:
    assert failures(answer, ["a", "b"]) == failed


async def test_a_poison_message_is_reported_failed_and_alone(
    start_runtime: StartRuntime, place: dict[str, str]
) -> None:
    runtime = start_runtime()
    async with served(a_page) as url, opened(place) as frontier:
        good = [encode_message(Message(url=f"{url}/{number}", settings=SETTINGS)) for number in range(3)]
        await frontier.send([*good, POISON, f"{url}/plain"])
        event = await received(place)
        poison = next(record["messageId"] for record in event["Records"] if record["body"] == POISON)
        assert await invoke(runtime, event) == {"batchItemFailures": [{"itemIdentifier": poison}]}
        found = await records(frontier)
        assert {record.status for record in found.values()} == {Status.DONE}
        assert len(found) == 4
        assert await invoke(runtime, {"Records": []}) == {"batchItemFailures": []}


async def test_what_is_deferred_is_sent_on_and_reported_as_success(
    start_runtime: StartRuntime, place: dict[str, str]
) -> None:
    runtime = start_runtime()
    async with served(a_page) as url, opened(place) as frontier:
        settings = CrawlSettings(delay_seconds=60)
        await frontier.send([encode_message(Message(url=f"{url}/{n}", settings=settings)) for n in range(3)])
        assert await invoke(runtime, await received(place)) == {"batchItemFailures": []}
        stats = await frontier.queue_stats()
        # The first request was for robots.txt: all three wait for their slots.
        assert (stats.visible, stats.in_flight, stats.delayed) == (0, 0, 3)


async def test_every_line_of_the_log_names_its_own_invocation(
    start_runtime: StartRuntime, place: dict[str, str]
) -> None:
    runtime = start_runtime()
    async with served(a_page) as url, opened(place) as frontier:
        for number in range(2):
            await frontier.send([encode_message(Message(url=f"{url}/{number}", settings=SETTINGS))])
            await invoke(runtime, await received(place))
    lines = [json.loads(line) for line in runtime.log.splitlines() if line.startswith("{")]
    won = [line["request_id"] for line in lines if line["event"].startswith("WON race — claimed for processing: ")]
    samples = [line for line in lines if line["event"] == "sample"]
    ends = [line for line in lines if line["event"] == "invocation"]
    assert won == [line["request_id"] for line in samples] == [line["request_id"] for line in ends]
    assert len(set(won)) == 2
    for line in samples:  # nothing of the first one is counted in the second
        assert (line["Received"], line["Done"], line["Failed"]) == (1, 1, 0)
    for line in ends:
        assert line["Unended"] == 0
        assert line["WriteUnits"] > 0
    for line in (*samples, *ends):
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert {metric["Name"] for metric in directive["Metrics"]} <= line.keys()
        assert directive["Dimensions"] == [["QueueName"]]


class Watched:
    """A way to an engine that notes the permissions which the calls need."""

    def __init__(self, upstream: str) -> None:
        self.needed: set[str] = set()
        self._upstream = upstream

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        service, _, action = request.headers["X-Amz-Target"].partition(".")
        if action == "BatchExecuteStatement":
            words = {statement["Statement"].split()[0] for statement in json.loads(body)["Statements"]}
            self.needed |= {f"dynamodb:PartiQL{word.capitalize()}" for word in words}
        elif service == "AmazonSQS":
            self.needed.add(f"sqs:{action.removesuffix('Batch')}")
        elif service.startswith("DynamoDB"):
            self.needed.add(f"dynamodb:{action}")
        else:
            self.needed.add(f"cloudwatch:{action}")
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.post(self._upstream, data=body, headers=headers) as response,
        ):
            return web.Response(status=response.status, body=await response.read(), content_type="application/json")


async def test_the_functions_make_only_calls_that_they_are_granted(
    start_runtime: StartRuntime, place: dict[str, str]
) -> None:
    async def odd(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/robots.txt":
                return web.Response(text="User-agent: *\nDisallow: /private\n")
            case "/busy":
                return web.Response(status=503, headers={"Retry-After": "7200"})
            case "/broken":
                return web.Response(status=500)
        return web.Response(text="<!doctype html><a href=/a>a</a><a href=/b>b</a>", content_type="text/html")

    watched = Watched(place["AWS_ENDPOINT_URL"])
    async with served(odd) as url, served(watched.answer) as endpoint, opened(place) as frontier:
        runtime = start_runtime(endpoint=endpoint)
        sweeper = start_runtime(endpoint=endpoint, handler="sqspider.lambda_handler.sweep")
        paths = ("", "a", "private", "missing", "broken", "busy")
        for settings in (SETTINGS, CrawlSettings(delay_seconds=0.1)):
            for path in paths:
                await frontier.send([encode_message(Message(url=f"{url}/{path}", settings=settings))])
            await frontier.send([POISON])
            await invoke(runtime, await received(place))
            await invoke(runtime, await received(place))
        assert watched.needed <= set(CRAWL_ACTIONS)
        # Lambda itself receives; a claim of another, or a stale one, makes visible again; crawls have rows to look for.
        others = {"sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "dynamodb:Query"}
        assert set(CRAWL_ACTIONS) - watched.needed <= others

        # The host asked for two hours: its URLs are parked, and a sweep looks for such.
        watched.needed.clear()
        assert await invoke(sweeper, {}) == {"released": 0}
        assert {"dynamodb:Query", "sqs:GetQueueAttributes"} <= watched.needed
        assert watched.needed <= set(SWEEP_ACTIONS)


async def test_timeouts_and_deaths_in_the_middle_of_a_batch_lose_nothing(
    start_runtime: StartRuntime, ministack: dict[str, str]
) -> None:
    """The process is killed, then frozen until its time is up, while pages are being fetched; and again and
    again it dies of one page that takes more memory than there is."""
    visibility = 16
    place = await store.create(ministack, FrontierSettings(visibility_seconds=visibility))
    large = "<!doctype html>" + "".join(f'<p><a href="http://other.example/{n}">{n:040}</a></p>' for n in range(90_000))
    packed = gzip.compress(large.encode())
    asked = asyncio.Event()
    may_answer = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/page/"):
            asked.set()
            await may_answer.wait()
        if request.path == "/large":
            return web.Response(body=packed, content_type="text/html", headers={"Content-Encoding": "gzip"})
        return await a_page(request)

    # The least memory that ordinary pages need, so that the large one is too much.
    runtime = start_runtime(
        place=place,
        timeout_seconds=12,
        memory_mb=50,
        lease_seconds=visibility,
        fetch_seconds=0.9,
        max_body_bytes=8_000_000,
    )
    urls = []
    async with served(answer) as url, opened(place) as frontier, Poller(runtime, place) as poller:
        urls = [f"{url}/page/{number}" for number in range(15)]
        await produce(frontier, urls, CrawlSettings(delay_seconds=0), on_refused=print)
        for number in (signal.SIGKILL, signal.SIGSTOP):
            asked.clear()
            asking, polling = asyncio.create_task(asked.wait()), asyncio.create_task(poller.poll())
            await asyncio.wait((polling, asking), return_when=asyncio.FIRST_COMPLETED)
            while not asked.is_set():  # on a busy machine an invocation may end before it has asked for anything
                polling = asyncio.create_task(poller.poll())
                await asyncio.wait((polling, asking), return_when=asyncio.FIRST_COMPLETED)
            os.kill(runtime.pid, number)
            assert await polling > 0
        may_answer.set()
        assert "killed" in poller.errors[0]
        assert "timed out" in poller.errors[1]
        await produce(frontier, [f"{url}/large"], CrawlSettings(delay_seconds=0), on_refused=print)
        while (await frontier.counts()).open:
            await poller.poll()
        found = await records(frontier)
        stats = await frontier.queue_stats()
    await store.drop(place)
    assert poller.malformed == 0
    assert {found[url].status for url in urls} == {Status.DONE}
    outcome = found[f"{url}/large"].outcome
    assert outcome is not None
    if runtime.is_limited:
        assert outcome.reason is Reason.CRASHED
        assert sum("killed" in error for error in poller.errors) == 4
    else:
        assert outcome.status is Status.DONE
    assert stats.dead == 0
