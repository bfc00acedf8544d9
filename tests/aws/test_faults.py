"""What AWS does and the engines do not: throttling, lost answers, partial failures, duplicates, disorder.

Whatever happens: nothing is lost, each record is finished once, and no trouble is called a lost race.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable

import pytest

from sqspider.frontier import (
    ClaimRequest,
    Deferral,
    Delivery,
    Entered,
    Entrance,
    Entry,
    Exit,
    Finish,
    Frontier,
    FrontierBusyError,
    LostReason,
    Retry,
    Won,
)
from sqspider.frontier.aws import AwsFrontier, backoff
from sqspider.frontier.aws.batches import batches
from sqspider.frontier.aws.counts import QUIET_SECONDS
from sqspider.frontier.aws.sums import FORGOTTEN_AT_ONCE, KEPT_MARKS, MARK, MARK_SECONDS
from sqspider.host import SUMS, sums_of
from sqspider.message import decode_message
from sqspider.record import Status
from tests.frontier.kit import (
    A_LITTLE,
    DONE,
    DUE,
    LEASE,
    TROUBLE,
    VISIBILITY,
    all_records,
    assert_counts_are_exact,
    claim_all,
    entries,
    finish_one,
    message_of,
    record_of,
    take,
    take_one,
    url,
    win,
)

from . import faults
from .faults import FaultProxy
from .store import AwsStore

SEEDS = 25
ROUNDS = 40
TROUBLED_ROUNDS = 6
UNCLEAR = ["throttle", "fail", "lose_answer", "fail_parts"]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults do not care how long one waits before the next try."""
    monkeypatch.setattr(backoff, "LONGEST_PAUSE_SECONDS", 0.1)


async def open_behind(proxy: FaultProxy, store: AwsStore) -> AwsFrontier:
    """A handle whose calls go through the proxy; closed with the store."""
    return await store.open_in(proxy.environment)


async def everything(frontier: Frontier) -> list[Delivery]:
    """All that is visible."""
    deliveries: list[Delivery] = []
    while some := await frontier.receive(10):
        deliveries += some
    return deliveries


class Crowd:
    """Some workers that crawl without fetching, and write down what the frontier told them."""

    def __init__(self, truth: Frontier, store: AwsStore, rng: random.Random) -> None:
        self.finished: Counter[str] = Counter()
        self.lost: Counter[LostReason] = Counter()
        self.busy = 0
        self._truth = truth  # a handle that meets no faults
        self._store = store
        self._rng = rng
        self._claims = 0

    async def work(self, frontier: Frontier, name: str) -> None:
        """Receive, claim and end until nothing comes."""
        while True:
            try:
                deliveries = await frontier.receive(10)
                if not deliveries:
                    return
                requests = []
                for delivery in deliveries:
                    message = decode_message(delivery.body)
                    assert not isinstance(message, tuple)
                    requests.append(ClaimRequest(delivery=delivery, message=message))
                await self._claim_and_end(frontier, name, requests)
            except FrontierBusyError:
                self.busy += 1

    async def _claim_and_end(self, frontier: Frontier, name: str, requests: list[ClaimRequest]) -> None:
        self._claims += 1
        claim_id = f"claim-{self._claims}"
        answers = await frontier.claim(requests, worker_id=name, claim_id=claim_id, lease_seconds=LEASE)
        finishes, retries, deferrals, over = [], [], [], []
        won = {answer.url for answer in answers if isinstance(answer, Won)}
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Won):
                if self._rng.random() < 0.2:
                    at = self._store.clock() + self._rng.choice([0, 1, 1000])
                    retries.append(Retry(claim=answer, delivery=request.delivery, at=at, tried=True, outcome=TROUBLE))
                else:
                    finishes.append(self._finish(answer, request))
                continue
            self.lost[answer.why] += 1
            record = await record_of(self._truth, answer.url)
            if answer.why is LostReason.FINISHED:
                assert record.status.is_final
                over.append(request.delivery)
            else:
                assert record.claim_id != claim_id or answer.url in won
                deferrals.append(Deferral(delivery=request.delivery, until=answer.lease_until))
        for finish, is_done in zip(finishes, await frontier.finish(finishes), strict=True):
            self.finished[finish.claim.url] += is_done
        await frontier.retry(retries)
        await frontier.defer(deferrals)
        await frontier.delete(over)

    def _finish(self, claim: Won, request: ClaimRequest) -> Finish:
        depth = request.message.depth
        links = tuple(Entry(url=f"{claim.url}/{i}", depth=depth + 1) for i in range(3)) if depth == 0 else ()
        shared = (Entry(url=url("shared"), depth=1),) if depth == 0 else ()
        return Finish(claim=claim, delivery=request.delivery, outcome=DONE, links=links + shared)


