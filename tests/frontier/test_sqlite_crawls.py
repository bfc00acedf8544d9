"""Crawls in the SQLite file: how one is removed step by step, what is put aside there, and what damage says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import pytest

from sqspider.crawl_row import Crawl, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Deferral, Entry, FrontierError, FrontierUnavailableError, LostReason
from sqspider.frontier.shares import Ask, Most
from sqspider.frontier.sqlite import SqliteFrontier, hosts, sweep
from sqspider.frontier.sqlite import crawls as stepwise
from sqspider.frontier.sqlite.check import check_file
from sqspider.frontier.sqlite.keys import key_of, keys_of_crawl, keys_of_host
from sqspider.frontier.sqlite.messages import next_visible
from sqspider.message import encode_message
from sqspider.record import Status, record_key

from .kit import (
    A_LITTLE,
    DUE,
    LEASE,
    MAX_RECEIVES,
    SETTINGS,
    VISIBILITY,
    FakeClock,
    all_records,
    assert_lost,
    entries,
    finish_one,
    message_of,
    retry_one,
    take,
    take_one,
    try_claim,
    url,
    win,
)

NEWS: Final = Crawl(name="news", id="a1")
SHOP: Final = Crawl(name="shop", id="b2")
replace = msgspec.structs.replace


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def frontier(tmp_path: Path, clock: FakeClock) -> SqliteFrontier:
    frontier = await SqliteFrontier.open(str(tmp_path / "f.db"), SETTINGS, clock=clock)
    for crawl in (NEWS, SHOP):
        assert await frontier.save_crawl(crawl)
    return frontier


def sound(folder: Path) -> bool:
    assert check_file(str(folder / "f.db")).faults == ()
    return True


def of(crawl: Crawl, *names: object) -> list[Entry]:
    return [Entry(url=url(name), crawl=crawl.ref, parent=url("parent")) for name in names]


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "f.db", isolation_level=None)) as connection:
        connection.execute(statement)


def commits(frontier: SqliteFrontier) -> list[str]:
    """The statements that are run from now on."""
    statements: list[str] = []
    frontier._file.connection.set_trace_callback(statements.append)
    return statements


# Keys.


def test_the_keys_of_a_crawl_lie_together() -> None:
    names = ("default", "new", "new-", "news", "news1", "-", "_", "0")
    for name in names:
        first, end = keys_of_crawl(name)
        found = [each for each in names if first <= record_key("https://example.com/a", each) < end]
        assert found == [name]
        assert keys_of_crawl(None)[0] <= first < end <= keys_of_crawl(None)[1]


def test_the_key_of_a_crawl_s_url_never_changes() -> None:
    key = key_of("@news https://example.com/")
    first, last = keys_of_host("example.com")
    assert key == -7234497294693311450
    assert first <= key <= last, "a host's records lie together, whosever they are"


async def test_a_person_sees_url_and_crawl_apart(frontier: SqliteFrontier, tmp_path: Path) -> None:
    page = Entry(url=url("page"))
    await frontier.enqueue([page, *of(NEWS, "parent"), Entry(url=url("b"), parent=url("page"))])
    await frontier.enqueue(of(NEWS, "a"))
    await frontier.park([(await take(frontier, 2))[1]])
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        seen = connection.execute("SELECT crawl, url, parent, place FROM urls ORDER BY id").fetchall()
    assert seen == [
        ("default", url("page"), None, "in flight"),
        ("news", url("parent"), url("parent"), "put aside"),
        ("default", url("b"), url("page"), "fresh"),
        ("news", url("a"), url("parent"), "fresh"),
    ]


# Removing.


async def test_removing_lets_others_in_between_its_steps(
    frontier: SqliteFrontier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stepwise, "STEP", 5)
    monkeypatch.setattr(stepwise, "LOOKED_AT", 10)
    for number in range(20):
        await frontier.enqueue([*of(NEWS, number, number + 100), Entry(url=url(number))])
    await frontier.send([encode_message(entry.to_message()) for entry in [*of(NEWS, *range(12)), *of(SHOP, 1)]])
    await frontier.add_seeds(NEWS.ref, {f"{number}.example": () for number in range(12)})
    statements, told = commits(frontier), list[int]()
    assert await frontier.remove_crawl(NEWS.ref, told.append) == 40
    assert told == sorted(told)
    assert told[-1] == 40
    assert len(told) == 60 / 10
    assert statements.count("COMMIT") >= 60 / 10 + 12 / 5 + 13 / 5
    assert (await all_records(frontier)).keys() == {url(number) for number in range(20)}
    assert (await frontier.queue_stats()).visible == 20 + 1
    assert sound(tmp_path)
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        assert connection.execute("SELECT count(*) FROM seed").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM counter WHERE name LIKE '@news %'").fetchone() == (0,)
        assert connection.execute("SELECT name FROM crawl WHERE name IS NOT NULL").fetchall() == [("shop",)]


async def test_what_died_while_it_removed_a_crawl_is_gone_on_with(
    frontier: SqliteFrontier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stepwise, "LOOKED_AT", 10)
    await frontier.enqueue(of(NEWS, *range(30)))
    delivery = await take_one(frontier)

    class DiedError(Exception):
        pass

    def die(removed: int) -> None:
        raise DiedError(removed)

    with pytest.raises(DiedError):
        await frontier.remove_crawl(NEWS.ref, die)
    assert [crawl.name for crawl in await frontier.crawls()] == ["shop"]
    assert await frontier.removals() == [NEWS.ref]
    assert (await frontier.counts(crawl="news")).total == 20
    # What is left takes nothing more, and gives nothing to work on.
    assert not await frontier.save_crawl(msgspec.structs.replace(NEWS, id="c3"))
    assert await frontier.enqueue(of(NEWS, "new", 25)) == [False, False]
    assert not await frontier.add_seeds(NEWS.ref, {"example.com": ()})
    assert_lost(await try_claim(frontier, delivery), LostReason.REFUSED)
    assert sound(tmp_path)

    assert await frontier.remove_crawl(NEWS.ref) == 20
    assert await frontier.removals() == []
    assert (await frontier.counts()).total == 0
    assert sound(tmp_path)
    assert await frontier.save_crawl(msgspec.structs.replace(NEWS, id="c3"))


async def test_a_delivery_of_a_record_that_was_removed_is_stale(frontier: SqliteFrontier, clock: FakeClock) -> None:
    """Another record has its number now."""
    await frontier.enqueue(of(NEWS, "old"))
    stale = await take_one(frontier)
    before = frontier.generation
    await frontier.remove_crawl(NEWS.ref)
    await frontier.enqueue(of(SHOP, "new"))
    live = await take_one(frontier)
    assert frontier.generation == before + 1
    assert live.message_id == stale.message_id
    await frontier.delete([stale])
    await frontier.defer([Deferral(delivery=stale, until=clock() + 60)])
    await frontier.park([stale])
    clock.now += VISIBILITY + A_LITTLE
    assert message_of(await take_one(frontier)).url == url("new")


async def test_a_crawl_goes_though_a_record_of_it_is_damaged(frontier: SqliteFrontier, tmp_path: Path) -> None:
    await frontier.enqueue(of(NEWS, *range(3)))
    change(tmp_path, "UPDATE record SET status = 'queud' WHERE id = 1")
    change(tmp_path, "UPDATE record SET outcome = 'x' WHERE id = 2")
    assert await frontier.remove_crawl(NEWS.ref) == 3
    assert await all_records(frontier) == {}


async def test_what_hosts_gave_a_crawl_that_was_removed_was_given(frontier: SqliteFrontier, tmp_path: Path) -> None:
    await frontier.enqueue(of(NEWS, 1))
    delivery = await take_one(frontier)
    await finish_one(frontier, await win(frontier, delivery), delivery)
    await frontier.remove_crawl(NEWS.ref)
    assert (await frontier.hosts(["example.com"]))["example.com"].done == 1
    assert sound(tmp_path)


# What is put aside.


async def test_more_than_one_step_is_called_back(
    frontier: SqliteFrontier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stepwise, "STEP", 4)
    monkeypatch.setattr(stepwise, "LOOKED_AT", 4)
    await frontier.enqueue([*of(NEWS, *range(10)), *of(SHOP, *range(3))])
    await frontier.send([encode_message(entry.to_message()) for entry in [*of(SHOP, *range(9)), *of(NEWS, *range(6))]])
    await frontier.park(await take(frontier, 28))
    assert (await frontier.queue_stats()).delayed == 28
    assert sound(tmp_path)
    statements = commits(frontier)
    assert await frontier.unpark(NEWS.ref) == 16
    assert statements.count("COMMIT") == 3 + 4, "of records, those of others are not looked at"
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.delayed) == (16, 12)
    assert {message_of(each).crawl for each in await take(frontier, 16)} == {NEWS.ref}
    assert sound(tmp_path)


async def test_loose_messages_are_not_put_aside(frontier: SqliteFrontier, clock: FakeClock) -> None:
    """Nothing would call them back."""
    await frontier.enqueue([Entry(url=url(1))])
    await frontier.send([url(2), "no message"])
    await frontier.park(await take(frontier, 3))
    assert (await frontier.queue_stats()).in_flight == 3
    clock.now += VISIBILITY + A_LITTLE
    assert len(await take(frontier, 3)) == 3


async def test_what_is_claimed_is_not_fresh_when_it_is_called_back(frontier: SqliteFrontier, tmp_path: Path) -> None:
    await frontier.enqueue(of(NEWS, 1))
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, lease=60)
    await frontier.park([delivery])
    assert await frontier.unpark(NEWS.ref) == 1
    assert sound(tmp_path)
    assert_lost(await try_claim(frontier, await take_one(frontier), claim="c2"), LostReason.HELD)
    assert await finish_one(frontier, claim, delivery)
    assert sound(tmp_path)


async def test_a_claim_by_another_message_takes_what_is_put_aside(frontier: SqliteFrontier, tmp_path: Path) -> None:
    await frontier.enqueue(of(NEWS, 1))
    await frontier.park([await take_one(frontier)])
    await frontier.send([encode_message(of(NEWS, 1)[0].to_message())])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert (await frontier.queue_stats()).in_flight == 1
    assert sound(tmp_path)
    assert await finish_one(frontier, claim, delivery)
    assert (await frontier.queue_stats()).is_empty
    assert sound(tmp_path)


async def test_purging_and_clearing_take_what_is_put_aside(frontier: SqliteFrontier, tmp_path: Path) -> None:
    for remove in (frontier.purge_queue, frontier.clear_table, frontier.purge_queue):
        await frontier.save_crawl(NEWS)
        await frontier.enqueue(of(NEWS, 1, 2, 3))
        await frontier.send([encode_message(of(NEWS, 4)[0].to_message())])
        await frontier.park(await frontier.receive(10))
        assert (await frontier.queue_stats()).delayed
        await remove()
        assert sound(tmp_path)
    assert (await frontier.queue_stats()).is_empty


async def test_what_is_put_aside_stays_so_when_the_clock_is_put_back(
    frontier: SqliteFrontier, clock: FakeClock, tmp_path: Path
) -> None:
    await frontier.enqueue(of(NEWS, 1))
    await frontier.send([encode_message(of(NEWS, 2)[0].to_message())])
    await frontier.park(await take(frontier, 2))
    await frontier.check_in("one", session="s", ttl_seconds=5)
    clock.now -= 9000
    await frontier.sweep()
    clock.now += 1e10
    assert await frontier.receive(10) == []
    assert sound(tmp_path)
    assert await frontier.unpark(NEWS.ref) == 2


async def test_what_is_put_aside_is_not_lost(frontier: SqliteFrontier, clock: FakeClock) -> None:
    """A sweep that finds nothing else names no damage: for what a record holds, nor for what was sent."""
    await frontier.enqueue(of(NEWS, 1))
    await frontier.park([await take_one(frontier)])
    clock.now += DUE + LEASE
    assert await frontier.sweep() == 0
    await frontier.unpark(NEWS.ref)
    await frontier.send([encode_message(of(NEWS, 1)[0].to_message())])
    taken = await take(frontier, 2)
    await frontier.park([delivery for delivery in taken if delivery.message_id.startswith("m")])
    await frontier.delete([delivery for delivery in taken if not delivery.message_id.startswith("m")])
    clock.now += DUE + LEASE
    assert await frontier.sweep() == 0


async def test_a_dead_letter_of_a_crawl_comes_back(frontier: SqliteFrontier, clock: FakeClock, tmp_path: Path) -> None:
    await frontier.enqueue(of(NEWS, 1))
    for _ in range(MAX_RECEIVES):
        await take_one(frontier)
        clock.now += VISIBILITY + A_LITTLE
    assert await frontier.receive(1) == []
    assert sound(tmp_path)
    assert await frontier.redrive() == 1
    delivery = await take_one(frontier)
    assert message_of(delivery).crawl == NEWS.ref
    assert await finish_one(frontier, await win(frontier, delivery), delivery)
    assert (await frontier.counts(crawl="news")).by_status[Status.DONE] == 1
    assert sound(tmp_path)


@pytest.mark.parametrize("how", ["finish", "retry"])
async def test_a_claim_ends_though_its_url_was_put_aside_meanwhile(
    frontier: SqliteFrontier, clock: FakeClock, tmp_path: Path, how: str
) -> None:
    await frontier.enqueue(of(NEWS, 1))
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    await frontier.park([delivery])
    if how == "finish":
        assert await finish_one(frontier, claim, delivery)
        assert (await frontier.queue_stats()).is_empty
    else:
        assert await retry_one(frontier, claim, delivery, at=clock() + 5)
        assert (await frontier.queue_stats()).delayed == 1
    assert sound(tmp_path)


async def test_what_waits_of_a_crawl_that_rests_keeps_others_waiting_for_no_more_than_a_batch(
    frontier: SqliteFrontier, tmp_path: Path
) -> None:
    await frontier.enqueue([*of(NEWS, *range(500)), *of(SHOP, 1), *of(NEWS, 500)])
    await frontier.park(await take(frontier, 1))
    assert (await frontier.queue_stats()).delayed == 1, "its row says that it runs: a limit of its own may be reached"
    rests = msgspec.structs.replace(NEWS, version=1, state=State.PAUSED)
    assert await frontier.save_crawl(rests)
    await frontier.park(await take(frontier, 2))
    assert (await frontier.queue_stats()).delayed == 501
    assert [message_of(delivery).crawl for delivery in await frontier.receive(10)] == [SHOP.ref]
    assert sound(tmp_path)
    assert await frontier.unpark(NEWS.ref) == 501
    assert len(await take(frontier, 501)) == 501
    assert sound(tmp_path)


async def test_calling_back_what_is_not_aside_writes_nothing_whatever_others_have(
    frontier: SqliteFrontier, tmp_path: Path
) -> None:
    """A worker does so for each crawl as it starts: of a thousand, beside one with a hundred thousand put aside."""
    await frontier.enqueue(of(NEWS, *range(30)))
    await frontier.park(await take(frontier, 30))
    statements = commits(frontier)
    assert await frontier.unpark(SHOP.ref) == 0
    assert not [each for each in statements if "COMMIT" in each or "BEGIN" in each]
    assert await frontier.unpark(NEWS.ref) == 30
    assert sound(tmp_path)


async def test_nothing_that_is_put_aside_will_be_visible(frontier: SqliteFrontier) -> None:
    """So nobody waits for it, nor believes that something will come."""
    await frontier.enqueue(of(NEWS, 1))
    await frontier.send([encode_message(of(NEWS, 2)[0].to_message())])
    taken = await take(frontier, 2)
    assert await frontier._file.read(next_visible) is not None
    await frontier.park(taken)
    assert await frontier._file.read(next_visible) is None


async def test_what_is_put_aside_grows_old(frontier: SqliteFrontier, clock: FakeClock) -> None:
    await frontier.enqueue(of(NEWS, 1))
    await frontier.park([await take_one(frontier)])
    clock.now += 100
    assert (await frontier.queue_stats()).oldest_age_seconds == 100


# What takes long.


@pytest.mark.parametrize("operation", ["release", "sweep"])
async def test_what_is_brought_back_in_many_steps_is_visible_from_its_own_step(
    frontier: SqliteFrontier, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Who works for one crawl alone looks meanwhile, and not again at moments that have passed."""
    await frontier.enqueue(of(NEWS, 1, 2, 3))
    deliveries = await take(frontier, 3)
    if operation == "release":
        await frontier.defer([Deferral(delivery=each, until=clock() + 3600) for each in deliveries])
    else:
        await frontier.delete(deliveries)
        clock.now += VISIBILITY + DUE + 1
    module, called = (hosts, "host_of") if operation == "release" else (sweep, "key_or_none")
    work = getattr(module, called)

    def slowly(text: str) -> object:
        clock.now += 60
        return work(text)

    monkeypatch.setattr(module, "STEP", 1)
    monkeypatch.setattr(module, called, slowly)
    before = clock()
    assert await (frontier.release_host("example.com") if operation == "release" else frontier.sweep()) == 3
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        moments = [at for (at,) in connection.execute("SELECT visible_at FROM record ORDER BY visible_at")]
    assert moments[-1] >= before + 120
    assert len(set(moments)) == 3


