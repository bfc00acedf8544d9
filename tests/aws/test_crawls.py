"""What this adapter keeps of crawls: where it may be behind, what dies half-way, what each thing costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

import msgspec
import pytest

from sqspider.crawl_row import UNKNOWN_ID, Crawl, CrawlRef, Limits, State
from sqspider.crawl_settings import CrawlSettings, decode_settings
from sqspider.frontier import Deferral, Entry, Finish, FrontierBusyError, FrontierError, Won
from sqspider.frontier.aws import AwsFrontier, backoff, counts
from sqspider.frontier.aws.aside import ASIDE_SECONDS
from sqspider.frontier.aws.attributes import s
from sqspider.frontier.aws.client import Call
from sqspider.frontier.aws.counts import QUIET_SECONDS
from sqspider.frontier.aws.crawl_rows import CRAWLS, MAX_ROW_BYTES
from sqspider.frontier.aws.items import PARKED_SHARDS
from sqspider.frontier.aws.runs import KEPT_MARKS
from sqspider.frontier.aws.sweep import RESUMED_SECONDS
from sqspider.frontier.shares import Ask, Most, Portion, Spend, Spent
from sqspider.message import encode_message
from sqspider.record import Status
from tests.frontier.kit import (
    A_LITTLE,
    DONE,
    DUE,
    GONE,
    VISIBILITY,
    assert_counts_are_exact,
    finish_one,
    made,
    message_of,
    of,
    record_of,
    retry_one,
    take,
    take_one,
    try_claim,
    url,
    win,
)
from tests.simulation.fake_aws import Weather
from tests.simulation.fake_store import FakeAwsStore

from . import faults
from .faults import FaultProxy
from .store import AwsStore
from .test_faults import everything
from .test_records import rewrite

NEWS: Final = Crawl(name="news", id="a1")
SHOP: Final = Crawl(name="shop", id="b2")
DEFAULT: Final = Crawl(name="default", id="c3")
NEVER: Final = 30 * 86_400.0

replace = msgspec.structs.replace


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "LONGEST_PAUSE_SECONDS", 0.1)


async def change(frontier: AwsFrontier, name: str, **fields: Any) -> Crawl:
    """Change a crawl's row; as it is then."""
    row = next(row for row in await frontier.crawls() if row.name == name)
    assert await frontier.save_crawl(replace(row, **fields))
    return next(row for row in await frontier.crawls() if row.name == name)


def calls_of(frontier: AwsFrontier) -> list[Call]:
    """The calls that it makes from now on."""
    calls: list[Call] = []
    frontier.client.observers[1:] = [calls.append]
    return calls


def lost_once(action: str, key: str) -> tuple[faults.Fault, list[faults.Document]]:
    """A fault that makes the first such write of an item, and loses its answer; and what was lost."""
    lost: list[faults.Document] = []

    async def lose(_: FaultProxy, asked: str, document: faults.Document, forward: faults.Forward) -> faults.Answer:
        answer = await forward(document)
        if asked != action or lost or document.get("Key") != {"url": s(key)}:
            return answer
        lost.append(document)
        return faults.Answer(0, {})

    return lose, lost


# Rows.


async def test_asking_for_all_rows_is_one_read(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, NEWS, SHOP, DEFAULT)
    calls = calls_of(frontier)
    assert [row.name for row in await frontier.crawls()] == ["default", "news", "shop"]
    assert [call.action for call in calls] == ["BatchGetItem"]


async def test_a_row_whose_answer_was_lost_was_written(store: AwsStore, proxy: FaultProxy) -> None:
    frontier = await store.open_in(proxy.environment)
    for version in range(2):
        proxy.fault, lost = lost_once("UpdateItem", CRAWLS)
        assert await frontier.save_crawl(replace(NEWS, version=version, state=State.PAUSED))
        assert len(lost) == 1
        assert await frontier.crawls() == [replace(NEWS, version=version + 1, state=State.PAUSED)]