@pytest.mark.parametrize("name", faults.ALL)
async def test_a_crawl_in_trouble_loses_nothing_and_finishes_each_url_once(
    store: AwsStore, proxy: FaultProxy, name: str
) -> None:
    truth = await store.open()
    crowd = Crowd(truth, store, random.Random(7))
    workers = {worker: await open_behind(proxy, store) for worker in ("a", "b", "c")}
    proxy.fault = faults.ALL[name]
    await workers["a"].enqueue(entries(SEEDS))
    for round in range(ROUNDS):
        if round == TROUBLED_ROUNDS:
            proxy.fault = None  # the trouble ends
        await asyncio.gather(*(crowd.work(frontier, worker) for worker, frontier in workers.items()))
        await store.elapse(max(VISIBILITY, LEASE) + A_LITTLE + (1000 if round % 5 == 4 else DUE))
        for frontier in workers.values():
            try:
                await frontier.sweep()
            except FrontierBusyError:
                crowd.busy += 1
        if proxy.fault is None and (await truth.counts()).open == 0 and (await truth.queue_stats()).is_empty:
            break
    else:
        pytest.fail("the crawl did not drain")

    records = await all_records(truth)
    expected = {url(i) for i in range(SEEDS)} | {f"{url(i)}/{j}" for i in range(SEEDS) for j in range(3)}
    assert set(records) == expected | {url("shared")}
    assert {record.status for record in records.values()} == {Status.DONE}
    assert crowd.finished == dict.fromkeys(records, 1)
    assert sum(proxy.injected.values()) > 20, proxy.injected
    await assert_counts_are_exact(truth, *workers.values())
    await assert_host_sums_are_exact(truth, *workers.values())


@pytest.mark.parametrize("name", UNCLEAR)
async def test_trouble_in_a_claim_is_no_lost_race(store: AwsStore, proxy: FaultProxy, name: str) -> None:
    frontier = await open_behind(proxy, store)
    await frontier.enqueue(entries(20))
    deliveries = await take(frontier, 20)
    proxy.fault, proxy.chance = faults.ALL[name], 0.6
    answers = await claim_all(frontier, deliveries, lease=60)
    assert [isinstance(answer, Won) for answer in answers] == [True] * 20
    assert {answer.attempt for answer in answers if isinstance(answer, Won)} == {1}
    assert proxy.injected["BatchExecuteStatement"] > 0


@pytest.mark.parametrize("name", UNCLEAR)
async def test_trouble_in_a_finish_is_no_stale_claim(store: AwsStore, proxy: FaultProxy, name: str) -> None:
    frontier = await open_behind(proxy, store)
    await frontier.enqueue(entries(20))
    deliveries = await take(frontier, 20)
    claims = [answer for answer in await claim_all(frontier, deliveries, lease=60) if isinstance(answer, Won)]
    proxy.fault, proxy.chance = faults.ALL[name], 0.6
    finishes = [
        Finish(claim=claim, delivery=delivery, outcome=DONE, links=(Entry(url=url(f"link{i}")),))
        for i, (claim, delivery) in enumerate(zip(claims, deliveries, strict=True))
    ]
    retries = [
        Retry(claim=finish.claim, delivery=finish.delivery, at=0.0, tried=True)
        for finish in finishes[10:]
        if finish.delivery is not None
    ]
    assert await frontier.finish(finishes[:10]) == [True] * 10
    assert await frontier.retry(retries) == [True] * 10
    proxy.fault = None
    await frontier.counts()
    records = await all_records(frontier)
    assert Counter(record.status for record in records.values()) == {Status.DONE: 10, Status.QUEUED: 20}
    assert {record.tries for record in records.values() if record.attempt == 1} == {0, 1}
    await store.elapse(VISIBILITY + A_LITTLE)
    again = {message_of(delivery).url for delivery in await everything(frontier)}
    assert again == {name for name, record in records.items() if record.status is Status.QUEUED}


@pytest.mark.parametrize("name", UNCLEAR)
async def test_urls_that_were_recorded_in_trouble_are_new_to_one(store: AwsStore, proxy: FaultProxy, name: str) -> None:
    frontier = await open_behind(proxy, store)
    other = await open_behind(proxy, store)
    proxy.fault, proxy.chance = faults.ALL[name], 0.5
    first, second = await asyncio.gather(frontier.enqueue(entries(40)), other.enqueue(entries(40)))
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * 40
    proxy.fault = None
    # A send whose answer was lost is made again, so some may come twice; none is missing.
    assert {message_of(delivery).url for delivery in await everything(frontier)} == {url(i) for i in range(40)}