# Cost and damage.


async def test_the_row_of_a_run_that_is_damaged_is_named(frontier: SqliteFrontier, tmp_path: Path) -> None:
    ask = Ask(run="r", most=Most(5), worker_id="one", wanted=1, until=0.0)
    for row in ("{}x", '{"spent":"1"}'):
        await frontier.share([replace(ask, run="other")])
        change(tmp_path, f"INSERT OR REPLACE INTO run (name, row) VALUES ('r', '{row}')")
        for operation in (frontier.share([ask]), frontier.runs(["r"])):
            with pytest.raises(FrontierUnavailableError, match="damaged"):
                await operation


async def test_a_parent_is_a_record_of_the_same_crawl(frontier: SqliteFrontier, tmp_path: Path) -> None:
    await frontier.enqueue([Entry(url=url("parent")), *of(SHOP, 1), *of(NEWS, "parent")])
    await frontier.enqueue(of(NEWS, 1))
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        parents = dict(connection.execute("SELECT url, parent FROM record").fetchall())
    assert parents[f"@shop {url(1)}"] == url("parent"), "it has no record there"
    assert parents[f"@news {url(1)}"] == 3


async def test_clearing_leaves_no_seeds(frontier: SqliteFrontier, tmp_path: Path) -> None:
    await frontier.add_seeds(NEWS.ref, {"example.com": ()})
    await frontier.clear_table()
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        assert connection.execute("SELECT count(*) FROM seed").fetchone() == (0,)


