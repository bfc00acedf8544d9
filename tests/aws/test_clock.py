"""Whose time leases and slots go by: AWS's, whatever this machine's clock says."""

from __future__ import annotations

import asyncio
import math
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sqspider.crawl_settings import CrawlSettings
from sqspider.demo_site import DemoSite
from sqspider.frontier import Entry, FrontierSettings, LostReason, SlotDemand
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.client import AwsClient
from sqspider.frontier.aws.clock import TOLERATED_SECONDS, AwsClock
from sqspider.frontier.aws.credentials import find_keys
from sqspider.frontier.aws.transport import CLOUDWATCH, DYNAMODB, SQS, HttpTransport, Service
from sqspider.record import Status
from tests.frontier.kit import (
    LEASE,
    SETTINGS,
    assert_counts_are_exact,
    assert_lost,
    entries,
    finish_one,
    take,
    take_one,
    try_claim,
    url,
    win,
)

from .engines import Engines
from .store import AwsStore

AHEAD = 240.0
MOMENT = 1_700_000_000.0
# The command line on a machine whose clock is ahead by so many seconds.
SHIFTED = """
import sys, time
real_time, ahead = time.time, float(sys.argv.pop(1))
time.time = lambda: real_time() + ahead
from sqspider.__main__ import main
main()
"""


@pytest.fixture
async def patient_store(engines: Engines) -> AsyncIterator[AwsStore]:
    """A store with the timeouts of a real one, which a whole worker needs."""
    store = await AwsStore.create(engines.ministack(), engines.clock, FrontierSettings())
    yield store
    await store.close()


async def run_shifted(store: AwsStore, ahead: float, *arguments: str) -> tuple[str, str]:
    """What the command line prints, and says, on such a machine."""
    command = (sys.executable, "-c", SHIFTED, str(ahead), *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=store.environment, stdout=PIPE, stderr=PIPE)
    printed, said = (text.decode() for text in await process.communicate())
    assert process.returncode == 0, said
    return printed, said


async def consume_shifted(store: AwsStore, ahead: float, *arguments: str) -> str:
    """What a consumer on such a machine says."""
    return (await run_shifted(store, ahead, "consume", "--allow-private", *arguments))[1]


@given(
    skew=st.floats(-1e6, 1e6),
    server_at=st.floats(MOMENT, MOMENT + 100),
    there=st.floats(0, 30),
    back=st.floats(0, 30),
)
def test_the_time_is_wrong_by_no_more_than_can_be_told(
    skew: float, server_at: float, there: float, back: float
) -> None:
    """``skew``: how far this machine is ahead; the way ``there`` and ``back`` takes so long."""
    clock = AwsClock(lambda: server_at + skew)
    for _ in range(2):
        clock.see(formatdate(math.floor(server_at), usegmt=True), server_at - there + skew, server_at + back + skew)
        assert abs(clock() - server_at) <= max(TOLERATED_SECONDS + 1, there + back + TOLERATED_SECONDS + 1)
    if abs(skew) <= TOLERATED_SECONDS:
        assert clock.offset == 0


def test_a_clock_that_is_set_right_is_believed_again_and_rubbish_is_not() -> None:
    clock = AwsClock(lambda: MOMENT)
    with capture_logs() as logs:
        for _ in range(3):
            clock.see(formatdate(MOMENT - AHEAD, usegmt=True), MOMENT, MOMENT)
        assert abs(clock() - (MOMENT - AHEAD)) <= 1
        for rubbish in ("", "now", "Tue, 99 Foo 2026 00:00:00 GMT"):
            clock.see(rubbish, MOMENT, MOMENT)
        clock.see(formatdate(MOMENT, usegmt=True), MOMENT + 5, MOMENT)  # set back under way
        assert clock.offset != 0
        clock.see(formatdate(MOMENT, usegmt=True), MOMENT, MOMENT)
    assert clock() == MOMENT
    assert [(log["event"], round(log["seconds_ahead"])) for log in logs] == [
        ("clock_differs", 240),
        ("clock_differs", 0),
    ]