async def test_a_claim_that_cannot_be_made_raises(store: AwsStore, proxy: FaultProxy) -> None:
    frontier = await open_behind(proxy, store)
    await frontier.enqueue(entries(3))
    deliveries = await take(frontier, 3)
    frontier.client.give_up_seconds = 0.5
    for name in UNCLEAR:
        proxy.fault, proxy.chance = faults.ALL[name], 1.0
        with pytest.raises(FrontierBusyError):
            await claim_all(frontier, deliveries, claim=name)
    proxy.fault = None
    await store.elapse(LEASE + A_LITTLE)
    assert all(isinstance(answer, Won) for answer in await claim_all(frontier, deliveries, claim="last"))


async def test_sums_that_could_not_be_written_are_written_later(store: AwsStore, proxy: FaultProxy) -> None:
    frontier = await open_behind(proxy, store)
    await frontier.enqueue(entries(10))
    deliveries = await take(frontier, 10)
    claims = [await win(frontier, delivery, claim=delivery.message_id) for delivery in deliveries]
    frontier.client.give_up_seconds = 0.3

    async def throttle_sums(
        proxy: FaultProxy, action: str, document: faults.Document, forward: faults.Forward
    ) -> faults.Answer:
        if action == "UpdateItem":
            proxy.injected[action] += 1
            return faults.refusal("ThrottlingException")
        return await forward(document)

    proxy.fault = throttle_sums
    await store.elapse(10)
    finishes = [
        Finish(claim=claim, delivery=delivery, outcome=DONE) for claim, delivery in zip(claims, deliveries, strict=True)
    ]
    assert await frontier.finish(finishes) == [True] * 10
    assert proxy.injected["UpdateItem"] > 0
    proxy.fault = None
    await assert_counts_are_exact(frontier)
    (row,) = await frontier.scan_hosts()
    assert row.done == 10


async def test_a_message_that_cannot_be_deleted_does_not_undo_its_finish(store: AwsStore, proxy: FaultProxy) -> None:
    frontier = await open_behind(proxy, store)
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    frontier.client.give_up_seconds = 0.3

    async def no_delete(
        _: FaultProxy, action: str, document: faults.Document, forward: faults.Forward
    ) -> faults.Answer:
        return faults.refusal("ThrottlingException") if action.startswith("Delete") else await forward(document)

    proxy.fault = no_delete
    assert await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=DONE)]) == [True]
    proxy.fault = None
    await store.elapse(VISIBILITY + A_LITTLE)
    assert message_of(await take_one(frontier)).url == url("a")


async def assert_host_sums_are_exact(frontier: AwsFrontier, *others: AwsFrontier) -> None:
    """What host rows say of finished fetches, once all have written theirs, equals what a full scan finds."""
    for handle in others:
        await handle.flush(all_hosts=True)
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in (await all_records(frontier)).values():
        if record.status.is_final and record.outcome is not None:
            found[record.host].update(sums_of(record.outcome))
    assert found
    for row in await frontier.scan_hosts():
        for name in SUMS:
            assert getattr(row, name) == pytest.approx(found[row.host][name]), (row.host, name)


@pytest.mark.parametrize("name", UNCLEAR)
async def test_sums_are_added_once_whatever_becomes_of_the_answers(
    store: AwsStore, proxy: FaultProxy, name: str
) -> None:
    """Each round's are written; two workers share hosts, and one of them gives up in every other round."""
    handles = [await open_behind(proxy, store) for _ in range(2)]
    await handles[0].enqueue([entry for host in ("a.example", "b.example") for entry in entries(15, host=host)])
    for round, deliveries in enumerate(batches(await take(handles[0], 30), 5)):
        frontier = handles[round % 2]
        proxy.fault = None
        claims = await claim_all(frontier, deliveries, claim=f"c{round}", lease=600)
        finishes = [
            Finish(claim=claim, delivery=delivery, outcome=DONE)
            for claim, delivery in zip(claims, deliveries, strict=True)
            if isinstance(claim, Won)
        ]
        assert await frontier.finish(finishes) == [True] * 5
        proxy.fault, proxy.chance = faults.ALL[name], 0.7
        for handle in handles:
            handle.client.give_up_seconds = 0.1 if round % 2 else 30.0
        await asyncio.gather(*(handle.flush(all_hosts=True) for handle in handles))
    proxy.fault = None
    assert proxy.injected["BatchExecuteStatement"] > 0
    assert proxy.injected["UpdateItem"] > 0 or name == "fail_parts"  # it has no parts
    await assert_counts_are_exact(handles[0], handles[1])
    await assert_host_sums_are_exact(*handles)