async def test_a_default_crawl_has_no_sums_of_its_own(frontier: SqliteFrontier, tmp_path: Path) -> None:
    await frontier.enqueue([*entries(3), Entry(url=url("c"), settings=CrawlSettings(max_depth=2))])
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection:
        assert connection.execute("SELECT name FROM counter").fetchall() == [("messages",), ("status:queued",)]


@pytest.mark.parametrize(
    "damage",
    ["'{'", "json_set(row, '$.state', 'asleep')", *(f"json_set(row, '$.{at}', 1)" for at in ("new", "settings.new"))],
)
async def test_a_row_of_a_crawl_that_cannot_be_read_says_so_and_is_not_written_over(
    frontier: SqliteFrontier, tmp_path: Path, damage: str
) -> None:
    """A field of a later version would be lost."""
    change(tmp_path, f"UPDATE crawl SET row = {damage} WHERE name = 'news'")
    news, shop = await frontier.crawls()
    assert (news.ref, news.unreadable[:7], shop.ref, shop.unreadable) == (NEWS.ref, "damaged", SHOP.ref, "")
    with pytest.raises(
        FrontierError, match=r"the row of the crawl news cannot be read: .*`sqspider crawls remove news`"
    ):
        await frontier.save_crawl(NEWS)
    assert await frontier.remove_crawl(NEWS.ref) == 0
    assert [crawl.name for crawl in await frontier.crawls()] == ["shop"]


