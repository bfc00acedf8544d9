"""One row a URL: how it is found, what it holds, and what becomes of what anybody sent."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import (
    Deferral,
    Ends,
    Entry,
    Finish,
    Frontier,
    FrontierSettings,
    LostReason,
    Retry,
    Taking,
    Turned,
    Won,
)
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.frontier.sqlite.captures import CaptureFiles
from sqspider.frontier.sqlite.check import check_file
from sqspider.frontier.sqlite.counters import ADD_TO_COUNTER
from sqspider.frontier.sqlite.file import open_to_work
from sqspider.frontier.sqlite.keys import key_of, keys_of_host
from sqspider.frontier.sqlite.rows import STEP, pack, unpack
from sqspider.frontier.sqlite.turns import MOST_LOOKS
from sqspider.host import HostRow
from sqspider.message import Message, encode_message
from sqspider.record import Kept, Outcome, Reason, Skipped, Status
from sqspider.url import host_of

from .kit import (
    A_LITTLE,
    DONE,
    DUE,
    LEASE,
    MAX_RECEIVES,
    SETTINGS,
    TROUBLE,
    VISIBILITY,
    FakeClock,
    all_records,
    assert_counts_are_exact,
    assert_lost,
    claim_all,
    entries,
    finish_one,
    message_of,
    record_of,
    retry_one,
    take,
    take_one,
    try_claim,
    url,
    win,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def frontier(tmp_path: Path, clock: FakeClock) -> SqliteFrontier:
    return await SqliteFrontier.open(str(tmp_path / "f.db"), SETTINGS, clock=clock)


def sound(folder: Path) -> bool:
    faults = check_file(str(folder / "f.db")).faults
    assert faults == ()
    return True


# Keys.

KEYS: Final = {
    "http://a/": -3945344193277575007,
    "https://example.com/": -7234496495647623037,
    "https://example.com/a?b=c": -7234496304165217966,
    "http://example.com.:8080/": -7234497213592916799,
    "http://[2001:db8::1]/": -1971745585068757029,
    "https://xn--bcher-kva.example/%C3%BC": -195939528025004793,
}


@pytest.mark.parametrize("url", KEYS)
def test_the_key_of_a_url_never_changes(url: str) -> None:
    """The files that are there are searched by it: if this fails, it is the function that is wrong."""
    assert key_of(url) == KEYS[url]
    first, last = keys_of_host(host_of(url))
    assert first <= key_of(url) <= last


async def test_urls_of_one_key_are_told_apart(
    frontier: Frontier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("keys.key_of", "records.new_key_of"):
        monkeypatch.setattr(f"sqspider.frontier.sqlite.{name}", lambda url: key_of(url) >> 39 << 39)
    some = entries(300, host="a.example") + entries(300, host="b.example")
    assert await frontier.enqueue(some[::2]) == [True] * 300
    assert await frontier.enqueue(some[1::2]) == [True] * 300
    assert await frontier.enqueue(some) == [False] * 600
    assert {message_of(delivery).url for delivery in await take(frontier, 600)} == {entry.url for entry in some}
    assert (await record_of(frontier, some[7].url)).url == some[7].url
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        assert connection.execute("SELECT count(DISTINCT key) FROM record").fetchone()[0] <= 4


# Outcomes.

TEXTS: Final = st.none() | st.text(max_size=20)
OUTCOMES: Final = st.builds(
    Outcome,
    status=st.sampled_from([Status.DONE, Status.FAILED, Status.BLOCKED]),
    reason=st.none() | st.sampled_from(Reason),
    detail=st.text(max_size=20),
    http_status=st.none() | st.integers(100, 999),
    content_type=TEXTS,
    bytes=st.integers(0, 2**60),
    truncated=st.booleans(),
    digest=st.none() | st.binary(max_size=40).map(lambda some: f"sha256:{some.hex()}") | st.text(max_size=90),
    title=TEXTS,
    elapsed_ms=st.none() | st.integers(0, 2**40),
    redirect_to=st.none() | st.just("https://example.com/to"),
    links_left_out=st.integers(0, 2**40),
    links_skipped=st.dictionaries(st.sampled_from(Skipped), st.integers(1, 2**40)),
    checked=st.booleans(),
)


@given(outcome=OUTCOMES)
def test_an_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    with closing(open_to_work(":memory:", 0.0)) as connection:
        files = CaptureFiles(connection)
        assert unpack(pack(outcome, files), files) == outcome


async def test_every_column_can_be_filled(frontier: Frontier, tmp_path: Path) -> None:
    """Those of issues to come, too: nothing here trips over them."""
    parent = Entry(url=url("parent"))
    await frontier.enqueue([parent])
    entry = Entry(
        url=url("a"), depth=3, parent=parent.url, redirects=2, lastmod=1.5, settings=CrawlSettings(max_depth=9)
    )
    await frontier.enqueue([entry])
    await frontier.defer([Deferral(delivery=await take_one(frontier), until=9e9)])
    delivery = await take_one(frontier)
    outcome = Outcome(
        status=Status.DONE, http_status=301, redirect_to=url("b"), digest="sha256:" + "ab" * 32, title="T"
    )
    assert await finish_one(frontier, await win(frontier, delivery), delivery, outcome)
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None)) as connection:
        connection.execute(
            "UPDATE record SET capture = x'', validators = x'92', visit = 4, changed_at = 5.5, cut = 1, slot = 3.5,"
            " slot_generation = 1, tries = 2 WHERE id = 2"
        )
        connection.execute("UPDATE host SET failed = 4")  # what came of the visits before
    record = await record_of(frontier, url("a"))
    assert (record.depth, record.parent, record.redirects, record.lastmod, record.tries) == (3, parent.url, 2, 1.5, 2)
    assert (record.outcome, record.visit) == (msgspec.structs.replace(outcome, unkept=True), 4)
    assert (await frontier.counts()).redirects == 1
    assert sound(tmp_path)


async def test_a_file_is_sound_over_visits(frontier: Frontier, tmp_path: Path) -> None:
    """The sums of a host are of all visits, those of records of the last ones."""
    await frontier.enqueue([Entry(url=url(name)) for name in "ab"])
    for visit in range(2):
        for name in "ab":
            delivery = await take_one(frontier)
            outcome = Outcome(status=Status.DONE, http_status=200, bytes=7, title=name)
            assert await finish_one(frontier, await win(frontier, delivery, claim=f"{visit}{name}"), delivery, outcome)
            assert sound(tmp_path)
        assert await frontier.reopen([url("a"), url("b")]) == [True, True]
        assert sound(tmp_path)
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None)) as connection:
        connection.execute(
            "UPDATE host SET done = done - 1"
        )  # fewer than there were: more may have been of a crawl that went
    assert "of 4 visits" in " ".join(check_file(str(tmp_path / "f.db")).faults)


@pytest.mark.parametrize(
    "damage", ["outcome = x'00'", "capture = x'93'", "outcome = NULL", "status = 3", "visit = 'x'", "crawl = 99"]
)
async def test_a_damaged_record_is_not_reopened(frontier: Frontier, tmp_path: Path, damage: str) -> None:
    """Nobody could take it out of the sums, or go on from it; those beside it are."""
    await frontier.enqueue([Entry(url=url(name)) for name in "ab"])
    for name in "ab":
        delivery = await take_one(frontier)
        await finish_one(frontier, await win(frontier, delivery, claim=name), delivery)
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE record SET {damage} WHERE id = 1")
    assert await frontier.reopen([url("a"), url("b")]) == [False, True]


async def test_what_is_kept_and_damaged_is_asked_for_whole(frontier: Frontier, tmp_path: Path) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    kept = Kept(etag="x")
    done = Outcome(status=Status.DONE, http_status=200)
    assert await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=done, kept=kept)]) == [True]
    assert (await record_of(frontier, url("a"))).kept == kept
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None)) as connection:
        connection.execute("UPDATE record SET validators = x'92'")
    assert (await record_of(frontier, url("a"))).kept is None
    assert await frontier.reopen([url("a")], if_changed=True) == [True]
    assert (await win(frontier, await take_one(frontier), claim="c2")).kept == Kept(good=done)


async def test_a_person_can_read_it(frontier: Frontier, tmp_path: Path) -> None:
    await frontier.enqueue([Entry(url=url("a")), Entry(url=url("b"), parent=url("elsewhere"))])
    await frontier.enqueue([Entry(url=url("c"), parent=url("a"), depth=1)])
    delivery = await take_one(frontier)
    await finish_one(frontier, await win(frontier, delivery), delivery)
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        seen = connection.execute("SELECT url, status, place, parent, enqueued_at FROM urls ORDER BY id").fetchall()
    assert seen == [
        (url("a"), "done", None, None, "2023-11-14 22:13:20"),
        (url("b"), "queued", "fresh", url("elsewhere"), "2023-11-14 22:13:20"),
        (url("c"), "queued", "fresh", url("a"), "2023-11-14 22:13:20"),
    ]


# The order in which places come.


async def test_what_a_worker_lost_comes_first_then_what_has_its_time(frontier: Frontier, clock: FakeClock) -> None:
    await frontier.enqueue(entries(5 * STEP // 2))
    lost, late, gone = await take(frontier, 3)
    await frontier.delete([gone])
    await frontier.defer([Deferral(delivery=late, until=clock() + 1)])
    clock.now += VISIBILITY + A_LITTLE
    assert [delivery.message_id for delivery in await take(frontier, 2)] == [lost.message_id, late.message_id]
    clock.now += DUE
    assert await frontier.sweep() == 1
    assert [message_of(delivery).url for delivery in await take(frontier, 5)] == [url(n) for n in (0, 1, 2, 3, 4)]


# What anybody sent.


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_claim_takes_over_the_message_that_it_came_by(
    frontier: Frontier, clock: FakeClock, tmp_path: Path, is_known: bool
) -> None:
    """So no sweep looks at the record again and again, and there is one place for one URL."""
    if is_known:
        await frontier.enqueue([Entry(url=url("a"))])
    await frontier.send([url("a"), url("a")])
    first, second = (delivery for delivery in await take(frontier, 2 + is_known) if delivery.message_id.startswith("m"))
    claim = await win(frontier, first)
    assert_lost(await try_claim(frontier, second, claim="c2"), LostReason.HELD)
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed) == (0, 2, 0)
    assert sound(tmp_path)
    await frontier.delete([first])  # late: it is the record's place now
    clock.now += max(LEASE, VISIBILITY) + A_LITTLE
    assert len(await frontier.receive(10)) == 2
    back = await retry_one(frontier, claim, first, at=clock())
    assert back
    delivery = await take_one(frontier)
    assert (message_of(delivery).url, delivery.receive_count) == (url("a"), 1)
    assert await finish_one(frontier, await win(frontier, delivery, claim="c3"), delivery)
    assert (await frontier.queue_stats()).is_empty  # the copy went, too
    assert sound(tmp_path)


async def test_a_claim_by_a_message_that_died_leaves_nothing_fresh(
    frontier: Frontier, clock: FakeClock, tmp_path: Path
) -> None:
    await frontier.send([url("a")])
    stale = await take_one(frontier)
    for _ in range(MAX_RECEIVES - 1):
        clock.now += VISIBILITY + A_LITTLE
        await take_one(frontier)
    clock.now += VISIBILITY + A_LITTLE
    assert await frontier.receive(1) == []
    await frontier.enqueue([Entry(url=url("a"))])
    claim = await win(frontier, stale)
    assert sound(tmp_path)
    assert await frontier.receive(1) == []
    assert await finish_one(frontier, claim, stale)
    assert sound(tmp_path)


async def test_a_record_whose_messages_died_is_put_back(frontier: Frontier, clock: FakeClock, tmp_path: Path) -> None:
    await frontier.enqueue([Entry(url=url("a"), depth=2, settings=CrawlSettings(max_depth=9))])
    for _ in range(MAX_RECEIVES):
        await take_one(frontier)
        clock.now += VISIBILITY + A_LITTLE
    assert await frontier.receive(10) == []
    [letter] = await frontier.dead_letters()
    assert letter.body == encode_message(Message(url=url("a"), depth=2, settings=CrawlSettings(max_depth=9)))
    assert letter.receive_count == MAX_RECEIVES
    stats = await frontier.queue_stats()
    assert (stats.is_empty, stats.dead) == (True, 1)
    assert sound(tmp_path)
    clock.now += DUE + A_LITTLE
    assert await frontier.sweep() == 1
    assert await frontier.redrive() == 1
    assert len(await take(frontier, 2)) == 2
    assert sound(tmp_path)


# Sums.


async def test_what_waits_is_counted_as_it_happens(frontier: Frontier, clock: FakeClock, tmp_path: Path) -> None:
    await frontier.enqueue(entries(9))
    await frontier.send([url("s1"), url("s2")])
    deliveries = await take(frontier, 9)
    own = [delivery for delivery in deliveries if not delivery.message_id.startswith("m")]
    sent = [delivery for delivery in deliveries if delivery.message_id.startswith("m")]
    await frontier.defer([Deferral(delivery=d, until=clock() + 5 + n) for n, d in enumerate([*own[:3], sent[0]])])
    claims = [answer for answer in await claim_all(frontier, own[3:5]) if isinstance(answer, Won)]
    await frontier.retry([Retry(claim=claims[0], delivery=own[3], at=clock() + 30, tried=True, outcome=TROUBLE)])
    assert sound(tmp_path)

    async def figures() -> tuple[int, int, int, int, float | None]:
        stats = await frontier.queue_stats()
        return stats.visible, stats.in_flight, stats.delayed, stats.dead, stats.oldest_age_seconds

    assert await figures() == (2, 4, 5, 0, 0.0)
    clock.now += 7
    assert await figures() == (2 + 4 + 3, 0, 2, 0, 7.0)
    assert await frontier.release_host("example.com") == 1
    assert await figures() == (10, 0, 1, 0, 7.0)
    assert await frontier.purge_queue() == 11
    assert await figures() == (0, 0, 0, 0, None)
    assert sound(tmp_path)


async def test_a_claim_that_was_not_used_counts_neither_then_nor_later(
    frontier: Frontier, clock: FakeClock, tmp_path: Path
) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    await win(frontier, await take_one(frontier))  # its worker dies
    clock.now += max(LEASE, VISIBILITY) + A_LITTLE
    for number in (3, 4):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        assert claim.unended == 2
        assert await frontier.retry(
            [Retry(claim=claim, delivery=delivery, at=clock(), tried=False, is_unused=True)]
        ) == [True]
        assert (await record_of(frontier, url("a"))).unended == 1
        await assert_counts_are_exact(frontier)
    assert sound(tmp_path)


async def test_redirects_are_counted_apart_and_the_fewest_count(frontier: Frontier, tmp_path: Path) -> None:
    async def redirects() -> int:
        return (await record_of(frontier, url("a"))).redirects

    await frontier.enqueue([Entry(url=url("a"), redirects=5)])
    for more, least in ((7, 5), (3, 3), (4, 3)):
        assert await frontier.enqueue([Entry(url=url("a"), redirects=more)]) == [False]
        assert await redirects() == least
    delivery = await take_one(frontier)
    assert message_of(delivery).redirects == 3
    moved = Outcome(status=Status.DONE, http_status=301, redirect_to=url("b"))
    links = (Entry(url=url("b"), parent=url("a"), redirects=4),)
    assert await finish_one(frontier, await win(frontier, delivery), delivery, moved, links)
    await frontier.enqueue([Entry(url=url("a"))])
    assert await redirects() == 3  # it is final
    second = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, second, claim="c2"), second, DONE)
    counts = await frontier.counts()
    assert (counts.by_status[Status.DONE], counts.redirects) == (2, 1)
    assert sound(tmp_path)


# Clearing.


async def test_clearing_raises_the_generation_for_all(frontier: Frontier, tmp_path: Path, clock: FakeClock) -> None:
    other = await SqliteFrontier.open(str(tmp_path / "f.db"), SETTINGS, clock=clock)
    await frontier.enqueue(entries(1))
    before = [other.generation]
    for look in (lambda: other.receive(1), lambda: other.hosts(["e.com"]), lambda: other.receive(1)):
        await frontier.clear_table()
        await look()
        before.append(other.generation)
    assert before == [0, 1, 2, 3]
    await other.close()


async def test_a_delivery_of_a_record_that_was_cleared_is_stale(frontier: Frontier, clock: FakeClock) -> None:
    """Another record has its number now."""
    await frontier.enqueue([Entry(url=url("old"))])
    stale = await take_one(frontier)
    await frontier.purge_queue()
    await frontier.clear_table()
    await frontier.enqueue([Entry(url=url("new"))])
    live = await take_one(frontier)
    assert (live.message_id, live.receipt) != (stale.message_id, stale.receipt)
    assert live.message_id == stale.message_id
    await frontier.delete([stale])
    await frontier.defer([Deferral(delivery=stale, until=clock() + 60)])
    clock.now += VISIBILITY + A_LITTLE
    assert message_of(await take_one(frontier)).url == url("new")


async def test_clearing_leaves_more_messages_than_one_step_moves(
    frontier: Frontier, clock: FakeClock, tmp_path: Path
) -> None:
    await frontier.enqueue([Entry(url=url(n), depth=1, parent=url(0)) for n in range(2 * STEP + 5)])
    first, late = await take(frontier, 2)
    await frontier.defer([Deferral(delivery=late, until=clock() + 60)])
    assert await frontier.clear_table() == 2 * STEP + 5
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed) == (2 * STEP + 3, 1, 1)
    assert sound(tmp_path)
    assert message_of(await take_one(frontier)) == Message(url=url(2), depth=1, parent=url(0))
    await frontier.delete([first])  # stale: it comes back
    clock.now += VISIBILITY + A_LITTLE
    assert url(0) in {message_of(delivery).url for delivery in await frontier.receive(3 * STEP)}


async def test_clearing_lets_others_in_between_its_steps(
    frontier: SqliteFrontier, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """However few there are of one kind, and however many of another."""
    monkeypatch.setattr("sqspider.frontier.sqlite.clearing.STEP", 10)
    await frontier.enqueue(entries(53))
    await frontier.defer([Deferral(delivery=each, until=clock() + 60) for each in await take(frontier, 50)])
    statements: list[str] = []
    frontier._file.connection.set_trace_callback(statements.append)
    assert await frontier.clear_table() == 53
    assert statements.count("COMMIT") > 50 / 10
    assert (await frontier.queue_stats()).delayed == 50
    assert sound(tmp_path)


async def test_what_a_turn_sends_wakes_who_waits_in_this_process(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It does not wait for the next look at what other processes sent."""
    monkeypatch.setattr("sqspider.frontier.sqlite.messages.POLL_SECONDS", (9999.0, 9999.0))
    settings = FrontierSettings(visibility_seconds=9999.0)
    frontier = await SqliteFrontier.open(str(tmp_path / "f.db"), settings, clock=clock)
    await frontier.enqueue(entries(1))
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    looked = asyncio.Event()
    frontier._file.connection.set_trace_callback(lambda _: loop.call_soon_threadsafe(looked.set))
    loop = asyncio.get_running_loop()
    waits = asyncio.create_task(frontier.receive(1, wait_seconds=9999.0))
    await looked.wait()  # in vain: there is nothing
    finish = Finish(claim=claim, delivery=delivery, outcome=DONE, links=(Entry(url=url("link")),))
    taking = Taking(limit=0, worker_id="w", claim_id="c", lease_seconds=60, claims=lambda _: False)
    await frontier.turn(Ends(finishes=[finish]), taking)
    async with asyncio.timeout(100):  # against hanging
        [found] = await waits
    assert message_of(found).url == url("link")


