"""What this adapter keeps of records and hosts: redirects, claims that were not used, the table's generation, orders;
and what versions may expect of each other that share a table while a new one is rolled out."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
import pytest
from structlog.testing import capture_logs

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Delivery, Entered, Entrance, Entry, Exit, Finish, Frontier, LostReason, Retry, RobotsRow
from sqspider.frontier.aws import host_rows
from sqspider.frontier.aws.attributes import n, s
from sqspider.frontier.aws.client import Call
from sqspider.frontier.aws.host_rows import KEPT_WRITERS
from sqspider.frontier.aws.items import size_of
from sqspider.frontier.aws.nearing import may_be_nearer
from sqspider.frontier.aws.transport import DYNAMODB
from sqspider.host import HostRow, RobotsAccess, with_orders
from sqspider.host_trouble import TROUBLE_KEPT_SECONDS, Stage, after_trouble, stage_of
from sqspider.record import CapturePlace, Kept, Outcome, Reason, Skipped, Status
from tests.frontier.kit import (
    A_LITTLE,
    DONE,
    DUE,
    FORBIDDEN,
    LEASE,
    VISIBILITY,
    assert_counts_are_exact,
    assert_lost,
    entries,
    finish_one,
    message_of,
    record_of,
    take,
    take_one,
    try_claim,
    url,
    win,
)

from .store import AwsStore, client_for

HOST = "a.example"
MOVED = Outcome(status=Status.DONE, http_status=301, redirect_to=url("target"), bytes=3)


def entrance(store: AwsStore, token: str = "t") -> Entrance:
    until = store.clock() + 60
    return Entrance(host=HOST, token=token, delay_seconds=0.5, per_host=2, generation=None, until=until)


async def rewrite(
    store: AwsStore, key: str, names: Mapping[str, str] = MappingProxyType({}), **fields: dict[str, Any]
) -> None:
    """Write fields of an item as another version would; ``names``: what some are called."""
    client = client_for(store.environment)
    await client.call(
        DYNAMODB,
        "UpdateItem",
        {
            "TableName": store.environment["TABLE_NAME"],
            "Key": {"url": s(key)},
            "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in fields),
            "ExpressionAttributeNames": {f"#{name}": names.get(name, name) for name in fields},
            "ExpressionAttributeValues": {f":{name}": value for name, value in fields.items()},
        },
    )
    await client.close()


# Redirects.


async def test_redirects_on_the_way_are_recorded_and_swept_back(store: AwsStore) -> None:
    frontier = await store.open()
    await frontier.enqueue([Entry(url=url("a"), redirects=3), Entry(url=url("b"))])
    records = await frontier.get([url("a"), url("b")])
    assert {record.redirects for record in records.values()} == {3, 0}
    for _ in range(2):
        await frontier.delete([await take_one(frontier)])
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 2
    swept = [message_of(await take_one(frontier)) for _ in range(2)]
    assert {message.url: message.redirects for message in swept} == {url("a"): 3, url("b"): 0}


async def test_answers_that_lead_elsewhere_are_counted_apart(store: AwsStore) -> None:
    frontier = await store.open()
    await frontier.enqueue(entries(3))
    for outcome in (MOVED, DONE, msgspec.structs.replace(DONE, redirect_to=url("old"))):  # the last as before
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=delivery.message_id)
        assert await finish_one(frontier, claim, delivery, outcome)
    counts = await frontier.counts()
    assert (counts.redirects, counts.by_status[Status.DONE]) == (1, 3)
    assert await frontier.counts(exact=True) == counts


async def test_where_a_record_of_an_earlier_version_led_is_read(store: AwsStore) -> None:
    frontier = await store.open()
    await frontier.enqueue(entries(2))
    for i, final_url in enumerate((url("elsewhere"), url(1))):
        old = {"status": "done", "http_status": 200, "final_url": final_url, "title": '"final_url":'}
        await rewrite(store, url(i), status=s("done"), outcome=s(json.dumps(old)))
    outcomes = [(await record_of(frontier, url(i))).outcome for i in range(2)]
    assert [outcome and outcome.redirect_to for outcome in outcomes] == [url("elsewhere"), None]


# Claims that were not used.


async def test_a_claim_that_was_not_used_is_as_if_it_had_not_been_made(store: AwsStore) -> None:
    """Also for the sums: the record was queued, though there are claims that nobody ended."""
    frontier = await store.open()
    await frontier.enqueue([Entry(url=url("a"))])
    for lost in range(2):  # whoever held it is gone
        delivery = await take_one(frontier)
        assert (await win(frontier, delivery, claim=f"lost{lost}")).unended == lost + 1
        await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    for turn in range(2):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"unused{turn}")
        assert claim.unended == 3
        unused = Retry(claim=claim, delivery=delivery, at=store.clock(), tried=False, is_unused=True)
        assert await frontier.retry([unused]) == [True]
        assert (await record_of(frontier, url("a"))).unended == 2
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="used")
    assert claim.unended == 3
    await frontier.flush()
    sums = (await frontier._sums.read(["default"]))["default"]
    assert {name: number for name, number in sums.records.items() if number} == {Status.PROCESSING: 1}
    assert await finish_one(frontier, claim, delivery)
    await assert_counts_are_exact(frontier)


# The generation.


async def test_clearing_the_table_raises_its_generation_for_everybody(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    await frontier.enqueue(entries(3))
    for _ in range(2):
        await other.hosts([HOST])
        before = other.generation
        await frontier.clear_table()
        assert frontier.generation > before
        await other.hosts([HOST])
        assert other.generation == frontier.generation
    fresh = await store.open()
    await fresh.hosts([HOST])
    assert fresh.generation == frontier.generation


async def test_the_generation_costs_no_call(store: AwsStore) -> None:
    frontier = await store.open()
    calls: list[Call] = []
    frontier.client.observers.append(calls.append)
    await frontier.hosts([HOST, "b.example"])
    assert [call.action for call in calls] == ["BatchGetItem"]


async def test_a_clearing_that_dies_half_way_has_raised_the_generation(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    await frontier.enqueue(entries(3))
    await other.hosts([HOST])
    before = other.generation

    def die(call: Call) -> None:
        if call.action == "Scan":
            raise ZeroDivisionError

    frontier.client.observers.append(die)
    with pytest.raises(ZeroDivisionError):
        await frontier.clear_table()
    await other.hosts([HOST])
    assert other.generation > before


# Orders.


async def order(frontier: Frontier, **orders: bool) -> None:
    row = (await frontier.hosts([HOST]))[HOST]
    wanted = {"is_paused": None, "is_blocked": None, **orders}
    assert await frontier.save_hosts([with_orders(row, delay=None, **wanted)]) == [True]


async def test_once_an_order_is_given_nobody_enters_who_knew_the_host_before(store: AwsStore) -> None:
    operator = await store.open()
    workers = [await store.open() for _ in range(3)]
    for is_given in ({"is_blocked": True}, {"is_paused": True}):
        for number, worker in enumerate(workers):  # each keeps the row as it has written it
            await store.elapse(1)
            assert (await worker.enter([entrance(store, f"t{number}")]))[0].entered in (Entered.YES, Entered.BUSY)
        await order(operator, **is_given)
        for number, worker in enumerate(workers):
            await store.elapse(1)
            assert (await worker.enter([entrance(store, f"u{number}")]))[0].entered is Entered.STOPPED
        await order(operator, is_blocked=False, is_paused=False)
        await store.elapse(120)


async def test_a_host_that_is_forgotten_while_another_is_read_is_read_anew(
    store: AwsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where more hosts are asked for at a time than are kept in mind."""
    monkeypatch.setattr(host_rows, "CACHED_HOSTS", 1)
    frontier = await store.open()
    await frontier.hosts([HOST])
    stale = [HostRow(host=host, version=7) for host in (HOST, "b.example")]
    assert await frontier.save_hosts(stale) == [False, False]