async def test_a_clock_that_is_ahead_wins_no_live_claim_and_moves_no_slot(store: AwsStore) -> None:
    frontier = await store.open()
    with capture_logs() as logs:
        ahead = await AwsFrontier.open(SETTINGS, clock=lambda: store.clock() + AHEAD, environment=store.environment)
        await frontier.enqueue(entries(2))
        first, second = await take(frontier, 2)
        await win(frontier, first, lease=LEASE)
        assert_lost(await try_claim(ahead, first, worker="two", claim="c2"), LostReason.HELD)
        demand = SlotDemand(host="example.com", count=1, spacing_seconds=1, generation=0)
        slots = [(await handle.reserve([demand]))[0] for handle in (ahead, frontier)]
        assert all(slot is not None and abs(slot - store.clock()) < AHEAD / 2 for slot in slots)
        claim = await win(ahead, second, worker="two", claim="c3")
        assert abs(claim.lease_until - LEASE - store.clock()) < AHEAD / 2
        await ahead.close()
    assert [log["event"] for log in logs].count("clock_differs") == 1


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
async def test_a_clock_that_is_put_back_or_on_under_a_worker_changes_nothing(store: AwsStore, jump: float) -> None:
    """Leases, slots and sums go on by AWS's time from the first answer on: nothing that is kept has to be moved."""
    own = [0.0]
    frontier = await AwsFrontier.open(SETTINGS, clock=lambda: store.clock() + own[0], environment=store.environment)
    await frontier.enqueue(entries(2))
    first, second = await take(frontier, 2)
    await win(frontier, first, lease=600)
    demand = SlotDemand(host="example.com", count=1, spacing_seconds=1, generation=0)
    (slot,) = await frontier.reserve([demand])
    await frontier.flush()
    own[0] = jump
    await frontier.queue_stats()  # any answer will do
    assert abs(frontier.now() - store.clock()) <= TOLERATED_SECONDS + 1
    assert_lost(await try_claim(frontier, first, worker="two", claim="c2"), LostReason.HELD)
    claim = await win(frontier, second, claim="c3")
    assert abs(claim.lease_until - LEASE - store.clock()) <= TOLERATED_SECONDS + 1
    (next_slot,) = await frontier.reserve([demand])
    assert slot is not None
    assert next_slot is not None
    assert 0 < next_slot - slot < 60
    assert await finish_one(frontier, claim, second)
    await assert_counts_are_exact(frontier)
    await frontier.close()


async def test_a_consumer_whose_clock_is_ahead_leaves_a_live_claim_alone(patient_store: AwsStore) -> None:
    frontier = await patient_store.open(FrontierSettings())
    await frontier.enqueue(entries(1))
    held = await take_one(frontier)
    claim = await win(frontier, held, lease=AHEAD / 2)
    await frontier.send([held.body])  # as a duplicate comes
    said = await consume_shifted(patient_store, AHEAD)
    assert "WON race" not in said
    assert said.count("clock_differs") == 1
    record = (await frontier.get([url(0)]))[url(0)]
    assert (record.attempt, record.claim_id) == (claim.attempt, claim.claim_id)


async def test_a_consumer_whose_clock_is_behind_finds_its_slots(patient_store: AwsStore, site: DemoSite) -> None:
    """By its own clock every slot but the first would be four minutes away."""
    frontier = await patient_store.open(FrontierSettings())
    settings = CrawlSettings(delay_seconds=0.2)
    urls = [f"{site.url}page/{number}" for number in range(4)]
    await frontier.enqueue([Entry(url=url, settings=settings) for url in urls])
    await consume_shifted(patient_store, -AHEAD, "--until-empty")
    records = await frontier.get(urls)
    assert {record.status for record in records.values()} == {Status.DONE}


async def test_a_machine_whose_clock_is_ahead_sees_hosts_as_they_are(store: AwsStore) -> None:
    frontier = await store.open()
    slots = SlotDemand(host="a.example", count=1, spacing_seconds=100.0, generation=0)
    assert await frontier.reserve([slots]) != [None]
    printed, _ = await run_shifted(store, AHEAD, "hosts")
    assert "a.example" in printed
    assert " s" in printed.splitlines()[-1], printed  # until the next slot: not past


@pytest.mark.parametrize(("service", "is_heeded"), [(SQS, True), (DYNAMODB, True), (CLOUDWATCH, False)])
async def test_time_is_taken_from_the_services_that_keep_leases_and_timeouts(service: Service, is_heeded: bool) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({}, headers={"Date": formatdate(MOMENT + AHEAD, usegmt=True)})

    app = web.Application()
    app.add_routes([web.post("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    keys = find_keys({"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "test"})
    clock = AwsClock(lambda: MOMENT)
    endpoints, transport = {service: endpoint}, HttpTransport({service: endpoint}, clock=clock.own)
    rng = random.Random(0)
    client = AwsClient(keys, region="us-east-1", endpoints=endpoints, transport=transport, rng=rng, clock=clock)
    try:
        await client.call(service, "Anything", {})
    finally:
        await client.close()
        await runner.cleanup()
    assert (clock.offset > AHEAD / 2) is is_heeded