async def test_a_turn_lets_others_in_though_much_has_died(frontier: SqliteFrontier, clock: FakeClock) -> None:
    many = MOST_LOOKS + 5
    await frontier.send(["no url"] * many)
    for _ in range(MAX_RECEIVES):
        assert len(await frontier.receive(many)) == many
        clock.now += VISIBILITY + A_LITTLE
    await frontier.send([url(0)])
    taking = Taking(limit=1, worker_id="w", claim_id="c", lease_seconds=60, claims=lambda _: False)
    assert not (await frontier.turn(Ends(), taking)).taken
    assert (await frontier.queue_stats()).dead == MOST_LOOKS
    [taken] = (await frontier.turn(Ends(), taking)).taken
    assert message_of(taken.delivery).url == url(0)


async def test_what_is_queued_while_a_frontier_is_cleared_is_counted(frontier: SqliteFrontier, tmp_path: Path) -> None:
    """By another process, between the steps: its place becomes a message in the last of them."""
    await frontier.enqueue(entries(3))
    begun = 0
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None, check_same_thread=False)) as other:

        def meanwhile(statement: str) -> None:
            nonlocal begun
            begun += statement == "BEGIN IMMEDIATE"
            if (statement, begun) == ("BEGIN IMMEDIATE", 2):
                other.execute("UPDATE record SET queue = 1, visible_at = 9, due_at = NULL WHERE id = 1")
                for name in ("messages", "put_off"):
                    other.execute(ADD_TO_COUNTER, (name, 1))

        frontier._file.connection.set_trace_callback(meanwhile)
        assert await frontier.clear_table() == 3
        frontier._file.connection.set_trace_callback(None)
    assert begun == 2
    assert (await frontier.queue_stats()).visible == 4
    assert sound(tmp_path)