# Words of other versions.


async def test_a_status_that_this_version_does_not_know_leaves_the_claim_to_the_lease(store: AwsStore) -> None:
    frontier = await store.open()
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    await rewrite(store, url("a"), status=s("a later word"))
    held = assert_lost(await try_claim(frontier, delivery, claim="c2"), LostReason.HELD)
    assert held.lease_until == claim.lease_until
    await store.elapse(LEASE + A_LITTLE)
    assert (await win(frontier, delivery, claim="c3")).attempt == 2


async def test_settings_that_cannot_be_read_keep_no_sweep_from_other_records(store: AwsStore) -> None:
    frontier = await store.open()
    await frontier.enqueue([Entry(url=url(name)) for name in ("a", "b")])
    for _ in range(2):
        await frontier.delete([await take_one(frontier)])
    await rewrite(store, url("a"), settings=s('{"scope": "a later word"}'))
    await store.elapse(DUE + A_LITTLE)
    with capture_logs() as logs:
        assert await frontier.sweep() == 1
    assert [log["url"] for log in logs if log["event"] == "record_unreadable"] == [url("a")]
    assert message_of(await take_one(frontier)).url == url("b")
    assert await frontier.sweep() == 0  # it is looked at again later, and not at once


async def test_a_robots_txt_that_cannot_be_read_is_asked_for_anew(store: AwsStore) -> None:
    frontier = await store.open()
    row = RobotsRow(origin="http://example.com", access=RobotsAccess.OBEY)
    await frontier.save_robots([row])
    later = msgspec.msgpack.encode(msgspec.to_builtins(row) | {"access": "a later word"})
    for packed in (zlib.compress(later), b"no row"):
        await rewrite(store, f"robots {row.origin}", row={"B": base64.b64encode(packed).decode()})
        assert await frontier.robots([row.origin]) == {}
        assert await frontier.lease_robots([row.origin], until=frontier.now() + 1) == [True]
        await frontier.save_robots([row])
    assert await frontier.robots([row.origin]) == {row.origin: row}