@pytest.mark.parametrize(
    "damaged",
    [
        "x",
        'x 1.0 {"name":"news","id":"a1","version":1,"state":"asleep"}',
        "x y {}",
        'x 1.0 {"name":"news","id":"a1","version":1,"settings":{"new":1}}',
        'x 1.0 {"name":"shop","id":"a1"}',
        f'x 1.0 {{"name":"news","id":"{"a" * 33}"}}',
    ],
)
async def test_a_row_that_cannot_be_read_is_never_taken_for_none(store: AwsStore, damaged: str) -> None:
    """Or whoever works would end all messages of its crawl."""
    frontier = await store.open()
    await made(frontier, NEWS, SHOP)
    await rewrite(store, CRAWLS, news=s(damaged), names={"news": "@news"})
    news, shop = await frontier.crawls()
    assert (news.name, news.unreadable[:7], shop.ref, shop.unreadable) == ("news", "damaged", SHOP.ref, "")
    assert news.id in (NEWS.id, UNKNOWN_ID)
    with pytest.raises(FrontierError, match="row of the crawl news cannot be read"):
        await frontier.save_crawl(NEWS)
    await frontier.remove_crawl(news.ref)
    assert [crawl.name for crawl in await frontier.crawls()] == ["shop"]


async def test_what_no_crawl_can_be_named_hides_no_crawl(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, SHOP)
    await rewrite(store, CRAWLS, one=s("removing"), two={"N": "1"}, three={"N": "1"},
                  names={"one": "@No name", "two": "@Neither", "three": "@news"})  # fmt: skip
    assert [(crawl.name, bool(crawl.unreadable)) for crawl in await frontier.crawls()] == [
        ("news", True),
        ("shop", False),
    ]
    assert await frontier.removals() == []