# Hosts.


async def test_hosts_in_trouble_are_found_without_a_look_at_the_others(frontier: Frontier, clock: FakeClock) -> None:
    names = [f"h{n}.example" for n in range(50)]
    await frontier.save_hosts([HostRow(host=name) for name in names])
    await frontier.save_hosts(
        [
            HostRow(host="b.example", rest_until=clock() + 10),
            HostRow(host="a.example", penalty_seconds=2.0, penalty_since=clock(), trouble=Reason.RATE_LIMITED),
        ]
    )
    assert [row.host for row in await frontier.hosts_in_trouble()] == ["a.example", "b.example"]
    clock.now += 11
    assert [row.host for row in await frontier.hosts_in_trouble()] == ["a.example"]
    [row] = await frontier.hosts_in_trouble()
    await frontier.save_hosts([HostRow(host="a.example", version=row.version)])
    assert await frontier.hosts_in_trouble() == []


async def test_a_host_is_released_by_itself_though_another_has_its_keys(frontier: Frontier, clock: FakeClock) -> None:
    seen: dict[int, str] = {}
    first, second = next(
        (seen[bits], host)
        for host in (f"h{n}.example" for n in range(10**6))
        if seen.setdefault(bits := keys_of_host(host)[0], host) != host
    )
    await frontier.enqueue([Entry(url=url("a", first)), Entry(url=url("a", second))])
    await frontier.defer([Deferral(delivery=each, until=clock() + 60) for each in await take(frontier, 2)])
    assert await frontier.release_host(second) == 1
    assert [message_of(delivery).url for delivery in await frontier.receive(2)] == [url("a", second)]


