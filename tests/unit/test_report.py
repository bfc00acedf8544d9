"""How a frontier stands, as data: the names that programs read, and what a person is told of a host."""

from __future__ import annotations

import msgspec

from sqspider import report
from sqspider.crawl_row import Crawl, Identity
from sqspider.export import FIELDS
from sqspider.frontier import Entry, FrontierSettings, RobotsRow
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.host import HostRow, RobotsAccess
from sqspider.politeness.agent import place_of
from sqspider.record import Outcome, Reason, Status
from sqspider.work.fetchers import name_of
from tests.frontier.kit import finish_one, take_one, win

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
URL = "http://example.com/a"
STATE = (
    "frontier", "records", "reasons", "redirects", "bytes", "queue", "workers", "hosts_in_trouble", "bill",
    "unreadable_crawls",
)  # fmt: skip
QUEUE = ("visible", "in_flight", "delayed", "dead", "oldest_age_seconds")
IN_TROUBLE = (
    "host", "trouble", "trouble_at", "rest_until", "stage", "probes_failed", "trouble_since", "state",
)  # fmt: skip
HOST = (
    "host", "done", "failed", "blocked", "bytes", "delay_seconds", "crawl_delay_seconds", "penalty_seconds",
    "effective_delay_seconds", "next_slot", "rest_until", "failures", "stage", "probes_failed", "trouble_since",
    "trouble", "trouble_at", "is_in_trouble", "is_paused", "is_blocked",
)  # fmt: skip


async def frontier() -> MemoryFrontier:
    """One with a URL, and a host that is resting after it was asked in vain three times."""
    memory = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=lambda: NOW)
    await memory.enqueue([Entry(url=URL)])
    await memory.check_in("worker-A", session="s", ttl_seconds=60)
    [row] = (await memory.hosts(["example.com"])).values()
    ill = msgspec.structs.replace(
        row, trouble=Reason.TIMEOUT, rests=3, trouble_since=NOW - 90, penalty_since=NOW - 10, rest_until=NOW + 20
    )
    assert await memory.save_hosts([ill]) == [True]
    return memory


async def test_the_names_that_programs_read_do_not_change() -> None:
    memory = await frontier()
    state = (await report.state_of(memory)).as_json()
    assert tuple(state) == STATE
    assert tuple(state["queue"]) == QUEUE
    assert tuple(state["workers"][0]) == ("worker_id", "started_at", "seen_at")
    assert tuple(state["hosts_in_trouble"][0]) == IN_TROUBLE
    [host] = await report.hosts(memory)
    assert tuple(host.as_json()) == HOST
    found = await report.url_state(memory, URL)
    assert found is not None
    assert tuple(found.as_json()) == FIELDS


async def test_a_state_says_what_there_is() -> None:
    state = (await report.state_of(await frontier())).as_json()
    assert state["frontier"] == "memory"
    assert state["records"]["queued"] == state["queue"]["visible"] == 1
    assert state["workers"][0]["worker_id"] == "worker-A"
    [host] = state["hosts_in_trouble"]
    assert (host["host"], host["trouble"], host["stage"], host["probes_failed"]) == (
        "example.com",
        "timeout",
        "resting",
        3,
    )
    assert host["rest_until"] == "2027-01-15T08:00:20.000Z"
    assert host["state"] == (
        "resting until 2027-01-15T08:00:20.000Z (timeout: asked 3 times in vain since 2027-01-15T07:58:30.000Z)"
    )


async def test_what_a_urls_fetch_depends_on() -> None:
    memory = await frontier()
    assert await report.url_state(memory, "http://example.com/b") is None
    around = await report.surroundings(memory, URL)
    assert (around.host.row.rests, around.robots) == (3, None)
    row = RobotsRow(origin="http://example.com", access=RobotsAccess.OBEY, fetched_at=NOW)
    await memory.save_robots([row])
    assert (await report.surroundings(memory, URL)).robots == row


async def test_a_crawls_robots_txt_is_the_one_that_it_asked_for() -> None:
    memory = await frontier()
    crawl = Crawl(name="news", id="1", identity=Identity(user_agent="Newsbot/1.0"))
    assert await memory.save_crawl(crawl)
    row = RobotsRow(origin=place_of(URL, name_of(crawl.identity)), access=RobotsAccess.OBEY, fetched_at=NOW)
    await memory.save_robots([row])
    assert (await report.surroundings(memory, URL, crawl)).robots == row
    assert (await report.surroundings(memory, URL)).robots is None


def told(**fields: object) -> str:
    return report.HostReport(msgspec.convert({"host": "example.com", **fields}, HostRow), NOW).words


def test_what_a_person_is_told_of_a_host() -> None:
    assert told() == ""
    assert told(is_blocked=True, is_paused=True) == "blocked, paused"
    in_vain = {"trouble": "timeout", "rests": 2, "trouble_since": NOW - 90}
    asked = "(timeout: asked 2 times in vain since 2027-01-15T07:58:30.000Z)"
    assert told(**in_vain, rest_until=NOW + 60) == f"resting until 2027-01-15T08:01:00.000Z {asked}"
    assert told(**in_vain, rest_until=NOW - 1) == f"probing {asked}"
    asked_to_rest = {"trouble": "rate_limited", "penalty_since": NOW, "rest_until": NOW + 60}
    at = "rate_limited at 2027-01-15T08:00:00.000Z"
    assert told(**asked_to_rest) == f"resting until 2027-01-15T08:01:00.000Z ({at})"
    slowed = {"trouble": "rate_limited", "penalty_since": NOW, "penalty_seconds": 4, "failures": 1}
    assert told(**slowed) == f"slowed to 4 s, 1 failure in a row ({at})"
    assert told(trouble="rate_limited", penalty_since=NOW) == ""  # it is over
    assert told(crawl_delay_seconds=20) == ""
    assert told(crawl_delay_seconds=90) == (
        "Crawl-delay: 90 s asked for, 60 s kept, or as much as --max-crawl-delay says"
    )


async def test_a_chain_leads_on_within_its_crawl() -> None:
    """The same URL in another crawl is another record."""
    memory = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=lambda: NOW)
    crawl = Crawl(name="news", id="1")
    assert await memory.save_crawl(crawl)
    first, last = "http://e.com/old", "http://e.com/new"
    leads = Outcome(status=Status.DONE, http_status=301, redirect_to=last)
    for ref, outcome in ((crawl.ref, leads), (None, Outcome(status=Status.FAILED, reason=Reason.TIMEOUT))):
        await memory.enqueue([Entry(url=first if ref else last, crawl=ref)])
        delivery = await take_one(memory)
        assert await finish_one(memory, await win(memory, delivery), delivery, outcome)
    state = await report.url_state(memory, first, "news")
    assert state is not None
    assert state.chain is not None
    assert (state.chain.urls, state.chain.last) == ((first, last), None)  # there it is not recorded
    assert await report.url_state(memory, first) is None