# Hosts in trouble.


async def test_a_host_that_was_given_up_is_listed_until_that_is_forgotten(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    row = (await frontier.hosts([HOST]))[HOST]
    while stage_of(row, store.clock()) is not Stage.GIVEN_UP:
        await store.elapse(max(0.0, row.rest_until - store.clock()) + 1)
        row = after_trouble(
            row,
            Reason.CONNECTION_REFUSED,
            slows=False,
            fails=True,
            retry_after=None,
            now=store.clock(),
            rests_at_once=True,
            has_answered=False,
        )
        assert await frontier.save_hosts([row]) == [True]
        row = (await frontier.hosts([HOST]))[HOST]
        assert await other.hosts_in_trouble() == [row]
    await store.elapse(TROUBLE_KEPT_SECONDS + 1)
    assert await other.hosts_in_trouble() == []


async def test_time_that_was_no_answer_time_of_a_host_leaves_its_latency(store: AwsStore) -> None:
    frontier = await store.open()
    for latency in (2.0, None):
        await frontier.leave([Exit(host=HOST, token="t", requested_at=store.clock(), latency_seconds=latency)])
        assert (await frontier.hosts([HOST]))[HOST].latency_seconds == 0.6


# Versions that share a table.


async def test_what_an_earlier_version_wrote_is_read_and_its_writes_are_heeded(store: AwsStore) -> None:
    """It knows no ``writers``, no marks and none of the newer fields."""
    frontier = await store.open()
    assert (await frontier.enter([entrance(store, "mine")]))[0].entered is Entered.YES
    row = {"host": HOST, "version": 4, "generation": 2, "done": 7, "last_request": store.clock()}
    state = {"row": row, "requests": {"theirs": store.clock() + 30}}
    await rewrite(store, f"host {HOST}", row=s(json.dumps(state)), stamp=s("old"))
    await frontier.enqueue([Entry(url=f"https://{HOST}/")])
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery)
    await store.elapse(1)
    assert (await frontier.enter([entrance(store, "again")]))[0].entered is Entered.YES
    found = (await frontier.hosts([HOST]))[HOST]
    assert (found.version, found.generation, found.done, found.answered) == (4, 2, 8, 1)