# Looking at one host.


async def test_a_host_is_looked_at_by_its_urls_alone(frontier: Frontier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.frontier.sqlite.looking.SCAN_BATCH", 7)
    mine = [
        *entries(20),
        *(Entry(url=f"http://example.com:{port}/") for port in (80, 8080)),
        Entry(url="https://example.com./dot"),
    ]
    await frontier.enqueue(mine + entries(30, host="other.example"))
    found = [record.url async for batch in frontier.scan(host="example.com") for record in batch]
    assert sorted(found) == sorted({entry.url for entry in mine})
    assert len(await all_records(frontier)) == 30 + len(mine)


async def test_a_batch_may_hold_a_url_twice(frontier: Frontier, tmp_path: Path) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    finish = Finish(claim=claim, delivery=delivery, outcome=DONE)
    assert await frontier.finish([finish, finish]) == [True, False]
    assert sound(tmp_path)


async def test_a_sweep_goes_on_past_a_url_that_is_none(
    frontier: SqliteFrontier, clock: FakeClock, tmp_path: Path
) -> None:
    await frontier.enqueue(entries(3))
    await frontier.purge_queue()
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        connection.execute("UPDATE record SET url = 'nonsense' WHERE id = 1")
        connection.commit()
    clock.now += DUE + A_LITTLE
    assert await frontier.sweep() == 2  # what no URL leads to cannot come back
    await frontier.close()


async def test_a_turn_in_which_nothing_ends_and_nothing_waits_keeps_nobody_from_writing(tmp_path: Path) -> None:
    """Nor is it kept: any number of idle workers may poll a file that others write to."""
    path = tmp_path / "f.db"
    frontier = await SqliteFrontier.open(str(path), SETTINGS, clock=FakeClock())
    taking = Taking(limit=10, worker_id="w", claim_id="t", lease_seconds=60.0, claims=lambda _: True)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        turned = await frontier.turn(Ends(), taking)
    assert turned == Turned(finished=[], retried=[], taken=[], hosts={})
    await frontier.close()