async def test_a_row_that_is_too_long_is_refused_in_words(store: AwsStore) -> None:
    frontier = await store.open()
    long = replace(NEWS, settings=CrawlSettings(include=tuple(f"{i:0>1000}" for i in range(MAX_ROW_BYTES // 1000))))
    with pytest.raises(FrontierError, match="row of the crawl news is longer than 32,000 bytes"):
        await frontier.save_crawl(long)
    assert await frontier.crawls() == []


# Records.


async def test_a_record_of_a_crawl_names_it_and_holds_no_settings(store: AwsStore) -> None:
    frontier = await store.open()
    settings = CrawlSettings(max_depth=5, delay_seconds=3.0)
    await frontier.enqueue([Entry(url=url("p"), crawl=NEWS.ref, settings=settings)])
    await frontier.enqueue([Entry(url=url("q"), crawl=DEFAULT.ref, settings=settings)])
    found = await frontier._table.read([f"@news {url('p')}", url("q")])
    assert {item["crawl"]["S"] for item in found.values()} == {"news.a1", "default.c3"}
    for item in found.values():
        assert "max_depth" not in str(item)


async def test_a_worker_of_the_first_version_makes_no_message_of_a_crawl_s_record(store: AwsStore) -> None:
    """It made one by the settings in the record, and took no notice of ``crawl``; what it cannot read it leaves."""
    frontier = await store.open()
    await frontier.enqueue(of(DEFAULT, "p"))
    item = (await frontier._table.read([url("p")]))[url("p")]
    with pytest.raises(msgspec.MsgspecError):
        decode_settings(item["settings"]["S"])


async def test_messages_and_records_of_the_first_version_go_on_beside_those_of_crawls(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, NEWS)
    settings = CrawlSettings(max_depth=2)
    first = Entry(url=url("p"), depth=1, settings=settings)
    await frontier.enqueue([first, *of(NEWS, "p")])
    await frontier.send([url("plain"), encode_message(Entry(url=url("sent"), settings=settings).to_message())])
    taken = {message_of(it).key: it for it in await take(frontier, 4)}
    assert message_of(taken[url("p")]) == first.to_message()
    assert message_of(taken[url("sent")]).settings == settings
    for delivery in taken.values():
        assert await finish_one(frontier, await win(frontier, delivery), delivery)
    await assert_counts_are_exact(frontier)
    assert (await frontier.counts(crawl="default")).by_status[Status.DONE] == 3
    assert (await frontier.counts(crawl="news")).by_status[Status.DONE] == 1


# Sums.


async def test_a_crawl_costs_no_write_more_than_loose_urls() -> None:
    """Counted as AWS does: the records are small enough for one unit each."""
    actions: dict[str, list[str]] = {}
    for name, crawl in (("loose", None), ("news", NEWS.ref)):
        store = FakeAwsStore()
        frontier = await store.open()
        await made(frontier, NEWS)
        calls = calls_of(frontier)
        await frontier.enqueue([Entry(url=url(i), crawl=crawl) for i in range(20)])
        for round in range(2):
            for delivery in await take(frontier, 10):
                claim = await win(frontier, delivery, claim=f"c{round}")
                assert await finish_one(frontier, claim, delivery)
        await frontier.flush()
        actions[name] = [call.action for call in calls]
        await store.close()
    assert actions["news"] == actions["loose"]


async def test_what_was_asked_of_aws_is_billed_whichever_crawl_it_was_for(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, *range(5)))
    bill = await frontier.bill()
    assert bill.calls > 0
    await frontier.remove_crawl(NEWS.ref)
    assert (await frontier.bill()).calls > bill.calls


async def test_an_exact_count_mends_the_sums_of_each_crawl(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([*of(NEWS, *range(3)), *of(SHOP, *range(2)), Entry(url=url("p"))])
    await frontier.flush()
    frontier._sums.add(f"@news {url(0)}", {Status.DONE.value: 7})
    frontier._sums.add(url("p"), {Status.FAILED.value: 2})
    await frontier.flush()
    await store.elapse(QUIET_SECONDS + 1)
    assert (await frontier.counts(exact=True, crawl="news")).total == 3
    assert (await frontier.counts(crawl="news")).by_status[Status.DONE] == 0
    for name in (None, "default", "news", "shop"):
        await assert_counts_are_exact(frontier, crawl=name)


async def test_the_last_open_urls_of_a_crawl_are_counted_among_many_of_others(
    store: AwsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its sums say: that none is open is never a guess."""
    monkeypatch.setattr(counts, "EXACT_OPEN", 5)
    frontier = await store.open()
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([*of(NEWS, *range(40)), *of(SHOP, *range(3))])
    await frontier.flush()
    frontier._sums.add(f"@shop {url(0)}", {Status.QUEUED.value: -3})
    assert (await frontier.counts(crawl="shop")).open == 3
    for delivery in await take(frontier, 43):
        if message_of(delivery).crawl == SHOP.ref:
            claim = await win(frontier, delivery, claim=delivery.message_id)
            assert await finish_one(frontier, claim, delivery)
    frontier._sums.add(f"@shop {url(0)}", {Status.QUEUED.value: 4})
    assert (await frontier.counts(crawl="shop")).open == 0
    assert (await frontier.counts(crawl="news")).open == 40


async def test_who_asks_all_the_time_reads_no_index_of_others(store: AwsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As workers do of a crawl with a limit, or with a delay: the sums alone are read, however many others have."""
    monkeypatch.setattr(counts, "EXACT_OPEN", 5)
    frontier = await store.open()
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([*of(NEWS, *range(40)), *of(SHOP, *range(3))])
    await frontier.flush()
    calls = calls_of(frontier)
    assert (await frontier.counts(crawl="shop", roughly=True)).open == 3
    assert [call.action for call in calls] == ["BatchGetItem"]


async def test_a_crawl_that_only_gets_seeds_is_not_looked_through_by_sweeps(store: AwsStore) -> None:
    """Each raises its row; but nothing of it was ever put aside."""
    frontier = await store.open()
    await made(frontier, NEWS)
    row = (await frontier.crawls())[0]
    assert await frontier.save_crawl(replace(row, seeds_version=1))
    calls = calls_of(frontier)
    await frontier.sweep()
    before = [call.action for call in calls].count("Query")
    row = (await frontier.crawls())[0]
    assert await frontier.save_crawl(replace(row, limits=Limits(pages=9)))
    calls.clear()
    await frontier.sweep()
    assert [call.action for call in calls].count("Query") == before + len(PARKED_SHARDS)


# Seeds.


async def test_many_seeds_are_noted_and_read_in_few_calls(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, NEWS)
    sites = {f"host{i}.example": [f"https://host{i}.example/a/"] if i % 2 else [] for i in range(60)}
    calls = calls_of(frontier)
    assert await frontier.add_seeds(NEWS.ref, sites)
    assert [call.action for call in calls] == ["BatchGetItem"] + 3 * ["BatchExecuteStatement"]
    calls.clear()
    assert not await frontier.add_seeds(NEWS.ref, sites)
    assert await frontier.seeds(NEWS.ref, sites) == {site: frozenset(folders) for site, folders in sites.items()}
    assert [call.action for call in calls] == 2 * ["BatchGetItem"]


async def test_seeds_that_several_note_at_once_are_all_there(store: AwsStore) -> None:
    handles = [await store.open() for _ in range(4)]
    folders = [f"https://a.example/{i}/" for i in range(12)]
    await asyncio.gather(
        *(handle.add_seeds(NEWS.ref, {"a.example": folders[i::4]}) for i, handle in enumerate(handles))
    )
    assert await handles[0].seeds(NEWS.ref, ["a.example"]) == {"a.example": frozenset(folders)}


async def test_more_folders_than_an_item_holds_are_refused_in_words(store: AwsStore) -> None:
    frontier = await store.open()
    folders = [f"https://a.example/{i:0>1900}/" for i in range(80)]
    assert await frontier.add_seeds(NEWS.ref, {"a.example": folders})
    with pytest.raises(FrontierError, match=r"more folders of a\.example than .*--scope host"):
        await frontier.add_seeds(NEWS.ref, {"a.example": [f"{folder}x/" for folder in folders]})
    assert len((await frontier.seeds(NEWS.ref, ["a.example"]))["a.example"]) == 80


# What is put aside.


async def test_what_waits_for_a_moment_of_its_own_is_not_called_back_with_its_crawl(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "aside", "off", "tried"))
    taken = {message_of(it).url: it for it in await take(frontier, 3)}
    later = store.clock() + 7200
    await frontier.park([taken[url("aside")]])
    await frontier.defer([Deferral(delivery=taken[url("off")], until=later)])
    tried = taken[url("tried")]
    assert await retry_one(frontier, await win(frontier, tried), tried, at=later)
    assert await frontier.unpark(NEWS.ref) == 1
    assert [message_of(await take_one(frontier)).url] == [url("aside")]
    assert await frontier.receive(10) == []


async def test_of_the_default_crawl_s_place_only_the_crawl_s_own_is_called_back(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, DEFAULT)
    old = Crawl(name="default", id="0")  # was removed, and its record left behind
    await frontier.enqueue([*of(DEFAULT, "p"), Entry(url=url("loose")), *of(old, "q")])
    await frontier.park(await take(frontier, 3))
    assert await frontier.unpark(NEWS.ref) == 0
    assert await frontier.unpark(DEFAULT.ref) == 1
    delivery = await take_one(frontier)
    assert message_of(delivery).crawl == DEFAULT.ref
    await frontier.delete([delivery])
    await store.elapse(VISIBILITY + A_LITTLE)
    assert message_of(await take_one(frontier)).url == url("loose")  # was not put aside: it always runs


async def test_what_is_put_aside_is_asked_about_once_a_day(store: AwsStore) -> None:
    """So that nothing is kept aside for ever of which nobody knows."""
    frontier = await store.open()
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "p"))
    await frontier.park([await take_one(frontier)])
    await store.elapse(ASIDE_SECONDS - 120)
    assert await frontier.sweep() == 0
    await store.elapse(120)
    assert await frontier.sweep() == 1
    await frontier.park([await take_one(frontier)])
    assert await frontier.unpark(NEWS.ref) == 1


async def test_a_removal_waits_until_all_know_of_it(store: AwsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker records till then would be taken for known by the next crawl of the name."""
    frontier, late = await store.open(), await store.open()
    await made(frontier, NEWS)

    async def work_meanwhile(_: float) -> None:
        assert not await late.crawls()
        await late.enqueue(of(NEWS, "late"))
        assert await finish_one(late, await win(late, delivery := await take_one(late)), delivery)

    monkeypatch.setattr("sqspider.frontier.aws.crawls.sleep", work_meanwhile)
    assert await frontier.remove_crawl(NEWS.ref) == 1
    assert [record async for batch in frontier.scan() for record in batch] == []


async def test_a_sweep_removes_what_was_recorded_after_a_removal_and_leaves_what_may_be_somebody_s(
    store: AwsStore,
) -> None:
    """By a worker that held a page of it for long: nobody works on it, and all would wait for it for ever."""
    frontier, late = await store.open(), await store.open()
    await made(frontier, NEWS, SHOP)
    await frontier.remove_crawl(NEWS.ref)
    await late.enqueue([*of(NEWS, "late"), *of(SHOP, "p"), Entry(url=url("loose"))])
    for delivery in await take(late, 3):
        await late.delete([delivery])  # as whoever works does with those of a crawl that is gone
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 2
    assert {message_of(each).key for each in await take(frontier, 2)} == {"@shop " + url("p"), url("loose")}
    records = [record.key async for batch in frontier.scan() for record in batch]
    assert sorted(records) == sorted(["@shop " + url("p"), url("loose")])


@pytest.mark.parametrize("row", ["removing b2", 'x 1.0 {"name":"shop"', 'x 1.0 {"name":"shop","id":"b2","new":1}'])
async def test_a_sweep_leaves_records_of_a_crawl_whose_row_cannot_be_read_or_whose_removal_goes_on(
    store: AwsStore, row: str
) -> None:
    frontier = await store.open()
    await made(frontier, SHOP)
    await frontier.enqueue(of(SHOP, "p"))
    await frontier.delete([await take_one(frontier)])
    await rewrite(store, CRAWLS, shop=s(row), names={"shop": "@shop"})
    await store.elapse(DUE + A_LITTLE)
    await frontier.sweep()
    assert await frontier.get(["@shop " + url("p")])


async def test_what_was_put_aside_too_late_comes_back_with_the_next_sweep(store: AwsStore) -> None:
    """By a worker that did not know yet that the crawl runs again."""
    frontier, late = await store.open(), await store.open()
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([*of(NEWS, "p"), *of(SHOP, "p")])
    taken = await take(late, 2)
    await change(frontier, "news", state=State.PAUSED)
    await change(frontier, "shop", state=State.PAUSED)
    await change(frontier, "news", state=State.RUNNING)
    assert await frontier.unpark(NEWS.ref) == 0
    await late.park(taken)
    assert await frontier.sweep() == 1
    assert message_of(await take_one(frontier)).crawl == NEWS.ref
    await store.elapse(RESUMED_SECONDS + 1)
    await late.park([await take_one(frontier)])
    assert await frontier.sweep() == 0  # it is no news any more: such a look reads all that is parked


async def test_what_the_index_did_not_know_yet_comes_back_with_the_next_sweep() -> None:
    store = FakeAwsStore(weather=Weather(index_lag=1.0))
    frontier = await store.open()
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "p"))
    await change(frontier, "news", state=State.PAUSED)
    await frontier.park([await take_one(frontier)])
    await change(frontier, "news", state=State.RUNNING)
    assert await frontier.unpark(NEWS.ref) == 0
    await store.elapse(2.0)
    assert await frontier.sweep() == 1
    await store.close()


async def test_of_what_is_being_worked_on_no_message_is_kept_aside(store: AwsStore) -> None:
    """It waits in the queue for as long as SQS lets it: the claim may end without a message of its own."""
    frontier = await store.open()
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "p"))
    await frontier.send([encode_message(of(NEWS, "p")[0].to_message())])
    one, two = await take(frontier, 2)
    claim = await win(frontier, one)
    await frontier.park([two])
    assert (await frontier.queue_stats()).delayed == 1
    assert await finish_one(frontier, claim, one)
    assert (await record_of(frontier, f"@news {url('p')}")).status is Status.DONE


# The end of a crawl.


async def test_a_removal_that_died_half_way_goes_on(store: AwsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    frontier, other = await store.open(), await store.open()
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([*of(NEWS, *range(30)), *of(SHOP, *range(3))])
    delete = frontier._table.delete_items
    deleted = 0

    async def die(keys: list[str]) -> None:
        nonlocal deleted
        if deleted:
            raise ConnectionError
        deleted += len(keys)
        await delete(keys)

    monkeypatch.setattr(frontier._table, "delete_items", die)
    with pytest.raises(ConnectionError):
        await frontier.remove_crawl(NEWS.ref)
    assert [row.name for row in await other.crawls()] == ["shop"]
    assert await other.removals() == [NEWS.ref]
    assert not await other.save_crawl(replace(NEWS, id="e5"))  # what is left would be taken for its own
    assert await other.remove_crawl(CrawlRef("news", "0")) == 0
    assert await other.remove_crawl(NEWS.ref) == 30 - deleted
    assert await other.removals() == []
    assert await other.remove_crawl(NEWS.ref) == 0
    await made(other, replace(NEWS, id="e5"))
    await assert_counts_are_exact(other, frontier)


async def test_a_removal_finds_what_was_recorded_meanwhile(store: AwsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a worker whose copy of the rows is seconds old."""
    frontier, late = await store.open(), await store.open()
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, *range(3)))
    walk = frontier._table.walk
    is_late = True

    def walk_late(shard: str) -> Any:
        return walk(shard)

    async def scan_and_record(**parameters: Any) -> Any:
        nonlocal is_late
        async for found in scan(**parameters):
            yield found
        if is_late:
            is_late = False
            await late.enqueue(of(NEWS, "late"))

    scan = frontier._table.scan
    monkeypatch.setattr(frontier._table, "scan", scan_and_record)
    monkeypatch.setattr(frontier._table, "walk", walk_late)
    assert await frontier.remove_crawl(NEWS.ref) >= 3
    assert [record async for records in late.scan() for record in records] == []


async def test_removing_the_default_crawl_leaves_loose_records_and_their_sums(store: AwsStore) -> None:
    frontier = await store.open()
    await made(frontier, DEFAULT)
    await frontier.enqueue([*of(DEFAULT, *range(4)), Entry(url=url("loose")), Entry(url=url("open"))])
    for delivery in await take(frontier, 6):
        if message_of(delivery).url not in (url(3), url("open")):
            claim = await win(frontier, delivery, claim=delivery.message_id)
            assert await finish_one(frontier, claim, delivery, GONE)
    assert await frontier.remove_crawl(DEFAULT.ref) == 4
    await assert_counts_are_exact(frontier)
    sums = (await frontier._sums.read(["default"]))["default"].records
    assert {name: number for name, number in sums.items() if number} == {
        "queued": 1,
        "failed": 1,
        "reason:client_error": 1,
        "bytes": GONE.bytes,
    }


# Shares.


def ask(store: AwsStore, worker: str = "one", *, most: int = 10, wanted: int = 4) -> Ask:
    return Ask(run="r", most=Most(most), worker_id=worker, wanted=wanted, until=store.clock() + 600)


async def test_what_was_spent_is_counted_once_though_its_answer_was_lost(store: AwsStore, proxy: FaultProxy) -> None:
    frontier, other = await store.open_in(proxy.environment), await store.open()
    await frontier.share([ask(store)])
    await frontier.enqueue([Entry(url=url("p"))])
    claim = await win(frontier, delivery := await take_one(frontier))
    lost: list[str] = []

    async def lose_to_another(
        _: FaultProxy, action: str, document: faults.Document, forward: faults.Forward
    ) -> faults.Answer:
        answer = await forward(document)
        if lost or action != "BatchExecuteStatement" or '"marks"' not in document["Statements"][0]["Statement"]:
            return answer
        lost.append(action)  # and somebody else writes before it is tried again
        assert (await other.share([ask(store, "two", wanted=1)]))[0].pages == 1
        return faults.Answer(0, {})

    proxy.fault = lose_to_another
    end = Finish(claim=claim, delivery=delivery, outcome=DONE, spends=(Spend("r", 1),))
    assert await frontier.finish([end]) == [True]
    assert lost
    row = (await other.runs(["r"]))["r"]
    assert (row.all_spent, {name: share.pages for name, share in row.shares.items()}) == (
        Spent(1, DONE.bytes),
        {"one": 3, "two": 1},
    )


async def test_what_aws_was_too_busy_to_count_is_counted_with_the_next(
    store: AwsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontier = await store.open()
    await frontier.share([ask(store)])
    await frontier.enqueue([Entry(url=url(name)) for name in "pq"])
    deliveries = await take(frontier, 2)
    claims = [await win(frontier, each, claim=each.message_id) for each in deliveries]
    ends = [
        Finish(claim=claim, delivery=each, outcome=DONE, spends=(Spend("r", 1),))
        for claim, each in zip(claims, deliveries, strict=True)
    ]

    async def busy(*_: object) -> None:
        raise FrontierBusyError("throttled")

    with monkeypatch.context() as patched:
        patched.setattr(frontier, "_change_runs", busy)
        assert await frontier.finish(ends[:1]) == [True]
    assert (await frontier.runs(["r"]))["r"].all_spent == Spent()
    assert await frontier.finish(ends[1:]) == [True]
    assert (await frontier.runs(["r"]))["r"].all_spent.pages == 2


async def test_what_aws_was_too_busy_to_count_is_not_shared_out_once_more(
    store: AwsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontier = await store.open()
    await frontier.share([ask(store, most=1, wanted=1)])
    await frontier.enqueue([Entry(url=url("p"))])
    delivery = await take_one(frontier)
    end = Finish(claim=await win(frontier, delivery), delivery=delivery, outcome=DONE, spends=(Spend("r", 1),))

    async def busy(*_: object) -> None:
        raise FrontierBusyError("throttled")

    with monkeypatch.context() as patched:
        patched.setattr(frontier, "_change_runs", busy)
        assert await frontier.finish([end]) == [True]
        with pytest.raises(FrontierBusyError):
            await frontier.share([ask(store, most=1, wanted=1)])
    assert await frontier.share([ask(store, most=1, wanted=1)]) == [Portion(0, Spent(1, DONE.bytes), 0)]


async def test_the_row_of_a_run_that_is_damaged_is_named(store: AwsStore) -> None:
    frontier = await store.open()
    await frontier.share([ask(store)])
    broken = {"UpdateExpression": "SET #row = :row", "ExpressionAttributeNames": {"#row": "row"}}
    await frontier._table.update("share r", {**broken, "ExpressionAttributeValues": {":row": s("{}x")}})
    for operation in (frontier.share([ask(store)]), frontier.runs(["r"])):
        with pytest.raises(FrontierError, match="the item share r is damaged"):
            await operation


async def test_a_run_shared_by_many_at_once_is_never_more_than_its_most(store: AwsStore) -> None:
    handles = [await store.open() for _ in range(4)]
    left: Counter[int] = Counter()

    async def take_some(worker: int) -> None:
        for wanted in range(1, 9):
            (portion,) = await handles[worker].share([ask(store, f"w{worker}", most=20, wanted=wanted)])
            left[worker] = portion.pages

    await asyncio.gather(*map(take_some, range(len(handles))))
    assert left.total() == 20
    item = (await handles[0]._table.read(["share r"]))["share r"]
    assert len(item["marks"]["S"].split()) == KEPT_MARKS


# Whatever AWS does.


@pytest.mark.parametrize("name", ["throttle", "fail", "lose_answer", "fail_parts"])
async def test_whatever_becomes_of_the_answers_all_is_done_once(store: AwsStore, proxy: FaultProxy, name: str) -> None:
    frontier, other = await store.open_in(proxy.environment), await store.open()
    proxy.fault, proxy.chance = faults.ALL[name], 0.4
    for version in range(6):
        assert await frontier.save_crawl(replace(NEWS, version=version, created_at=float(version)))
    for wanted in range(1, 12):
        (portion,) = await frontier.share([ask(store, wanted=wanted)])
        assert portion == Portion(min(wanted, 10), Spent(), 0)
    sites = {f"host{i}.example": [f"https://host{i}.example/a/"] for i in range(30)}
    assert await frontier.add_seeds(NEWS.ref, sites)
    await frontier.enqueue(of(NEWS, *range(12)))
    await frontier.park(await everything(other))  # some came twice
    assert await frontier.unpark(NEWS.ref) == 12
    finished = []
    for delivery in await everything(other):
        claim = await try_claim(frontier, delivery, claim=delivery.message_id)
        if isinstance(claim, Won):
            assert await finish_one(frontier, claim, delivery)
            finished.append(claim.url)
    assert sorted(finished) == sorted(entry.key for entry in of(NEWS, *range(12)))
    await frontier.flush()
    proxy.fault = None
    assert await other.crawls() == [replace(NEWS, version=6, created_at=5.0)]
    assert await other.seeds(NEWS.ref, sites) == {site: frozenset(folders) for site, folders in sites.items()}
    await assert_counts_are_exact(other, frontier, crawl="news")
    proxy.fault = faults.ALL[name]
    assert await frontier.remove_crawl(NEWS.ref) == 12
    proxy.fault = None
    assert [record async for records in other.scan() for record in records] == []
    assert await other.crawls() == []
    await made(other, replace(NEWS, id="e5"))