async def test_a_write_whose_answer_was_lost_is_known_though_another_wrote_since(
    store: AwsStore, proxy: FaultProxy
) -> None:
    frontier, other = await open_behind(proxy, store), await store.open()
    await frontier.enqueue(entries(1, host="a.example"))
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery)
    lost = 0

    async def lose_to_another(
        _: FaultProxy, action: str, document: faults.Document, forward: faults.Forward
    ) -> faults.Answer:
        nonlocal lost
        answer = await forward(document)
        if action != "BatchExecuteStatement" or lost:
            return answer
        lost += 1
        await other.leave([Exit(host="a.example", token="x", requested_at=1.0, latency_seconds=1.0)])
        return faults.Answer(0, {})

    proxy.fault = lose_to_another
    entrance = Entrance(
        host="a.example", token="t", delay_seconds=5.0, per_host=1, generation=None, until=store.clock() + 60
    )
    (admission,) = await frontier.enter([entrance])
    assert lost == 1
    assert admission.entered is Entered.YES  # and not busy because of its own first try
    (row,) = await other.scan_hosts()
    assert (row.done, row.latency_seconds > 0) == (1, True)
    await frontier.flush()
    assert (await other.scan_hosts()) == [row]


@pytest.mark.parametrize("name", UNCLEAR)
async def test_urls_that_are_reopened_in_trouble_are_by_one(store: AwsStore, proxy: FaultProxy, name: str) -> None:
    frontier = await open_behind(proxy, store)
    other = await open_behind(proxy, store)
    await frontier.enqueue(entries(20))
    for number in range(2):
        deliveries = await take(frontier, 10)
        claims = [c for c in await claim_all(frontier, deliveries, claim=f"c{number}", lease=60) if isinstance(c, Won)]
        ends = zip(claims, deliveries, strict=True)
        await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=DONE) for claim, delivery in ends])
    names = [url(i) for i in range(20)]
    proxy.fault, proxy.chance = faults.ALL[name], 0.5
    first, second = await asyncio.gather(frontier.reopen(names), other.reopen(names))
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * 20
    proxy.fault = None
    assert {message_of(delivery).url for delivery in await everything(frontier)} == set(names)
    assert {record.visit for record in (await all_records(frontier)).values()} == {1}
    await frontier.flush()
    await other.flush()
    assert {n: much for n, much in (await frontier._sums.read(["default"]))["default"].records.items() if much} == {
        Status.QUEUED: 20
    }


async def test_claims_whose_first_answer_was_lost_are_counted_once(store: AwsStore, proxy: FaultProxy) -> None:
    async def lose_the_first(
        proxy: FaultProxy, action: str, document: faults.Document, forward: faults.Forward
    ) -> faults.Answer:
        answer = await forward(document)
        if action != "BatchExecuteStatement" or proxy.injected[action]:
            return answer
        proxy.injected[action] += 1
        return faults.Answer(0, {})

    frontier = await open_behind(proxy, store)
    await frontier.enqueue(entries(4))
    deliveries = await take(frontier, 4)
    proxy.fault = lose_the_first
    claims = await claim_all(frontier, deliveries)
    assert [isinstance(claim, Won) and claim.unended for claim in claims] == [1] * 4
    assert proxy.injected["BatchExecuteStatement"] == 1
    await frontier.flush()
    assert (await frontier._sums.read(["default"]))["default"].records == {Status.PROCESSING: 4}


