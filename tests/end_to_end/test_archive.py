"""The function keeps what it fetches in a bucket: one object an invocation, before any record is final, in its time."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import pytest
from aiohttp import web

from sqspider.archive.bucket import Bucket
from sqspider.archive.members import check_whole, members
from sqspider.archive.s3_permissions import WRITER_ACTIONS
from sqspider.archive.s3_place import S3Place
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.message import Message, encode_message
from sqspider.record import Status, UrlRecord
from sqspider.url import Scope
from tests.aws import s3_faults
from tests.aws.buckets import bucket
from tests.aws.s3_faults import Answered, Asked, S3Proxy, always, refusal
from tests.end_to_end.conftest import StartRuntime
from tests.end_to_end.runtime import Poller
from tests.end_to_end.test_budgets import HOSTS, MEMORY_MB, served

PAGES: Final = 10
BATCHES: Final = 6
LARGE_BYTES: Final = 3_750_000  # of which each three are written as four
PEAK_MB: Final = 100  # 84 were measured


class Kept(NamedTuple):
    """Where the function keeps what it fetches."""

    proxy: S3Proxy  # on its way there
    place: S3Place
    environment: dict[str, str]  # of the function


@pytest.fixture
async def kept(place: dict[str, str]) -> AsyncIterator[Kept]:
    async with S3Proxy(place, seed=1) as proxy, bucket(place, "pages") as found:
        yield Kept(proxy, found, {**proxy.environment, "SQSPIDER_ARCHIVE": str(found)})
        proxy.fault = None


@asynccontextmanager
async def opened(place: dict[str, str]) -> AsyncIterator[AwsFrontier]:
    frontier = await AwsFrontier.open(FrontierSettings(visibility_seconds=1), clock=time.time, environment=place)
    try:
        yield frontier
    finally:
        await frontier.close()


async def records(frontier: AwsFrontier) -> list[UrlRecord]:
    return [record async for batch in frontier.scan() for record in batch]


async def a_page(request: web.Request) -> web.StreamResponse:
    if request.path == "/robots.txt":
        return web.Response(text="User-agent: *\nDisallow: /private\n")
    return web.Response(text=f"<!doctype html><title>{request.path}</title>" + "text " * 500, content_type="text/html")


async def walked(kept: Kept) -> dict[str, Counter[str]]:
    """All objects, whole: how many records of which kind are in each."""

    def walk() -> dict[str, Counter[str]]:
        files = Bucket.at(str(kept.place), {**kept.environment, "AWS_ENDPOINT_URL_S3": kept.proxy.upstream})
        found = {}
        for file in files.all():
            with files.opened(file.name) as stream:
                heads = [check_whole(member) for member in members(stream)]
            found[file.name] = Counter(head.partition(b"WARC-Type: ")[2].split()[0].decode() for head in heads)
        files.close()
        return found

    return await asyncio.to_thread(walk)


async def are_where_they_say(kept: Kept, found: list[UrlRecord]) -> bool:
    """Whether each record that is final and was answered has its capture."""

    def look() -> bool:
        files = Bucket.at(str(kept.place), {**kept.environment, "AWS_ENDPOINT_URL_S3": kept.proxy.upstream})
        for record in found:
            outcome = record.outcome
            if outcome is None or outcome.http_status is None or not record.status.is_final:
                continue
            if outcome.capture is None:
                return False
            with files.opened(outcome.capture.file, outcome.capture.offset) as stream:
                head = check_whole(next(members(stream)))
            if f"WARC-Target-URI: {record.url}\r\n".encode() not in head:
                return False
        files.close()
        return True

    return await asyncio.to_thread(look)


async def send(frontier: AwsFrontier, urls: list[str], delay_seconds: float = 0.0) -> None:
    settings = CrawlSettings(scope=Scope.HOST, delay_seconds=delay_seconds)
    await frontier.send([encode_message(Message(url=url, settings=settings)) for url in urls])


async def test_what_an_invocation_fetches_of_one_host_is_one_object(start_runtime: StartRuntime, kept: Kept) -> None:
    """However far apart its pages are asked for; robots.txt is in it."""
    runtime = start_runtime(place=kept.environment)
    async with (
        served(a_page) as hosts,
        opened(kept.environment) as frontier,
        Poller(runtime, kept.environment) as poller,
    ):
        await send(frontier, [f"{hosts[0]}{number}" for number in range(PAGES)], delay_seconds=0.4)
        assert await poller.poll() == PAGES
        found = await records(frontier)
    assert (poller.errors, poller.malformed) == ([], 0)
    assert Counter(record.status for record in found) == {Status.DONE: PAGES}
    assert kept.proxy.counts == {"PUT": 1}
    ((name, kinds),) = (await walked(kept)).items()
    assert kinds == {"warcinfo": 1, "response": PAGES + 1, "request": PAGES + 1, "metadata": PAGES + 1}
    assert {record.outcome.capture.file for record in found if record.outcome and record.outcome.capture} == {name}
    assert await are_where_they_say(kept, found)
    assert '"S3Writes":1' in runtime.log.replace(" ", "")


async def test_ten_large_pages_are_kept_in_the_memory_there_is(start_runtime: StartRuntime, kept: Kept) -> None:
    """Five megabytes each that cannot be packed, half of them compressed on the way."""
    pages = {host: b"<!doctype html>" + base64.b64encode(random.Random(host).randbytes(LARGE_BYTES)) for host in HOSTS}

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/":
            return web.Response(status=404)
        response = web.Response(body=pages[request.url.host or ""], content_type="text/html")
        if request.url.host and int(request.url.host.rpartition(".")[2]) % 2:
            response.enable_compression()
        return response

    runtime = start_runtime(place=kept.environment, memory_mb=MEMORY_MB, max_body_bytes=5_500_000)
    async with (
        served(answer) as urls,
        opened(kept.environment) as frontier,
        Poller(runtime, kept.environment) as poller,
    ):
        await send(frontier, urls)
        assert await poller.poll() == len(urls)
        print("peak", runtime.peak_memory_mb, "objects", kept.proxy.counts["PUT"])
        found = await records(frontier)
    assert (poller.errors, poller.malformed) == ([], 0)
    assert runtime.peak_memory_mb < PEAK_MB
    done = [record for record in found if record.status is Status.DONE]
    assert done  # on a busy machine the last of them do not get at the memory in time, and are given back
    assert {record.outcome.bytes for record in done if record.outcome} == {len(pages[HOSTS[0]])}
    assert {(record.status, record.unended) for record in found} <= {(Status.DONE, 0), (Status.QUEUED, 0)}
    assert await are_where_they_say(kept, found)


@pytest.mark.parametrize(
    "answer",
    [
        refusal("AccessDenied", 403, "Access Denied"),
        refusal("NoSuchBucket", 404),
        refusal("PermanentRedirect", 301, x_amz_bucket_region="eu-west-3"),
    ],
    ids=["no permission", "no bucket", "another region"],
)
async def test_what_the_bucket_refuses_is_given_back_uncounted_and_named(
    start_runtime: StartRuntime, kept: Kept, answer: Answered
) -> None:
    runtime = start_runtime(place=kept.environment)
    kept.proxy.fault = always(answer)
    async with (
        served(a_page) as hosts,
        opened(kept.environment) as frontier,
        Poller(runtime, kept.environment) as poller,
    ):
        await send(frontier, [f"{host}page" for host in hosts[:3]])
        assert await poller.poll() == 3
        found = await records(frontier)
        stats = await frontier.queue_stats()
    assert (poller.errors, poller.malformed) == ([], 0)
    assert {(record.status, record.attempt, record.unended, record.outcome) for record in found} <= {
        (Status.QUEUED, attempt, 0, None) for attempt in (0, 1)
    }
    assert stats.delayed == 3  # a minute
    assert '"not_stored"' in runtime.log


async def test_a_bucket_that_never_answers_does_not_use_up_the_time(start_runtime: StartRuntime, kept: Kept) -> None:
    runtime = start_runtime(place=kept.environment, timeout_seconds=13, fetch_seconds=1)
    kept.proxy.fault = s3_faults.hold
    async with (
        served(a_page) as hosts,
        opened(kept.environment) as frontier,
        Poller(runtime, kept.environment) as poller,
    ):
        await send(frontier, [f"{host}page" for host in hosts])
        assert await poller.poll() == len(hosts)
        found = await records(frontier)
        assert (poller.errors, poller.malformed) == ([], 0)  # among them, that its time was up
        assert {(record.status, record.unended) for record in found} == {(Status.QUEUED, 0)}
        assert "out_of_time" not in runtime.log

        kept.proxy.fault = None
        await send(frontier, [f"{host}other" for host in hosts])
        assert await poller.poll() == len(hosts)  # by the same process
        found = await records(frontier)
    assert Counter(record.status for record in found) == {Status.QUEUED: len(hosts), Status.DONE: len(hosts)}
    assert await are_where_they_say(kept, found)


@pytest.mark.parametrize("name", ["throttle", "fail", "lose_answer"])
async def test_whatever_happens_to_what_is_put_no_record_is_final_without_its_capture(
    start_runtime: StartRuntime, kept: Kept, name: str
) -> None:
    runtime = start_runtime(place=kept.environment)
    kept.proxy.fault, kept.proxy.chance = s3_faults.ALL[name], 0.4
    async with (
        served(a_page) as hosts,
        opened(kept.environment) as frontier,
        Poller(runtime, kept.environment) as poller,
    ):
        for batch in range(BATCHES):
            await send(frontier, [f"{host}{batch}" for host in hosts])
            assert await poller.poll() == len(hosts)
        found = await records(frontier)
    assert kept.proxy.injected > 0
    assert (poller.errors, poller.malformed) == ([], 0)
    # A batch that had no luck for five seconds was given back, uncounted.
    assert {(record.status, record.unended) for record in found} <= {(Status.DONE, 0), (Status.QUEUED, 0)}
    assert {record.attempt for record in found} == {1}
    assert sum(record.status is Status.DONE for record in found) >= len(found) / 2
    assert await are_where_they_say(kept, found)
    await walked(kept)


async def test_only_what_is_granted_is_asked_of_the_bucket(start_runtime: StartRuntime, kept: Kept) -> None:
    needed: set[str] = set()
    of: dict[str, str] = {"PUT": "s3:PutObject", "HEAD": "s3:GetObject", "GET": "s3:GetObject"}

    async def lost(proxy: S3Proxy, asked: Asked) -> Answered:
        needed.add("s3:ListBucket" if "list-type" in asked.target else of.get(asked.method, asked.method))
        await proxy.forward(asked)
        return Answered(0) if proxy.counts["PUT"] == 1 else await proxy.forward(asked)

    kept.proxy.fault = lost
    runtime = start_runtime(place=kept.environment)
    async with (
        served(a_page) as hosts,
        opened(kept.environment) as frontier,
        Poller(runtime, kept.environment) as poller,
    ):
        await send(frontier, [f"{hosts[0]}page"])
        await poller.poll()
        (found,) = await records(frontier)
    assert found.status is Status.DONE
    assert needed == set(WRITER_ACTIONS)