async def test_what_a_later_version_writes_kills_nobody(store: AwsStore) -> None:
    frontier = await store.open()
    await frontier.enqueue(entries(2))
    outcome = {"status": "failed", "reason": "struck_by_lightning", "novelty": [1]}
    await rewrite(store, url(0), outcome=s(json.dumps(outcome)), novelty=n(1))
    row = {"host": HOST, "version": 4, "trouble": "struck_by_lightning", "failures": 3, "novelty": {"a": 1}}
    later = {"row": row, "requests": {}, "novelty": 1}
    assert (await frontier.enter([entrance(store)]))[0].entered is Entered.YES
    await rewrite(store, f"host {HOST}", row=s(json.dumps(later)), stamp=s("later"), novelty=n(1))
    found = (await frontier.hosts([HOST]))[HOST]
    assert (found.version, found.failures, found.trouble) == (4, 3, None)
    assert [row.host for row in await frontier.scan_hosts()] == [HOST]
    records = await frontier.get([url(0), url(1)])
    assert "struck_by_lightning" in records[url(0)].unreadable
    assert records[url(1)].unreadable == ""
    for _ in range(2):  # it is worked on all the same
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=delivery.message_id)
        assert await finish_one(frontier, claim, delivery)
    assert (await record_of(frontier, url(0))).outcome == DONE


# What it costs.


async def test_sums_cost_a_write_and_nothing_more(store: AwsStore) -> None:
    frontier = await store.open()
    for round in range(3):
        await frontier.enqueue([Entry(url=url(round))])
        calls: list[Call] = []
        frontier.client.observers[1:] = [calls.append]
        await frontier.flush()
        await frontier.flush()
        assert [call.action for call in calls] == ["UpdateItem"]


async def test_sums_of_a_host_wait_for_a_write_to_ride_along_with(store: AwsStore) -> None:
    """They are written by themselves after a while; and with any other change."""
    frontier, looker = await store.open(), await store.open()
    await frontier.enqueue(entries(2, host=HOST))
    deliveries = await take(frontier, 2)

    async def finish(delivery: Delivery) -> None:
        claim = await win(frontier, delivery, claim=delivery.message_id)
        await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=DONE)])

    async def written() -> int:
        return (await looker.hosts([HOST]))[HOST].done

    await finish(deliveries[0])
    for past, number in ((host_rows.FLUSH_SECONDS - 1, 0), (1 + A_LITTLE, 1)):
        await store.elapse(past)
        await frontier.flush()
        assert await written() == number
    await finish(deliveries[1])
    await frontier.enter([entrance(store)])
    assert await written() == 2


async def test_a_host_that_many_share_stays_within_a_write_unit(store: AwsStore) -> None:
    """A unit pays for a kilobyte; what is written last is known all the same."""
    for number in range(KEPT_WRITERS + 4):
        frontier = await store.open()
        await frontier.leave([Exit(host=HOST, token="none", requested_at=store.clock(), latency_seconds=0.1234567)])
        wanted = msgspec.structs.replace(entrance(store, f"{number:012x}"), delay_seconds=0.0, per_host=4)
        await frontier.enter([wanted])
    client = client_for(store.environment)
    asked = {"TableName": store.environment["TABLE_NAME"], "Key": {"url": s(f"host {HOST}")}}
    item = (await client.call(DYNAMODB, "GetItem", asked)).body["Item"]
    await client.close()
    assert len(item["writers"]["S"].split()) == KEPT_WRITERS
    assert sum(len(name) + len(value.encode()) for name, typed in item.items() for value in typed.values()) < 1024