async def test_what_was_done_and_never_answered_is_counted_all_the_same(store: AwsStore, proxy: FaultProxy) -> None:
    """Records are written, and whoever does it is told that AWS was too busy; some of them in vain."""

    async def never_answer(
        proxy: FaultProxy, action: str, document: faults.Document, forward: faults.Forward
    ) -> faults.Answer:
        if action != "BatchExecuteStatement":
            return await forward(document)
        proxy.injected[action] += 1
        document["Statements"] = document["Statements"][::2]
        await forward(document)
        return faults.Answer(0, {})

    frontier = await open_behind(proxy, store)

    async def in_vain(work: Awaitable[object]) -> None:
        proxy.fault, frontier.client.give_up_seconds = never_answer, 0.3
        with pytest.raises(FrontierBusyError):
            await work
        proxy.fault, frontier.client.give_up_seconds = None, 30.0

    await in_vain(frontier.enqueue(entries(8)))
    assert await frontier.enqueue(entries(8)) == [False, True] * 4
    await frontier.flush()  # as a worker does every few seconds, before the records change again
    await frontier.send([url(i) for i in (0, 2, 4, 6)])  # a sweep would, in time
    deliveries = await take(frontier, 8)
    await in_vain(claim_all(frontier, deliveries, claim="c1"))
    await frontier.flush()
    await store.elapse(LEASE + A_LITTLE)
    claims = [claim for claim in await claim_all(frontier, deliveries, claim="c2") if isinstance(claim, Won)]
    assert sorted(claim.unended for claim in claims) == [1] * 4 + [2] * 4
    ends = list(zip(claims, deliveries, strict=True))
    finishes = [Finish(claim=claim, delivery=delivery, outcome=DONE) for claim, delivery in ends[:4]]
    retries = [Retry(claim=claim, delivery=delivery, at=0.0, tried=True) for claim, delivery in ends[4:]]
    await in_vain(frontier.finish(finishes))
    await in_vain(frontier.retry(retries))
    assert await frontier.finish(finishes) == [False, True] * 2
    await frontier.flush()
    wanted = {Status.QUEUED: 2, Status.PROCESSING: 2, Status.DONE: 4, "bytes": 4 * DONE.bytes}
    assert (await frontier._sums.read(["default"]))["default"].records == wanted
    await assert_counts_are_exact(frontier)
    await assert_host_sums_are_exact(frontier)
    done = [finish.claim.url for finish in finishes]
    await in_vain(frontier.reopen(done))
    assert await frontier.reopen(done) == [False, True] * 2
    await frontier.flush()
    wanted = {Status.QUEUED: 6, Status.PROCESSING: 2}
    assert {name: n for name, n in (await frontier._sums.read(["default"]))["default"].records.items() if n} == wanted
    await assert_counts_are_exact(frontier)


async def test_a_worker_that_slept_long_adds_its_sums_among_many_others(
    store: AwsStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks of those who are gone are taken out; the item does not grow with them."""
    monkeypatch.setattr("sqspider.frontier.aws.sums.SHARDS", 1)
    sizes: list[int] = []

    def see(action: str, document: faults.Document, answer: faults.Answer) -> None:
        if action == "UpdateItem" and answer.is_good and document["UpdateExpression"].startswith("ADD"):
            sizes.append(sum(name.startswith(MARK) for name in answer.document["Attributes"]))

    proxy.on_answer = see
    sleeper = await open_behind(proxy, store)
    await sleeper.enqueue([Entry(url=url("sleeper"))])
    await sleeper.flush()
    for life in range(3 * KEPT_MARKS):
        frontier = await open_behind(proxy, store)
        await frontier.enqueue([Entry(url=url(life))])
        await frontier.flush()
        await store.elapse(MARK_SECONDS / 4)
    assert max(sizes) <= KEPT_MARKS + FORGOTTEN_AT_ONCE + 5  # four a minute are not gone yet
    await sleeper.enqueue([Entry(url=url("awake"))])
    await sleeper.flush()
    assert (await sleeper._sums.read(["default"]))["default"].records == {Status.QUEUED: 3 * KEPT_MARKS + 2}


async def test_what_was_counted_wrong_is_mended_by_an_exact_count(store: AwsStore) -> None:
    """As when a worker is killed with sums in hand."""
    frontier, killed = await store.open(), await store.open()
    await killed.enqueue(entries(5))
    delivery = await take_one(killed)
    assert await killed.finish([Finish(claim=await win(killed, delivery), delivery=delivery, outcome=DONE)]) == [True]
    assert (await frontier.counts()).by_status[Status.DONE] == 0
    await store.elapse(QUIET_SECONDS + A_LITTLE)
    exact = await frontier.counts(exact=True)
    assert (exact.by_status[Status.DONE], exact.by_status[Status.QUEUED], exact.bytes) == (1, 4, DONE.bytes)
    assert await frontier.counts() == exact


async def test_an_exact_count_amid_work_adds_nothing_that_others_have_yet_to_add(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    await other.enqueue(entries(5))
    delivery = await take_one(other)
    assert await finish_one(other, await win(other, delivery), delivery)
    assert (await frontier.counts(exact=True)).by_status[Status.DONE] == 1
    await assert_counts_are_exact(frontier, other)


async def test_two_exact_counts_at_once_mend_the_sums_once(store: AwsStore) -> None:
    killed, one, two = [await store.open() for _ in range(3)]
    await killed.enqueue(entries(3))
    for delivery in await take(killed, 3):
        assert await finish_one(killed, await win(killed, delivery, claim=delivery.message_id), delivery)
    await store.elapse(QUIET_SECONDS + A_LITTLE)
    await asyncio.gather(one.counts(exact=True), two.counts(exact=True))
    assert (await one.counts()).by_status[Status.DONE] == 3
