"""What has ended is chosen, counted and put back, on every engine."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest

from sqspider import again
from sqspider.again import Choice, Kind, PutBack, found, put_back
from sqspider.crawl_row import Crawl, Identity
from sqspider.frontier import Entry, Frontier, RobotsRow, Won
from sqspider.frontier.aws import AwsFrontier
from sqspider.host import HostRow, RobotsAccess, with_orders
from sqspider.host_trouble import after_trouble
from sqspider.politeness.agent import place_of
from sqspider.record import Outcome, Reason, Status
from sqspider.work.fetchers import name_of

from .kit import (
    A_LITTLE,
    DONE,
    FORBIDDEN,
    GONE,
    TROUBLE,
    Store,
    all_records,
    assert_counts_are_exact,
    claim_all,
    finish_one,
    message_of,
    record_of,
    take,
    url,
)

BUSY = Outcome(status=Status.FAILED, reason=Reason.SERVER_ERROR, http_status=503)
FAILED = Choice(statuses=frozenset({Status.FAILED}))
OTHER = "other.example"


async def end_all(frontier: Frontier, outcomes: dict[str, Outcome]) -> None:
    """A crawl that ended so."""
    await frontier.enqueue([Entry(url=name) for name in outcomes])
    left, number = len(outcomes), 0
    while left:
        deliveries, number = await take(frontier, min(left, 10)), number + 1
        claims = await claim_all(frontier, deliveries, claim=f"c{number}", lease=60)
        for claim, delivery in zip(claims, deliveries, strict=True):
            assert await finish_one(frontier, cast(Won, claim), delivery, outcomes[claim.url])
        left -= len(deliveries)


def some() -> dict[str, Outcome]:
    return {
        url("done"): DONE,
        url("gone"): GONE,
        url("slow"): TROUBLE,
        url("busy"): BUSY,
        url("private"): FORBIDDEN,
        url("slow", OTHER): TROUBLE,
    }


CHOICES: dict[str, tuple[Choice, set[str]]] = {
    "failed": (FAILED, {url("gone"), url("slow"), url("busy"), url("slow", OTHER)}),
    "all": (Choice(), set(some())),
    "two statuses": (Choice(statuses=frozenset({Status.DONE, Status.BLOCKED})), {url("done"), url("private")}),
    "a reason": (Choice(reasons=frozenset({Reason.ROBOTS})), {url("private")}),
    "two reasons": (
        Choice(reasons=frozenset({Reason.TIMEOUT, Reason.SERVER_ERROR})),
        {url("slow"), url("busy"), url("slow", OTHER)},
    ),
    "a reason of no such status": (
        Choice(statuses=frozenset({Status.FAILED}), reasons=frozenset({Reason.ROBOTS})),
        set(),
    ),
    "an answer": (Choice(http_statuses=frozenset({503, 200})), {url("busy"), url("done")}),
    "a host": (Choice(host=OTHER), {url("slow", OTHER)}),
    "a host's done": (Choice(host=OTHER, statuses=frozenset({Status.DONE})), set()),
}


@pytest.mark.parametrize("name", CHOICES)
async def test_what_is_chosen_is_put_back_and_nothing_else(frontier: Frontier, name: str) -> None:
    choice, wanted = CHOICES[name]
    await end_all(frontier, some())
    kinds: Counter[Kind] = Counter(some()[each].reason or Status.DONE for each in wanted)
    assert await found(frontier, choice) == kinds
    if choice.is_counted:
        assert choice.of_counts(await frontier.counts()) == kinds
    assert await put_back(frontier, choice) == PutBack(kinds, 0, 0)
    queued = {record.url for record in (await all_records(frontier)).values() if record.status is Status.QUEUED}
    assert queued == wanted
    assert {message_of(delivery).url for delivery in await take(frontier, len(wanted))} == wanted
    assert (await put_back(frontier, choice)).kinds.total() == 0, "what is open is left alone"
    await assert_counts_are_exact(frontier)


async def test_what_ended_lately_may_be_left_out(frontier: Frontier, store: Store) -> None:
    await end_all(frontier, {url("old"): GONE})
    await store.elapse(2.0)
    middle = store.clock() - 1.0
    await end_all(frontier, {url("new"): GONE})
    choice = Choice(statuses=frozenset({Status.FAILED}), ended_before=middle)
    assert not choice.is_counted
    assert choice.of_counts(await frontier.counts()).total() == 2, "at most"
    assert (await found(frontier, choice)).total() == 1
    assert (await put_back(frontier, choice)).kinds.total() == 1
    assert (await record_of(frontier, url("old"))).status is Status.QUEUED


async def test_a_host_in_trouble_is_asked_again_and_orders_stay(frontier: Frontier, store: Store) -> None:
    await end_all(frontier, some())
    now = store.clock()
    for host in ("example.com", OTHER, "third.example"):
        row = HostRow(host=host, generation=3)
        for _ in range(2):
            now += A_LITTLE
            row = after_trouble(
                row, Reason.TIMEOUT, slows=True, fails=True, retry_after=900.0, now=now, rests_at_once=True
            )
        ordered = with_orders(row, delay=2.0, is_paused=None, is_blocked=host == OTHER)
        assert await frontier.save_hosts([ordered]) == [True]
    assert len(await frontier.hosts_in_trouble()) == 3
    assert (await put_back(frontier, FAILED)).hosts == 2
    if isinstance(frontier, AwsFrontier):
        await store.elapse(A_LITTLE)  # the index that lists them may be behind
    assert [row.host for row in await frontier.hosts_in_trouble()] == ["third.example"], "none of its URLs was put back"
    for host, row in (await frontier.hosts(["example.com", OTHER])).items():
        assert (row.rest_until, row.rests, row.given_up_at, row.trouble) == (0, 0, 0, None)
        assert (row.delay_seconds, row.is_blocked) == (2.0, host == OTHER)
        assert row.generation > 5


async def test_a_robots_txt_that_forbade_is_to_be_fetched_anew(frontier: Frontier, store: Store) -> None:
    await end_all(frontier, some())
    later = store.clock() + 3600
    rows = [
        RobotsRow(origin=origin, access=RobotsAccess.OBEY, body=b"rules", expires_at=later, unreachable_since=5.0)
        for origin in ("https://example.com", f"https://{OTHER}")
    ]
    await frontier.save_robots(rows)
    await put_back(frontier, Choice())
    known = await frontier.robots([row.origin for row in rows])
    assert known[rows[0].origin].expires_at <= store.clock()
    assert (known[rows[0].origin].unreachable_since, known[rows[0].origin].body) == (None, b"rules")
    assert known[rows[1].origin] == rows[1], "it forbade nothing"


async def test_so_is_one_that_its_crawl_asked_for_as_itself(frontier: Frontier, store: Store) -> None:
    crawl = Crawl(name="news", id="a1", identity=Identity(user_agent="Newsbot/1.0"))
    assert await frontier.save_crawl(crawl)
    await frontier.enqueue([Entry(url=url("private"), crawl=crawl.ref)])
    deliveries = await take(frontier, 1)
    (claim,) = await claim_all(frontier, deliveries, claim="c1", lease=60)
    assert await finish_one(frontier, cast(Won, claim), deliveries[0], FORBIDDEN)
    later = store.clock() + 3600
    places = [place_of(url("private"), name) for name in (name_of(crawl.identity), "")]
    rows = [RobotsRow(origin=place, access=RobotsAccess.OBEY, expires_at=later) for place in places]
    await frontier.save_robots(rows)
    await put_back(frontier, Choice(crawl="news"))
    known = await frontier.robots(places)
    assert known[places[0]].expires_at <= store.clock()
    assert known[places[1]] == rows[1], "it forbade nothing"


async def test_stopped_half_way_the_same_again_goes_on(frontier: Frontier, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps: what one did stays, and nobody keeps what was put back."""
    names = [url(i) for i in range(40)]
    await end_all(frontier, dict.fromkeys(names, GONE))
    reopen, steps = frontier.reopen, 0

    async def dies(urls: list[str], *, if_changed: bool) -> list[bool]:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt
        return await reopen(urls, if_changed=if_changed)

    async def scanned(frontier: Frontier, choice: Choice):  # type: ignore[no-untyped-def] # an async generator
        async for batch in scan(frontier, choice):
            records = list(batch)
            while records:
                step, records = records[:7], records[7:]
                yield step

    scan = again._scanned
    monkeypatch.setattr(again, "_scanned", scanned)
    monkeypatch.setattr(frontier, "reopen", dies)
    told: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        await put_back(frontier, FAILED, told.append)
    assert told == [7]
    assert (await put_back(frontier, FAILED, told.append)).kinds == {Reason.CLIENT_ERROR: 33}
    assert {record.visit for record in (await all_records(frontier)).values()} == {1}
    assert told[-1] == 33