async def test_a_row_that_is_another_crawls_is_not_taken_for_its_own(frontier: SqliteFrontier, tmp_path: Path) -> None:
    change(tmp_path, "UPDATE crawl SET row = (SELECT row FROM crawl WHERE name = 'shop') WHERE name = 'news'")
    change(tmp_path, "INSERT INTO crawl (settings, name, row) VALUES ('x', 'No name', '{')")
    news, shop = await frontier.crawls()
    assert (news.ref, shop.ref, shop.unreadable) == (NEWS.ref, SHOP.ref, "")
    assert news.unreadable == "damaged, or a later version's: it is that of shop.b2"


async def test_what_a_row_says_that_cannot_be_read_is_shown_and_not_obeyed(
    frontier: SqliteFrontier, tmp_path: Path
) -> None:
    change(
        tmp_path, """UPDATE crawl SET row = '{"name":"news","id":"a1","\\u001b[31m' || hex(zeroblob(999)) || '":1}'"""
    )
    words = (await frontier.crawls())[0].unreadable
    assert words.isprintable()
    assert len(words) < 250


async def test_a_damaged_name_of_a_crawl_hides_no_other_record(frontier: SqliteFrontier, tmp_path: Path) -> None:
    await frontier.enqueue([*of(NEWS, 1), *of(SHOP, 1)])
    change(tmp_path, "UPDATE crawl SET settings = 'news' WHERE name = 'news'")
    assert len(await all_records(frontier)) == 2
    with pytest.raises(FrontierUnavailableError, match="the settings are gone with which @news"):
        await frontier.receive(1)