async def test_a_link_to_what_is_blocked_for_another_reason_writes_nothing(store: AwsStore) -> None:
    """In a crawl that keeps what it skips, where it might be blocked for lying outside of that."""
    frontier = await store.open()
    entry = Entry(url=url("a"), depth=1, parent=url("p"), settings=CrawlSettings(keep_skipped=True))
    await frontier.enqueue([entry])
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery, FORBIDDEN)
    await frontier.flush(all_hosts=True)
    calls: list[Call] = []
    frontier.client.observers.append(calls.append)
    assert await frontier.enqueue([entry]) == [False]
    assert calls
    assert not any("UPDATE" in str(call.request) for call in calls)


@pytest.mark.parametrize("more", [{"keep_skipped": True}, {"check_external": True}])
def test_a_link_to_what_was_open_when_it_was_read_may_find_it_ended_outside(more: dict[str, bool]) -> None:
    """A read that is behind is looked at again."""
    entry = Entry(url=url("a"), depth=1, parent=url("p"), settings=CrawlSettings(**more))  # type: ignore[arg-type]
    item = {"url": s(url("a")), "status": s(Status.PROCESSING), "depth": n(1)}
    assert may_be_nearer(item, entry)
    assert not may_be_nearer(item, msgspec.structs.replace(entry, is_skipped=True))
    assert not may_be_nearer(item, msgspec.structs.replace(entry, settings=CrawlSettings()))


PLACE: Final = CapturePlace(
    file="sqspider-20261130120000-00000-ip-10-0-1-23-1a2b3c4d.warc.gz", offset=123_456, length=12_345,
    digest="3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ", at=1_764_504_000.123456,
)  # fmt: skip


async def test_a_revisit_writes_no_more_than_a_visit(store: AwsStore) -> None:
    """As many statements, each of a record that is no larger than a write unit has room for: see docs/costs.md."""
    frontier, name = await store.open(), url("a" * 70)
    outcome = Outcome(
        status=Status.DONE, http_status=200, content_type="text/html", bytes=12_345, digest="sha256:" + "0" * 64,
        title="A title of a usual length", elapsed_ms=123, links_skipped={Skipped.OUT_OF_SCOPE: 12},
        capture=PLACE,
    )  # fmt: skip
    kept = Kept(etag='"5e9f-62a4"', last_modified="Mon, 30 Nov 2026 12:00:00 GMT", changes=3, changed_at=1.7e9)
    writes: list[str] = []

    def see(call: Call) -> None:
        if call.action == "BatchExecuteStatement":
            texts = [statement["Statement"] for statement in call.request["Statements"]]
            writes.extend(text.split()[0] for text in texts)
        assert call.action not in ("PutItem", "BatchWriteItem")

    async def visit(number: int) -> list[str]:
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        finish = Finish(claim=claim, delivery=delivery, outcome=outcome, kept=kept)
        assert await frontier.finish([finish]) == [True]
        made = list(writes)
        writes.clear()
        return made

    frontier.client.observers.append(see)
    await frontier.enqueue([Entry(url=name, depth=1, parent=url("p" * 70))])
    assert await visit(1) == ["INSERT", "UPDATE", "UPDATE"]
    item = (await frontier._table.read([name]))[name]
    assert size_of(item) <= 1024, "with the place of its capture"
    assert await frontier.reopen([name], if_changed=True) == [True]
    item = (await frontier._table.read([name]))[name]
    assert size_of(item) <= 1024, "also while it keeps what the last visit brought"
    assert await visit(2) == ["UPDATE", "UPDATE", "UPDATE"]
